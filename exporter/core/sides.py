"""Which end of a migration prints which event."""

from __future__ import annotations

from typing import Final

from exporter.core import states
from exporter.core.events import Event, LowPending, Mark, Marked, Pending, StateSet, Transferred
from exporter.core.model import Side

#: A snapshot (`savevm`) prints none of these, though it writes the same header, sections and devices.
_SOURCE_MARKS: Final = frozenset(
    {Mark.OUTGOING, Mark.SETUP_COMPLETE, Mark.DOWNTIME_START, Mark.VM_STOPPED, Mark.DOWNTIME_END, Mark.POSTCOPY_START,
     Mark.POSTCOPY_SET_RUN, Mark.POSTCOPY_REQUEST, Mark.THROTTLE, Mark.FILE_ERROR, Mark.AFTER_LOOP}
)  # fmt: skip
_SOURCE_EVENTS: Final = (Pending, Transferred, LowPending)
_DESTINATION_MARKS: Final = frozenset({Mark.INCOMING, Mark.DESTINATION})


def side_of(event: Event, state: str | None) -> Side | None:
    """Say which end prints this event after `state`, None for what both do."""
    match event:
        case Marked(mark=mark):
            # A header after a state is no snapshot's, and a destination writes none.
            if mark in _SOURCE_MARKS or (mark is Mark.HEADER and state is not None):
                return Side.SOURCE
            return Side.DESTINATION if mark in _DESTINATION_MARKS else None
        case StateSet(state=new_state):
            return Side.SOURCE if new_state in states.SOURCE_ONLY else None
        case _:
            return Side.SOURCE if isinstance(event, _SOURCE_EVENTS) else None
