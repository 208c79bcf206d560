"""Which end of a migration prints which event."""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.events import (
    Event,
    LowPending,
    Pending,
    PostcopyRequests,
    Signal,
    SignalEvent,
    StateSet,
    Transferred,
)
from qemu_migration_exporter.core.model import Side
from qemu_migration_exporter.core.tracking import states

#: A snapshot (`savevm`) prints none of these, though it writes the same header, sections and devices, and goes from
#: state `setup` to `completed`: qemu_savevm_state(), migration/savevm.c.
_SOURCE_MARKS: Final = frozenset(
    {Signal.OUTGOING, Signal.SETUP_COMPLETE, Signal.DOWNTIME_START, Signal.VM_STOPPED, Signal.ITERABLE_SAVED,
     Signal.DOWNTIME_END,
     Signal.POSTCOPY_START, Signal.POSTCOPY_SET_RUN, Signal.POSTCOPY_REQUEST, Signal.THROTTLE, Signal.FAILING,
     Signal.POSTCOPY_RESUMED, Signal.AFTER_LOOP}
)  # fmt: skip
_SOURCE_EVENTS: Final = (Pending, Transferred, LowPending, PostcopyRequests)
_DESTINATION_MARKS: Final = frozenset({Signal.INCOMING, Signal.DESTINATION})


def side_of(event: Event) -> Side | None:
    """Say which end prints this event, None for what both do, and a snapshot."""
    match event:
        case SignalEvent(mark=mark):
            if mark in _SOURCE_MARKS:
                return Side.SOURCE
            return Side.DESTINATION if mark in _DESTINATION_MARKS else None
        case StateSet(state=new_state):
            return Side.SOURCE if new_state in states.SOURCE_ONLY else None
        case _:
            return Side.SOURCE if isinstance(event, _SOURCE_EVENTS) else None
