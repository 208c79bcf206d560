"""Handlers of the events that move a migration to another state or phase, and to its outcome.

QEMU's releases print different marks, and operators enable subsets of the events. So no handler relies on an earlier
mark: it enters the phase that its event proves. For the start of the downtime, marks have ranks; the outcome's time is
extended as later marks come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, PreSwitchoverEnded, Surprised
from qemu_migration_exporter.core.events import (
    ChannelFailed,
    Event,
    LowPending,
    Pinged,
    RunStateSet,
    Signal,
    SignalEvent,
    StateSet,
)
from qemu_migration_exporter.core.measures.switchover import (
    BEST_RANK,
    COMPLETE_RANK,
    LOW_PENDING_RANK,
    VM_STOPPING_RANK,
    WORST_RANK,
    Switchover,
)
from qemu_migration_exporter.core.migration import states
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.model import Kind, Mode, PauseCause, PhaseName, Result, Side, SurpriseKind
from qemu_migration_exporter.core.signals import RANKS

#: savevm_send_ping's number that ends the switch to post-copy, postcopy_start() in migration/migration.c.
_POSTCOPY_PING: Final = 4

#: vmstate_downtime_checkpoint came with 8.2.
_LAST_WITHOUT_CHECKPOINTS: Final = (8, 1)
#: Up to 2.10 QEMU computes its times when the thread has left its loop.
_LAST_COMPUTING_AFTER_LOOP: Final = (2, 10)
#: Since 9.0 the migration thread computes the times before it sets the state `completed`.
_SINCE_THREAD_COMPUTES: Final = (9, 0)

#: States that follow `postcopy-active` alone.
_LATER_IN_POSTCOPY: Final = frozenset({"postcopy-paused", "postcopy-recover"})

#: A QEMU that sends prints ten lines a second, and libvirt notices a crash some seconds later, when the core is dumped.
_DUMPING_NS: Final = 60_000_000_000

#: libvirt's reasons for the end of a QEMU after a successful migration or save.
_WELL_ENDED: Final = ("reason=migrated", "reason=saved")


def learn_side(machine: Machine, side: Side, at_ns: int) -> None:
    """Set this QEMU's side: source or destination."""
    if side is Side.DESTINATION and machine.header_seen:
        return  # no destination writes a header: a snapshot was saved, and now one is loaded
    machine.side = side
    machine.recheck()
    if side is Side.DESTINATION and machine.phase is PhaseName.SETUP:
        # A destination is in `setup` from the moment it listens, maybe for hours (8.2 and later).
        machine.phase = None
        if machine.outcome.left_loop_ns is None:
            machine.start_ns = machine.phase_ns = at_ns if machine.active_ns is None else machine.active_ns


def state_set(machine: Machine, at_ns: int, event: StateSet) -> Sequence[Change]:
    """Apply a change of QEMU's migration state."""
    state, outcome = event.state, machine.outcome
    if state is None or outcome.qemu_ended is not None:
        return ()
    before = outcome.state
    changes = _surprises(before, state)
    machine.recheck()
    outcome.state, machine.state_since_ns = state, at_ns
    if state == "active":
        machine.was_active = True
        _is_live(machine)
    if before == "pre-switchover":
        changes += _wait_ended(machine, at_ns)
    if state in states.RESULTS:
        outcome.stated_ns = at_ns
        changes += end(machine, at_ns)
    elif state == "setup" and machine.phase is None and machine.side is not Side.DESTINATION:
        changes += machine.enter(PhaseName.SETUP, at_ns)
    elif state == "active" and machine.phase is PhaseName.SETUP:
        machine.active_ns = at_ns
    elif state == "pre-switchover":
        changes += _complete(machine, at_ns, COMPLETE_RANK)  # QEMU has stopped the guest before
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
        if machine.may_stall:
            machine.switchover.wait_begins(at_ns)
    elif state == "device":
        changes += _complete(machine, at_ns, COMPLETE_RANK)
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
        machine.outcome.completing = True
    elif state == "postcopy-active":
        machine.mode = Mode.POSTCOPY
    elif state in _LATER_IN_POSTCOPY:
        changes += postcopy_shown(machine, at_ns, event)
        if state == "postcopy-recover":
            machine.outcome.resumed()
    return changes


def _surprises(before: str | None, state: str) -> list[Change]:
    if state not in states.STATES:
        return [Surprised(SurpriseKind.UNKNOWN_STATE, f"{before} -> {state}")]
    if before is not None and before in states.STATES and state not in states.STATES[before].successors:
        return [Surprised(SurpriseKind.UNEXPECTED_STATE, f"{before} -> {state}")]
    return []


def end(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Set the outcome's time; the last call counts."""
    changes = [*_wait_ended(machine, at_ns), *active_ended_setup(machine, at_ns)]
    machine.outcome.at_ns, machine.end_ns = at_ns, max(at_ns, machine.end_ns)
    if machine.phase is not PhaseName.CLEANUP:
        changes += machine.precopy.end(at_ns)
        changes += machine.leave(at_ns)
    changes += machine.precopy.close()
    return changes


# Setup


def header(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Begin the phase setup at the stream's header, which is later than the state `setup`."""
    machine.thread = event.thread
    if machine.outcome.at_ns is not None or machine.header_seen:
        return ()
    machine.header_seen = True
    if machine.phase is None or machine.phase is PhaseName.SETUP:
        machine.phase, machine.phase_ns = PhaseName.SETUP, at_ns
        machine.recheck()
    return ()


def setup_complete(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """End setup and begin the bulk round."""
    _is_live(machine)
    return _begin_rounds(machine, at_ns, event.thread)


def _begin_rounds(machine: Machine, at_ns: int, thread: int | None) -> Sequence[Change]:
    machine.thread = thread
    if machine.outcome.at_ns is None and (machine.phase is None or machine.phase is PhaseName.SETUP):
        if machine.phase is PhaseName.SETUP:
            machine.setup_ns = at_ns - machine.phase_ns
        return [*machine.enter(PhaseName.ITERATE, at_ns), *machine.precopy.begin(at_ns)]
    return ()


def iterating(machine: Machine, at_ns: int, event: Event) -> Sequence[Change]:
    """Enter the phase that pending bytes or slices prove, if its own mark is missing."""
    if machine.outcome.at_ns is not None:
        return ()
    if machine.phase is None or machine.phase is PhaseName.SETUP:
        # The state `active` ends setup if the mark is missing; without it, the length of setup is not known.
        known_ns = None if machine.active_ns is None else max(machine.active_ns, machine.phase_ns)
        changes = _begin_rounds(machine, known_ns or at_ns, event.thread)
        if known_ns is None:
            machine.setup_ns = None
        return changes
    if machine.mode is Mode.POSTCOPY and machine.phase in {PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY}:
        return [*_rounds_ended(machine, at_ns), *machine.enter(PhaseName.POSTCOPY, at_ns)]
    return ()


def active_ended_setup(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Begin the iterate phase with the state `active`, if no other mark of setup's end is enabled."""
    if machine.phase is PhaseName.SETUP and machine.active_ns is not None:
        return iterating(machine, at_ns, SignalEvent(at_ns, machine.thread, Signal.OTHER))
    return ()


def _is_live(machine: Machine) -> None:
    """Correct the kind from snapshot to live: only a migration thread prints this mark, and savevm has no thread."""
    if machine.kind is Kind.SNAPSHOT and not machine.parameters.is_background_snapshot:
        machine.kind = Kind.LIVE


def _rounds_ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    cleared = machine.detector.rounds_ended(at_ns) if machine.may_stall else ()
    return [*machine.precopy.end(at_ns), *cleared]


# The switchover


def _complete(machine: Machine, at_ns: int, rank: int) -> Sequence[Change]:
    """Enter the switchover, with a mark of this rank for the downtime's start."""
    changes = [*active_ended_setup(machine, at_ns)]
    if machine.phase is PhaseName.ITERATE:
        changes += _rounds_ended(machine, at_ns)
        changes += machine.enter(PhaseName.COMPLETE_PRECOPY, at_ns)
    elif machine.phase is None and machine.outcome.at_ns is None and machine.side is not Side.DESTINATION:
        changes += machine.enter(PhaseName.COMPLETE_PRECOPY, at_ns)  # the stream was joined in the middle
    elif machine.phase is PhaseName.SETUP and rank < COMPLETE_RANK:
        machine.kind = Kind.CPR  # these modes stop the guest before setup, and no other job does
        machine.switchover.may_begin(at_ns, rank)
    # A recording that begins with a mark after the stop of the guest does not show when the downtime began.
    if machine.phase is PhaseName.COMPLETE_PRECOPY and (machine.phases or rank <= LOW_PENDING_RANK):
        machine.switchover.may_begin(at_ns, rank)
    return changes


def stopping(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Follow the marks that stop the guest."""
    changes = [*_complete(machine, at_ns, RANKS[event.mark])]
    if event.mark in {Signal.VM_STOPPED, Signal.COMPLETE}:
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
    if event.mark is Signal.COMPLETE:
        machine.outcome.completing = True
    return changes


def low_pending(machine: Machine, at_ns: int, event: LowPending) -> Sequence[Change]:
    """End the iterate phase: pending is below the threshold."""
    if machine.mode is Mode.POSTCOPY:
        return ()
    _is_live(machine)
    changes = [*iterating(machine, at_ns, event)]
    if event.pending is not None:
        changes += pending_is(machine, at_ns, event.pending)
    changes += _complete(machine, at_ns, LOW_PENDING_RANK)
    return changes


def pending_is(machine: Machine, at_ns: int, size: int, postcopy: int | None = None) -> Sequence[Change]:
    """Set the pending bytes; at a boundary, pass them to the detector."""
    precopy, detector = machine.precopy, machine.detector
    if size != precopy.pending:
        detector.waits.moved_ns = at_ns
    if not precopy.sends:
        machine.recheck()
    is_boundary = precopy.pending_seen(size, postcopy=postcopy)
    if not machine.may_stall:
        return ()
    changes = detector.pending_seen(at_ns, size, is_boundary=is_boundary, numbers=precopy)
    if detector.next_check_ns == 0:
        machine.recheck()
    return changes


def postcopy_start(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Begin the switch to post-copy; up to 8.1 QEMU's downtime begins before it waits for its lock."""
    machine.mode = Mode.POSTCOPY
    return _complete(machine, at_ns, BEST_RANK if machine.releases[1] <= _LAST_WITHOUT_CHECKPOINTS else WORST_RANK)


def postcopy_sent(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Follow the commands that only post-copy sends; the ping after them marks the downtime's end better than `run`."""
    machine.mode = Mode.POSTCOPY
    changes = _complete(machine, at_ns, WORST_RANK)
    if event.mark is Signal.POSTCOPY_RUN and machine.phase is PhaseName.COMPLETE_PRECOPY:
        machine.switchover.end_ns = at_ns
    return changes


def postcopy_shown(machine: Machine, at_ns: int, event: Event) -> Sequence[Change]:
    """Learn from a later mark of a post-copy that it is one, where the recording begins after the switch to it.

    The apparent stop of the guest was the end of its memory: the guest was stopped before the recording.
    """
    if machine.mode is Mode.POSTCOPY:
        return ()
    machine.mode, machine.switchover = Mode.POSTCOPY, Switchover()
    if machine.phase is PhaseName.COMPLETE_PRECOPY:
        machine.phase = PhaseName.POSTCOPY
        machine.recheck()
    return iterating(machine, at_ns, event)


def downtime_end(machine: Machine, at_ns: int, _event: Event) -> Sequence[Change]:
    """End the downtime with QEMU's own mark; in post-copy the migration continues after it.

    QEMU 8.2 prints this mark after the state `completed`, because it first waits for its lock.
    """
    switchover, outcome = machine.switchover, machine.outcome
    if machine.phase is PhaseName.COMPLETE_PRECOPY and machine.kind is not Kind.SNAPSHOT:
        switchover.end_ns = at_ns
        if machine.mode is Mode.POSTCOPY:
            return machine.enter(PhaseName.POSTCOPY, at_ns)
        if outcome.state is None and outcome.at_ns is None:  # states are not enabled, and this is the last mark
            outcome.completing |= switchover.ram_told
            return end(machine, at_ns)
    elif machine.mode is Mode.PRECOPY and outcome.at_ns is not None:
        _extend_outcome(machine, at_ns)
        if machine.kind is not Kind.SNAPSHOT:  # the guest of a snapshot has run again for a long time
            switchover.end_ns = outcome.at_ns
    return ()


def _extend_outcome(machine: Machine, at_ns: int) -> None:
    """Move the outcome of a completed migration to the moment at which QEMU computed its times."""
    outcome = machine.outcome
    if outcome.at_ns is not None and outcome.result()[0] is Result.COMPLETED:
        outcome.at_ns = max(at_ns, outcome.at_ns)
        machine.end_ns = max(at_ns, machine.end_ns)


def all_saved(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Record that all data is sent: the source waits for the destination."""
    if machine.phase is PhaseName.COMPLETE_PRECOPY and machine.switchover.all_saved_ns is None:
        machine.switchover.all_saved_ns = at_ns
    return ()


def pinged(machine: Machine, at_ns: int, event: Pinged) -> Sequence[Change]:
    """Follow the ping that ends the switch to post-copy."""
    is_end = event.value == _POSTCOPY_PING and machine.mode is Mode.POSTCOPY
    return downtime_end(machine, at_ns, event) if is_end else ()


def _wait_ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    began_ns = machine.switchover.wait_ends(at_ns)
    return () if began_ns is None else [PreSwitchoverEnded(machine.trace_id, began_ns, at_ns)]


# The end


def after_loop(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Follow the migration thread out of its loop."""
    if machine.phase is PhaseName.CLEANUP:
        return ()
    _is_live(machine)
    changes: list[Change] = []
    machine.outcome.left_loop_ns = machine.end_ns = at_ns
    if machine.releases[1] <= _LAST_COMPUTING_AFTER_LOOP:
        _extend_outcome(machine, at_ns)
    if machine.outcome.at_ns is None:
        changes += machine.precopy.end(at_ns)
    changes += machine.precopy.close()
    changes += machine.enter(PhaseName.CLEANUP, at_ns)
    if machine.outcome.state is None:
        machine.outcome.at_ns = at_ns
    return changes


def cleanup(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Extend the end to a cleanup mark, which ends a migration whose states are not printed."""
    machine.cleanup_ns = machine.end_ns = at_ns
    if machine.outcome.at_ns is not None:
        return ()
    machine.outcome.left_loop_ns = machine.outcome.left_loop_ns or at_ns
    machine.recheck()
    return end(machine, at_ns) if machine.outcome.state is None else ()


def cancel_seen(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Record a request to cancel, which QEMU prints at every exit too."""
    machine.outcome.cancel_requested = True
    return ()


def bad_end(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Record that the return path from the destination ended with an error."""
    if machine.outcome.at_ns is None:
        machine.outcome.refused = True
    machine.outcome.broke()
    return ()


def channel_failed(machine: Machine, _at_ns: int, event: ChannelFailed) -> Sequence[Change]:
    """Record the error of the connection."""
    machine.outcome.channel_failed(event.text)
    return ()


def outgoing(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Record the source's first event and the setup of its channel, where QEMU's setup begins since 9.0."""
    if machine.header_seen:
        return ()
    if machine.outgoing_ns is None:
        machine.outgoing_ns = at_ns
    if event.mark is Signal.CONNECTED:
        machine.connected_ns = at_ns
    elif event.mark is Signal.TO_FILE and machine.kind is Kind.LIVE:
        machine.kind = Kind.FILE
    return ()


def failing(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Record a failure that may end the migration."""
    machine.outcome.broke()
    return ()


def resumed(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Continue post-copy over a new connection."""
    machine.outcome.resumed()
    return ()


# The guest and QEMU itself


def run_state_set(machine: Machine, at_ns: int, event: RunStateSet) -> Sequence[Change]:
    """Apply a change of the guest's run state: a pause, the stop for the switchover, or the end of either."""
    state = event.state
    if state is None:
        return ()
    was_suspended = machine.guest.is_suspended
    machine.guest.set_run_state(at_ns, state)
    _end_downtime_with_resume(machine, at_ns)
    changes = _suspension_changed(machine, at_ns, was_suspended=was_suspended)
    if state == "finish-migrate":
        machine.detector.waits.moved_ns = at_ns
        return [*changes, *_complete(machine, at_ns, VM_STOPPING_RANK)]
    if state == "postmigrate" and machine.switchover.end_ns is None and machine.releases[0] < _SINCE_THREAD_COMPUTES:
        # From 2.12 to 8.2 QEMU computes its times between the state `completed` and this, once it has its lock.
        _extend_outcome(machine, at_ns)
    elif (
        state == "running"
        and machine.outcome.at_ns is not None
        and machine.kind is Kind.SAVE
        and machine.side is Side.SOURCE
    ):
        machine.kind = Kind.DUMP  # the guest of a save does not run again
    return changes


def guest_stopped(machine: Machine, at_ns: int, _event: Event) -> Sequence[Change]:
    """Follow QMP's STOP; the stop for the switchover has marks before this event."""
    was_suspended = machine.guest.is_suspended
    if machine.guest.by is None and machine.outcome.at_ns is None:
        is_switchover = machine.phase is PhaseName.COMPLETE_PRECOPY or machine.switchover.start_ns is not None
        machine.guest.stopped(at_ns, PauseCause.DOWNTIME if is_switchover else PauseCause.SUSPENDED)
    return _suspension_changed(machine, at_ns, was_suspended=was_suspended)


def guest_resumed(machine: Machine, at_ns: int, _event: Event) -> Sequence[Change]:
    """Follow QMP's RESUME."""
    was_suspended = machine.guest.is_suspended
    machine.guest.resumed(at_ns)
    _end_downtime_with_resume(machine, at_ns)
    return _suspension_changed(machine, at_ns, was_suspended=was_suspended)


def _end_downtime_with_resume(machine: Machine, at_ns: int) -> None:
    """End the downtime when the guest runs again after a failure or in a background snapshot."""
    switchover = machine.switchover
    is_stopped = switchover.start_ns is not None and switchover.end_ns is None
    if is_stopped and machine.guest.by is None and machine.outcome.at_ns is None:
        switchover.end_ns = at_ns


def _suspension_changed(machine: Machine, at_ns: int, *, was_suspended: bool) -> Sequence[Change]:
    """Stop judging rounds while the guest is paused, and forget the rounds before the pause."""
    is_suspended = machine.guest.is_suspended
    if not machine.may_stall:
        return ()
    if is_suspended and not was_suspended:
        return machine.detector.paused(at_ns)
    if was_suspended and not is_suspended:
        machine.detector.resumed(at_ns)
    return ()


def qemu_ended(machine: Machine, at_ns: int, text: str) -> Sequence[Change]:
    """End the migration with its QEMU process, unless the migration has ended."""
    outcome, last_ns = machine.outcome, machine.last_ns
    at_ns = machine.last_ns = max(at_ns, last_ns, machine.detector.last_reported_ns)
    if outcome.qemu_ended is not None:
        outcome.qemu_ended = f"{outcome.qemu_ended}; {text}"
        return ()
    if text.endswith("reason=saved") and machine.kind is Kind.DUMP:
        machine.kind = Kind.SAVE
    if outcome.at_ns is not None:
        return ()
    is_well_ended = text.endswith(_WELL_ENDED)
    outcome.completing |= is_well_ended
    if outcome.left_loop_ns is not None:
        return end(machine, outcome.left_loop_ns if machine.phase is PhaseName.CLEANUP else last_ns)
    if is_well_ended:
        outcome.left_loop_ns = at_ns
        return end(machine, at_ns)
    if outcome.completing and outcome.state is None and machine.mode is Mode.PRECOPY and not outcome.failing:
        return end(machine, last_ns)  # states are not enabled, and a QEMU that completed is ended
    outcome.qemu_ended = text
    has_fallen_silent = machine.phase is PhaseName.ITERATE and machine.detector.last_reported_ns <= last_ns
    if text.endswith("reason=crashed") and has_fallen_silent and at_ns - last_ns < _DUMPING_NS:
        return end(machine, last_ns)
    return end(machine, at_ns)
