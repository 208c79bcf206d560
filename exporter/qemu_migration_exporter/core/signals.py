"""The table of facts about the meanings of probe lines.

A meaning is a `Signal`, or the type of an event with arguments, and has one row in the table. The row states which end
of a migration prints the event, whether the event proves that data moves, whether it may begin a migration, how well
it marks the start of the downtime, and which probe prints it. Every set of meanings in the program is derived from the
rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from qemu_migration_exporter.core.events import (
    Anchored,
    BacktraceFrame,
    ChannelFailed,
    DeviceDowntime,
    DeviceLoaded,
    DeviceSaved,
    ErrorReported,
    ErrorSet,
    Event,
    FunctionCalled,
    GuestDescribed,
    LinesLost,
    LoadReturned,
    LowPending,
    Pending,
    Pinged,
    PostcopyRequests,
    QemuEnded,
    QemuStarted,
    QmpCommand,
    RunStateNumbered,
    RunStateSet,
    SectionEnded,
    SectionStarted,
    SignalEvent,
    StateNumbered,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.model import Side
from qemu_migration_exporter.core.terms import Signal

Meaning = Signal | type


class SignalFacts(NamedTuple):
    """The facts about one meaning.

    Attributes:
        of: The meaning.
        side: The end that prints it; None for both ends. A snapshot (`savevm`) prints no event that has a side.
        moves: True for proof that data moves, as are changing pending bytes and windows that are not empty.
        begins: True if it may begin another migration while a migration is open.
        joins: True if it shows, as the first event, that the stream was joined in the middle of a migration.
        rank: Quality as a mark of the downtime's start, 0 is best; None if it does not mark that.
        aside: True if it is not part of a migration, but has information about it.
        guest: True if it changes whether the guest runs.
        probed: Names of the events that a probe prints, None for all. Every probe costs time to attach, so an event
            that only shows the side or a failure is left out if the states or another event show the same.
    """

    of: Meaning
    side: Side | None = None
    moves: bool = False
    begins: bool = False
    joins: bool = False
    rank: int | None = None
    aside: bool = False
    guest: bool = False
    probed: tuple[str, ...] | None = None


_SOURCE: Final = Side.SOURCE
_DESTINATION: Final = Side.DESTINATION

_ROWS: Final = (
    # States, setup and the end
    SignalFacts(StateSet, moves=True, begins=True),
    SignalFacts(StateNumbered),
    SignalFacts(Signal.HEADER, begins=True),
    SignalFacts(Signal.SETUP_BEGIN),
    SignalFacts(Signal.SETUP_COMPLETE, _SOURCE, moves=True, joins=True),
    SignalFacts(Signal.AFTER_LOOP, _SOURCE),
    SignalFacts(Signal.CLEANUP),
    SignalFacts(Signal.CANCEL),
    SignalFacts(Signal.FAILING, _SOURCE, probed=("migration_thread_file_err", "migration_completion_file_err")),
    SignalFacts(Signal.BAD_END, _SOURCE, probed=()),
    SignalFacts(ErrorSet),
    SignalFacts(ErrorReported),
    # Rounds
    SignalFacts(Pending, _SOURCE, joins=True),
    SignalFacts(Transferred, _SOURCE, joins=True),
    SignalFacts(LowPending, _SOURCE, moves=True, joins=True),
    SignalFacts(Signal.ITERATE),
    SignalFacts(Signal.SYNC_START, moves=True),
    SignalFacts(SyncEnded, moves=True),
    SignalFacts(Signal.THROTTLE, _SOURCE),
    SignalFacts(Signal.THROTTLE_SYNC),
    SignalFacts(ThrottleSet),
    SignalFacts(Signal.DIRTY_LIMITED, _SOURCE),
    # The switchover: src-downtime-start (8.2 and later) is QEMU's own start of the downtime, and
    # migration_completion_vm_stop is printed after the guest stopped, its disks flushed.
    SignalFacts(Signal.DOWNTIME_START, _SOURCE, moves=True, joins=True, rank=0),
    SignalFacts(Signal.POSTCOPY_SET_RUN, _SOURCE, moves=True, rank=2),
    SignalFacts(Signal.VM_STOPPED, _SOURCE, moves=True, rank=3),
    SignalFacts(Signal.COMPLETE, moves=True, rank=4),
    SignalFacts(Signal.ITERABLE_SAVED, moves=True),
    SignalFacts(Signal.DOWNTIME_END, _SOURCE, moves=True),
    SignalFacts(SectionStarted, moves=True, joins=True),
    SignalFacts(SectionEnded, moves=True),
    SignalFacts(DeviceSaved, moves=True, joins=True),
    SignalFacts(DeviceDowntime, moves=True),
    SignalFacts(Signal.ALL_SAVED, moves=True),
    SignalFacts(DeviceLoaded, _DESTINATION, joins=True),
    # Post-copy
    SignalFacts(Signal.POSTCOPY_START, _SOURCE, moves=True, joins=True),
    SignalFacts(Signal.POSTCOPY_LISTEN, _SOURCE, moves=True, probed=()),
    SignalFacts(Signal.POSTCOPY_RUN, _SOURCE, moves=True, probed=()),
    SignalFacts(Signal.POSTCOPY_REQUEST, _SOURCE, moves=True),
    SignalFacts(Signal.POSTCOPY_RESUMED, _SOURCE, probed=()),
    SignalFacts(Signal.POSTCOPY_END, _SOURCE, moves=True, probed=()),
    SignalFacts(PostcopyRequests, _SOURCE, moves=True, probed=()),
    SignalFacts(Pinged, moves=True),
    # Source or destination
    SignalFacts(
        Signal.OUTGOING,
        _SOURCE,
        probed=("migration_fd_outgoing", "migration_exec_outgoing", "savevm_send_switchover_start"),
    ),
    SignalFacts(
        Signal.CONNECTED, _SOURCE, probed=("migration_socket_outgoing_connected", "migration_set_outgoing_channel")
    ),
    SignalFacts(Signal.TO_FILE, _SOURCE, probed=("migration_file_outgoing",)),
    SignalFacts(ChannelFailed, _SOURCE),
    SignalFacts(Signal.INCOMING, _DESTINATION),
    SignalFacts(Signal.DESTINATION, _DESTINATION, probed=("loadvm_state_setup",)),
    SignalFacts(Signal.LOADED, _DESTINATION, joins=True, probed=()),
    SignalFacts(Signal.LOADS_POSTCOPY, _DESTINATION, probed=()),
    SignalFacts(LoadReturned, _DESTINATION, joins=True),
    SignalFacts(Signal.GUEST_STARTED, _DESTINATION, probed=()),
    SignalFacts(Signal.LOAD_CLEANUP, _DESTINATION),
    # The guest and QEMU itself
    SignalFacts(RunStateSet, guest=True),
    SignalFacts(RunStateNumbered),
    SignalFacts(Signal.GUEST_STOPPED, guest=True),
    SignalFacts(Signal.GUEST_RESUMED, guest=True),
    SignalFacts(QemuStarted, aside=True),
    SignalFacts(QemuEnded, aside=True),
    SignalFacts(GuestDescribed, aside=True),
    SignalFacts(Signal.INITIATED, aside=True),
    # Beside migrations
    SignalFacts(QmpCommand, aside=True),
    SignalFacts(FunctionCalled, aside=True),
    SignalFacts(BacktraceFrame, aside=True),
    SignalFacts(LinesLost, aside=True),
    SignalFacts(Anchored),
    SignalFacts(Signal.OTHER, probed=()),
)

SIGNALS: Final[Mapping[Meaning, SignalFacts]] = {row.of: row for row in _ROWS}

MOVING: Final = frozenset(row.of for row in _ROWS if row.moves)
BEGINNING: Final = frozenset(row.of for row in _ROWS if row.begins)
JOINING: Final = frozenset(row.of for row in _ROWS if row.joins)
ASIDE: Final = frozenset(row.of for row in _ROWS if row.aside)
GUEST: Final = frozenset(row.of for row in _ROWS if row.guest)
SIDES: Final[Mapping[Meaning, Side]] = {row.of: row.side for row in _ROWS if row.side is not None}
RANKS: Final[Mapping[Meaning, int]] = {row.of: row.rank for row in _ROWS if row.rank is not None}


def meaning_of(event: Event) -> Meaning:
    """Return the key of an event's row: the signal of a `SignalEvent`, otherwise the event's type."""
    return event.mark if type(event) is SignalEvent else type(event)


def is_probed(meaning: Signal | Callable[..., Event], name: str) -> bool:
    """Return whether the generated probes print the event `name` of a layout's meaning."""
    row = SIGNALS.get(meaning) if isinstance(meaning, (Signal, type)) else None
    return row is None or row.probed is None or name in row.probed
