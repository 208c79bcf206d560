"""Handlers of the events that move a migration from one state or phase to another, and to its outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, PreSwitchoverEnded, Surprised
from qemu_migration_exporter.core.events import Event, LowPending, Pinged, Signal, SignalEvent, StateSet
from qemu_migration_exporter.core.model import Mode, PhaseName, Side, SurpriseKind
from qemu_migration_exporter.core.signals import RANKS
from qemu_migration_exporter.core.tracking import states
from qemu_migration_exporter.core.tracking.machine import Machine
from qemu_migration_exporter.core.tracking.switchover import LOW_PENDING_RANK, WORST_RANK

#: savevm_send_ping's number that ends the switch to post-copy, postcopy_start() in migration/migration.c.
_POSTCOPY_PING: Final = 4


def learn_side(machine: Machine, side: Side, at_ns: int) -> None:
    """Set the end this QEMU is of the migration."""
    if side is Side.DESTINATION and machine.header_seen:
        return  # no destination writes a header: a snapshot was saved, and now one is loaded
    machine.side = side
    machine.recheck()
    if side is Side.DESTINATION and machine.phase is PhaseName.SETUP:
        # It was in `setup` since it began to listen, maybe for hours (8.2 and later).
        machine.phase = None
        if machine.outcome.left_loop_ns is None:
            machine.start_ns = machine.phase_ns = at_ns if machine.active_ns is None else machine.active_ns


def state_set(machine: Machine, at_ns: int, event: StateSet) -> Sequence[Change]:
    """Follow QEMU's own word for the status."""
    state, before = event.state, machine.outcome.state
    if state is None:
        return ()
    changes = _surprises(before, state)
    machine.recheck()
    machine.outcome.state = state
    machine.was_active |= state == "active"
    if before == "pre-switchover":
        changes += _wait_ended(machine, at_ns)
    if state in states.RESULTS:
        changes += end(machine, at_ns)
    elif state == "setup" and machine.phase is None and machine.side is not Side.DESTINATION:
        changes += machine.enter(PhaseName.SETUP, at_ns)
    elif state == "active" and machine.phase is PhaseName.SETUP:
        machine.active_ns = at_ns
    elif state == "pre-switchover":
        changes += _complete(machine, at_ns, WORST_RANK)
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
        machine.switchover.wait_begins(at_ns)
    elif state == "device":
        changes += _complete(machine, at_ns, RANKS[Signal.COMPLETE])
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
        machine.outcome.completing = True
    elif state == "postcopy-active":
        machine.mode = Mode.POSTCOPY
    elif state == "postcopy-recover":
        machine.outcome.resumed()
    return changes


def _surprises(before: str | None, state: str) -> list[Change]:
    if state not in states.STATES:
        return [Surprised(SurpriseKind.UNKNOWN_STATE, f"{before} -> {state}")]
    if before is not None and before in states.STATES and state not in states.STATES[before].successors:
        return [Surprised(SurpriseKind.UNEXPECTED_STATE, f"{before} -> {state}")]
    return []


def end(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Set the outcome's time; the last one counts."""
    changes = [*_wait_ended(machine, at_ns)]
    machine.outcome.at_ns = machine.end_ns = at_ns
    if machine.phase is not PhaseName.CLEANUP:
        changes += machine.precopy.end(at_ns)
        changes += machine.leave(at_ns)
    changes += machine.precopy.close()
    return changes


# Setup


def header(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Begin setup's own time, which is later than the state's."""
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
    machine.thread = event.thread
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
        mark = SignalEvent(at_ns, event.thread, Signal.SETUP_COMPLETE)
        changes = setup_complete(machine, known_ns or at_ns, mark)
        if known_ns is None:
            machine.setup_ns = None
        return changes
    if machine.mode is Mode.POSTCOPY and machine.phase in {PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY}:
        return [*_rounds_ended(machine, at_ns), *machine.enter(PhaseName.POSTCOPY, at_ns)]
    return ()


def _rounds_ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    return [*machine.precopy.end(at_ns), *machine.detector.rounds_ended(at_ns)]


# The switchover


def _complete(machine: Machine, at_ns: int, rank: int) -> Sequence[Change]:
    """Enter the switchover; `rank` is the quality of this mark of the downtime's start."""
    changes: Sequence[Change] = ()
    if machine.phase is PhaseName.ITERATE:
        changes = [*_rounds_ended(machine, at_ns), *machine.enter(PhaseName.COMPLETE_PRECOPY, at_ns)]
    if machine.phase is PhaseName.COMPLETE_PRECOPY:
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
    changes = [*iterating(machine, at_ns, event)]
    if event.pending is not None:
        changes += pending_is(machine, at_ns, event.pending)
    changes += _complete(machine, at_ns, LOW_PENDING_RANK)
    return changes


def pending_is(machine: Machine, at_ns: int, size: int, postcopy: int | None = None) -> Sequence[Change]:
    """Set the pending bytes, and have them judged if they are a boundary's."""
    precopy, detector = machine.precopy, machine.detector
    if size != precopy.pending:
        detector.waits.moved_ns = at_ns
    if not precopy.sends:
        machine.recheck()
    is_boundary = precopy.pending_seen(size, postcopy=postcopy)
    changes = detector.pending_seen(at_ns, size, is_boundary=is_boundary, numbers=precopy)
    if detector.next_check_ns == 0:
        machine.recheck()
    return changes


def postcopy_start(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Begin the switch to post-copy."""
    machine.mode = Mode.POSTCOPY
    return _complete(machine, at_ns, WORST_RANK)


def downtime_end(machine: Machine, at_ns: int, _event: Event) -> Sequence[Change]:
    """End the downtime; in post-copy the migration goes on after it."""
    if machine.phase is not PhaseName.COMPLETE_PRECOPY:
        return ()
    machine.switchover.end_ns = at_ns
    return machine.enter(PhaseName.POSTCOPY, at_ns) if machine.mode is Mode.POSTCOPY else ()


def pinged(machine: Machine, at_ns: int, event: Pinged) -> Sequence[Change]:
    """Follow the ping that ends the switch to post-copy."""
    is_end = event.value == _POSTCOPY_PING and machine.mode is Mode.POSTCOPY
    return downtime_end(machine, at_ns, event) if is_end else ()


def _wait_ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    began_ns = machine.switchover.wait_ends()
    return () if began_ns is None else [PreSwitchoverEnded(machine.trace_id, began_ns, at_ns)]


# The end


def after_loop(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Follow the migration thread out of its loop."""
    if machine.phase is PhaseName.CLEANUP:
        return ()
    changes: list[Change] = []
    machine.outcome.left_loop_ns = machine.end_ns = at_ns
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
    """Note a cancel, which QEMU prints at every exit too."""
    machine.outcome.cancel_requested = True
    return ()


def failing(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Note that something broke."""
    machine.outcome.broke()
    return ()


def resumed(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Go on in post-copy over a new connection."""
    machine.outcome.resumed()
    return ()
