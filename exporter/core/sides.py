"""Which end of a migration prints which event."""

from __future__ import annotations

from typing import Final

from exporter.core import states
from exporter.core.events import Event, LowPending, Mark, Marked, Pending, PostcopyRequests, StateSet, Transferred
from exporter.core.model import Side

#: A snapshot (`savevm`) prints none of these, though it writes the same header, sections and devices, and goes from
#: state `setup` to `completed`: qemu_savevm_state(), migration/savevm.c.
_SOURCE_MARKS: Final = frozenset(
    {Mark.OUTGOING, Mark.SETUP_COMPLETE, Mark.DOWNTIME_START, Mark.VM_STOPPED, Mark.ITERABLE_SAVED, Mark.DOWNTIME_END,
     Mark.POSTCOPY_START, Mark.POSTCOPY_SET_RUN, Mark.POSTCOPY_REQUEST, Mark.THROTTLE, Mark.FAILING,
     Mark.POSTCOPY_RESUMED, Mark.AFTER_LOOP}
)  # fmt: skip
_SOURCE_EVENTS: Final = (Pending, Transferred, LowPending, PostcopyRequests)
_DESTINATION_MARKS: Final = frozenset({Mark.INCOMING, Mark.DESTINATION})


def side_of(event: Event) -> Side | None:
    """Say which end prints this event, None for what both do, and a snapshot."""
    match event:
        case Marked(mark=mark):
            if mark in _SOURCE_MARKS:
                return Side.SOURCE
            return Side.DESTINATION if mark in _DESTINATION_MARKS else None
        case StateSet(state=new_state):
            return Side.SOURCE if new_state in states.SOURCE_ONLY else None
        case _:
            return Side.SOURCE if isinstance(event, _SOURCE_EVENTS) else None
