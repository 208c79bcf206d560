"""Handlers of the two states that QEMU prints in words: the state of the migration and the run state of the guest.

The state of the migration comes with marks that print the same step, before it or after it. So no handler relies on an
earlier mark: it enters the phase that the state proves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, Surprised
from qemu_migration_exporter.core.events import (
    Event,
    RunStateSet,
    StateSet,
)
from qemu_migration_exporter.core.measures.guest import cause_of
from qemu_migration_exporter.core.measures.switchover import (
    COMPLETE_RANK,
    VM_STOPPING_RANK,
)
from qemu_migration_exporter.core.migration import states
from qemu_migration_exporter.core.migration.completion import (
    complete,
    postcopy_by_silence,
    postcopy_shown,
)
from qemu_migration_exporter.core.migration.ending import end, extend, wait_ended
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.migration.phases import is_live, learn_side
from qemu_migration_exporter.core.model import Kind, Mode, PauseCause, PhaseName, Side, SurpriseKind

#: Since 9.0 the migration thread computes the times before it sets the state `completed`.
_SINCE_THREAD_COMPUTES: Final = (9, 0)

#: States that begin post-copy: up to 9.2 before the switch, since 10.0 after it, that is after the state `device`.
_POSTCOPY: Final = frozenset({"postcopy-device", "postcopy-active"})
_STOPPED: Final = frozenset({"device", "postcopy-device"})
#: States that follow `postcopy-active` alone.
_LATER_IN_POSTCOPY: Final = frozenset({"postcopy-paused", "postcopy-recover"})


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
        _active(machine, at_ns)
    if before == "pre-switchover":
        changes += wait_ended(machine, at_ns)
    if state in states.RESULTS:
        outcome.stated_ns = at_ns
        changes += postcopy_by_silence(machine, at_ns, is_over=state == "completed")
        changes += end(machine, at_ns)
    elif state == "setup" and machine.phase is None and machine.side is not Side.DESTINATION:
        changes += machine.enter(PhaseName.SETUP, at_ns)
    elif state == "pre-switchover":
        changes += complete(machine, at_ns, COMPLETE_RANK)  # QEMU has stopped the guest before
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
        if machine.may_stall:
            machine.switchover.wait_begins(at_ns)
    elif state == "device":
        changes += complete(machine, at_ns, COMPLETE_RANK)
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
        machine.outcome.completing = True
    elif state in _POSTCOPY:
        _postcopy(machine, at_ns, before)
    elif state in _LATER_IN_POSTCOPY:
        changes += postcopy_shown(machine, at_ns, event)
        if state == "postcopy-recover":
            machine.outcome.resumed()
    return changes


def _postcopy(machine: Machine, at_ns: int, before: str | None) -> None:
    machine.mode = Mode.POSTCOPY
    if before != "postcopy-device":
        machine.switch_ns = at_ns
    switchover = machine.switchover
    if before in _STOPPED and machine.phase is PhaseName.COMPLETE_PRECOPY and switchover.end_ns is None:
        switchover.end_ns = at_ns  # QEMU's own mark is better


def _active(machine: Machine, at_ns: int) -> None:
    machine.was_active = True
    is_live(machine)
    if machine.phase is PhaseName.SETUP:
        machine.active_ns = at_ns


def _surprises(before: str | None, state: str) -> list[Change]:
    if state not in states.STATES:
        return [Surprised(SurpriseKind.UNKNOWN_STATE, f"{before} -> {state}")]
    if before is not None and before in states.STATES and state not in states.STATES[before].successors:
        return [Surprised(SurpriseKind.UNEXPECTED_STATE, f"{before} -> {state}")]
    return []


# The guest


def run_state_set(machine: Machine, at_ns: int, event: RunStateSet) -> Sequence[Change]:
    """Apply a change of the guest's run state: a pause, the stop for the switchover, or the end of either."""
    state = event.state
    if state is None:
        return ()
    if event.before == "inmigrate" and machine.side is None:
        learn_side(machine, Side.DESTINATION, at_ns)
    cause = None if event.before is None or machine.guest.is_known else cause_of(event.before)
    if cause is not None:  # run states are enabled, so it was so before the first line
        machine.guest.was_stopped = machine.partial
        machine.guest.stopped(machine.start_ns, cause)
    was_suspended = machine.guest.is_suspended
    machine.guest.set_run_state(at_ns, state)
    _end_downtime_with_resume(machine, at_ns)
    changes = _suspension_changed(machine, at_ns, was_suspended=was_suspended)
    if state == "finish-migrate":
        machine.detector.waits.moved_ns = at_ns
        return [*changes, *complete(machine, at_ns, VM_STOPPING_RANK)]
    if state == "postmigrate" and machine.switchover.end_ns is None and machine.releases[0] < _SINCE_THREAD_COMPUTES:
        # From 2.12 to 8.2 QEMU computes its times between the state `completed` and this, once it has its lock.
        extend(machine, at_ns)
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
