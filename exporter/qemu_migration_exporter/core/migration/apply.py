"""Application of events and time to one migration: table of handlers, check of the wait, and end.

`apply` runs once per event. It learns the side from the first event that has one, records activity, runs the handler
of the event's meaning, and checks the wait only if a deadline has passed. Handlers return changes; none of them calls
another one. `tick` does the same for time that passes without an event, and `finish` closes everything that is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.events import (
    ChannelFailed,
    DeviceDowntime,
    DeviceLoaded,
    DeviceSaved,
    ErrorReported,
    ErrorSet,
    Event,
    LoadReturned,
    LowPending,
    Pending,
    Pinged,
    PostcopyRequests,
    RunStateSet,
    SectionEnded,
    SectionStarted,
    SignalEvent,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.migration import completion, ending, incoming, numbers, phases, state_changes, summary
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.migration.states import SOURCE_ONLY
from qemu_migration_exporter.core.model import PhaseName, Side
from qemu_migration_exporter.core.signals import ASIDE, BEGINNING, GUEST, MOVING, RANKS, SIDES, Meaning
from qemu_migration_exporter.core.terms import Signal

#: An event, its line and its time.
Row = tuple[Event, bytes, int]

_ITERATE: Final = PhaseName.ITERATE

#: migration_thread_setup_complete follows the state `active` at once; a second later its event is not enabled.
_SETUP_MARK_NS: Final = 1_000_000_000


def apply(machine: Machine, event: Event, meaning: Meaning, at_ns: int) -> Sequence[Change]:
    """Apply one event of this migration, at a time that never goes back; return the changes."""
    machine.last_ns = at_ns
    if machine.side is None:
        side = Side.SOURCE if type(event) is StateSet and event.state in SOURCE_ONLY else SIDES.get(meaning)
        if side is not None:
            phases.learn_side(machine, side, at_ns)
    if meaning in MOVING:
        machine.detector.waits.moved_ns = at_ns
    handler = _HANDLERS.get(meaning)
    changes = handler(machine, at_ns, event) if handler is not None else ()
    if machine.next_check_ns <= at_ns:
        stalls = _check_wait(machine, at_ns)
        return [*changes, *stalls] if stalls else changes
    return changes


def apply_run(machine: Machine, rows: Iterator[Row], silence_ns: int, changes: list[Change]) -> Row | None:
    """Apply events in the middle of a migration, up to one for which that is not sufficient; return that row.

    Nearly all events are applied here, without the questions that the tracker asks about other events. The side of the
    migration is known. A run takes 0.8 of the time of calling `apply` for each event.
    """
    waits = machine.detector.waits
    until_ns = min(machine.next_check_ns, machine.last_ns + silence_ns)
    for row in rows:
        event, _, at_ns = row
        step = _ORDINARY.get(event[2] if type(event) is SignalEvent else type(event))
        if step is None or until_ns <= at_ns:
            return row
        handler, moves, is_of_switchover = step
        machine.last_ns = at_ns
        if moves:
            waits.moved_ns = at_ns
        if is_of_switchover and machine.phase is _ITERATE:
            continue  # RAM's section: it only shows that memory is sent
        changed = handler(machine, at_ns, event)
        if changed:
            changes += changed
        if machine.next_check_ns <= at_ns:
            changes += _check_wait(machine, at_ns)
            until_ns = min(machine.next_check_ns, at_ns + silence_ns)
    return None


def tick(machine: Machine, now_ns: int) -> Sequence[Change]:
    """Advance the time without an event; return the changes."""
    if machine.side is not Side.SOURCE or machine.outcome.at_ns is not None:
        return ()
    changes: Sequence[Change] = ()
    if machine.active_ns is not None and now_ns - machine.active_ns > _SETUP_MARK_NS:
        changes = phases.active_ended_setup(machine, now_ns)
    changes = [*changes, *completion.postcopy_by_silence(machine, now_ns)]
    changes = [*changes, *machine.detector.tick(now_ns, machine.precopy, machine.parameters)]
    _set_next_check(machine)
    return changes


def _check_wait(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Check the migration's wait; a migration that is over has none."""
    changes: Sequence[Change] = ()
    if machine.side is Side.SOURCE and machine.outcome.at_ns is None:
        detector = machine.detector
        # The outcome may turn out to be that at the end of the loop: no wait begins after that.
        state, phase = (machine.outcome.state, machine.phase) if machine.may_stall else (None, None)
        detector.waits.state_is(at_ns, state=state, phase=phase, sends=machine.precopy.sends)
        changes = detector.tick(at_ns, machine.precopy, machine.parameters)
    _set_next_check(machine)
    return changes


def _set_next_check(machine: Machine) -> None:
    machine.next_check_ns = machine.detector.next_check_ns if machine.may_stall else 0


def finish(machine: Machine) -> Sequence[Change]:
    """End open rounds, phases and parts, and return the summary. The machine must not be used afterwards."""
    changes: list[Change] = []
    if machine.phase is PhaseName.CLEANUP and machine.cleanup_ns is not None:
        changes += machine.leave(max(machine.cleanup_ns, machine.phase_ns))
    if machine.outcome.at_ns is None:
        changes += completion.postcopy_by_silence(machine, machine.last_ns)
        changes += phases.active_ended_setup(machine, machine.last_ns)
    changes += [*machine.release_phase(), *machine.precopy.close()]
    changes += machine.devices_finished(machine.switchover.flush())
    if machine.outcome.at_ns is None:
        machine.end_ns = max(machine.last_ns, machine.detector.last_reported_ns)
    return [*changes, MigrationEnded(machine.trace_id, summary.migration(machine))]


_Handler = Callable[[Machine, int, Any], Sequence[Change]]

_HANDLERS: Final[Mapping[Meaning, _Handler]] = {
    StateSet: state_changes.state_set,
    LowPending: completion.low_pending,
    Pinged: completion.pinged,
    Signal.HEADER: phases.header,
    Signal.SETUP_COMPLETE: phases.setup_complete,
    **dict.fromkeys(RANKS, completion.stopping),
    Signal.DOWNTIME_END: completion.downtime_end,
    Signal.POSTCOPY_START: completion.postcopy_start,
    Signal.POSTCOPY_LISTEN: completion.postcopy_sent,
    Signal.POSTCOPY_RUN: completion.postcopy_sent,
    Signal.POSTCOPY_END: completion.postcopy_end,
    Signal.FAILING: ending.failing,
    Signal.POSTCOPY_RESUMED: ending.resumed,
    Signal.AFTER_LOOP: ending.after_loop,
    Signal.CLEANUP: ending.cleanup,
    Signal.CANCEL: ending.cancel_seen,
    Signal.BAD_END: ending.bad_end,
    Signal.ALL_SAVED: completion.all_saved,
    Signal.OUTGOING: phases.outgoing,
    Signal.CONNECTED: phases.outgoing,
    Signal.TO_FILE: phases.outgoing,
    Signal.GUEST_STOPPED: state_changes.guest_stopped,
    Signal.GUEST_RESUMED: state_changes.guest_resumed,
    ChannelFailed: ending.channel_failed,
    RunStateSet: state_changes.run_state_set,
    Pending: numbers.pending_seen,
    Transferred: numbers.transferred_seen,
    SyncEnded: numbers.sync_ended,
    SectionStarted: numbers.section_started,
    SectionEnded: numbers.section_ended,
    DeviceSaved: numbers.device_saved,
    DeviceDowntime: numbers.device_downtime,
    DeviceLoaded: incoming.device_loaded,
    LoadReturned: incoming.load_returned,
    Signal.LOADED: incoming.loaded,
    Signal.LOADS_POSTCOPY: incoming.loads_postcopy,
    Signal.GUEST_STARTED: incoming.guest_started,
    Signal.LOAD_CLEANUP: incoming.load_cleanup,
    PostcopyRequests: numbers.postcopy_requests_counted,
    ThrottleSet: numbers.throttle_set,
    ErrorSet: numbers.error_set,
    ErrorReported: numbers.error_reported,
    Signal.ITERATE: numbers.iterated,
    Signal.SYNC_START: numbers.sync_started,
    Signal.THROTTLE: numbers.throttled,
    Signal.THROTTLE_SYNC: numbers.throttle_syncs,
    Signal.DIRTY_LIMITED: numbers.dirty_limited,
    Signal.ITERABLE_SAVED: numbers.iterable_saved,
    Signal.POSTCOPY_REQUEST: numbers.postcopy_request,
}

#: Events with effects in the switchover only: outside of it they show that memory is sent.
_OF_SWITCHOVER: Final = frozenset({SectionStarted, SectionEnded})

#: Meaning → handler, whether it proves that data moves, and whether it is of the switchover. These events neither begin
#: a migration nor end one, and concern nothing but the open migration.
_ORDINARY: Final[Mapping[Meaning, tuple[_Handler, bool, bool]]] = {
    meaning: (handler, meaning in MOVING, meaning in _OF_SWITCHOVER)
    for meaning, handler in _HANDLERS.items()
    if meaning not in ASIDE | GUEST | BEGINNING | {ErrorReported, Signal.SYNC_START}
}
