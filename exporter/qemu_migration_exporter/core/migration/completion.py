"""Handlers of the switchover: the stop of the guest, its downtime, and post-copy, which begins with a downtime.

For the start of the downtime, marks have ranks, because no release prints all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, RoundEnded
from qemu_migration_exporter.core.events import Event, LowPending, Pinged, SignalEvent
from qemu_migration_exporter.core.measures.switchover import (
    BEST_RANK,
    COMPLETE_RANK,
    LOW_PENDING_RANK,
    WORST_RANK,
    Switchover,
)
from qemu_migration_exporter.core.migration.ending import end, extend
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.migration.numbers import pending_is
from qemu_migration_exporter.core.migration.phases import (
    active_ended_setup,
    is_live,
    iterating,
    rounds_ended,
    saves_first,
    silent_switch,
)
from qemu_migration_exporter.core.model import Kind, Mode, PhaseName, Side
from qemu_migration_exporter.core.signals import RANKS
from qemu_migration_exporter.core.terms import Signal

#: savevm_send_ping's number that ends the switch to post-copy, postcopy_start() in migration/migration.c.
_POSTCOPY_PING: Final = 4

_BEFORE_POSTCOPY: Final = frozenset({PhaseName.SETUP, PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY})

#: vmstate_downtime_checkpoint came with 8.2.
_LAST_WITHOUT_CHECKPOINTS: Final = (8, 1)


def complete(machine: Machine, at_ns: int, rank: int) -> Sequence[Change]:
    """Enter the switchover, with a mark of this rank for the downtime's start."""
    changes = [*active_ended_setup(machine, at_ns)]
    if machine.mode is Mode.POSTCOPY:
        machine.switch_ns = at_ns
    if machine.phase is PhaseName.ITERATE:
        changes += rounds_ended(machine, at_ns)
        changes += machine.enter(PhaseName.COMPLETE_PRECOPY, at_ns)
    elif machine.phase is None and machine.outcome.at_ns is None and machine.side is not Side.DESTINATION:
        changes += machine.enter(PhaseName.COMPLETE_PRECOPY, at_ns)  # the stream was joined in the middle
    elif machine.phase is PhaseName.SETUP and rank < COMPLETE_RANK:
        machine.kind = Kind.CPR  # these modes stop the guest before setup, and no other job does
        machine.switchover.may_begin(at_ns, rank)
    # A recording that begins with a mark after the stop of the guest does not show when the downtime began.
    is_shown = machine.phases or rank <= LOW_PENDING_RANK
    was_stopped = machine.kind is Kind.CPR and (machine.switchover.start_ns or at_ns) < machine.phase_ns
    if machine.phase is PhaseName.COMPLETE_PRECOPY and is_shown and not was_stopped:
        machine.switchover.may_begin(at_ns, rank)
    return changes


def stopping(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Follow the marks that stop the guest."""
    changes = [*complete(machine, at_ns, RANKS[event.mark])]
    if event.mark in {Signal.VM_STOPPED, Signal.COMPLETE}:
        changes += machine.parts_ended(machine.switchover.stopped(at_ns))
    if event.mark is Signal.COMPLETE:
        machine.outcome.completing = True
    return changes


def low_pending(machine: Machine, at_ns: int, event: LowPending) -> Sequence[Change]:
    """End the iterate phase: pending is below the threshold."""
    if machine.mode is Mode.POSTCOPY:
        return ()
    is_live(machine)
    changes = [*iterating(machine, at_ns, event)]
    if event.pending is not None:
        changes += pending_is(machine, at_ns, event.pending)
    changes += complete(machine, at_ns, LOW_PENDING_RANK)
    return changes


def all_saved(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Record that all data is sent: the source waits for the destination."""
    switchover = machine.switchover
    if machine.phase is PhaseName.COMPLETE_PRECOPY and switchover.all_saved_ns is None:
        switchover.all_saved_ns = at_ns
        is_first = switchover.rank == BEST_RANK and not switchover.checkpoints
        if is_first and machine.mode is Mode.PRECOPY and machine.outcome.state == "active":
            saves_first(machine)  # the checkpoint of RAM, which is before this, is missing
    return ()


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
            outcome.completing |= switchover.has_ram_downtime or switchover.all_saved_ns is not None
            return end(machine, at_ns)
    elif machine.mode is Mode.PRECOPY and outcome.at_ns is not None:
        extend(machine, at_ns)
        if machine.kind is not Kind.SNAPSHOT:  # the guest of a snapshot has run again for a long time
            switchover.end_ns = outcome.at_ns
    return ()


# Post-copy


def postcopy_start(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Begin the switch to post-copy; up to 8.1 QEMU's downtime begins before it waits for its lock."""
    machine.mode = Mode.POSTCOPY
    return complete(machine, at_ns, BEST_RANK if machine.releases[1] <= _LAST_WITHOUT_CHECKPOINTS else WORST_RANK)


def postcopy_sent(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Follow the commands that only post-copy sends; the ping after them marks the downtime's end better than `run`."""
    machine.mode = Mode.POSTCOPY
    changes = complete(machine, at_ns, WORST_RANK)
    if event.mark is Signal.POSTCOPY_RUN and machine.phase is PhaseName.COMPLETE_PRECOPY:
        machine.switchover.end_ns = at_ns
    return changes


def postcopy_end(machine: Machine, at_ns: int, event: Event) -> Sequence[Change]:
    """Record that post-copy has sent all memory: from here on the destination does without the source."""
    machine.outcome.is_all_sent = True
    return postcopy_shown(machine, at_ns, event)


def postcopy_by_silence(machine: Machine, at_ns: int, *, is_over: bool = False) -> Sequence[Change]:
    """Begin the phase post-copy with the last mark of the switch to it, if marks of the switch's end are not enabled.

    Args:
        machine: The migration.
        at_ns: The present.
        is_over: A later state shows that the switch is over.
    """
    switch_ns = machine.switch_ns if is_over else silent_switch(machine, at_ns)
    if switch_ns is None:
        return ()
    machine.switch_ns = None
    is_joined = machine.phase is None and not machine.phases and machine.side is Side.SOURCE
    if not is_joined and (machine.phase not in _BEFORE_POSTCOPY or machine.side is Side.DESTINATION):
        return ()
    changes = active_ended_setup(machine, switch_ns)
    begun_ns = max(switch_ns, machine.phase_ns)  # lines out of order
    return [*changes, *rounds_ended(machine, begun_ns), *machine.enter(PhaseName.POSTCOPY, begun_ns)]


def postcopy_shown(machine: Machine, at_ns: int, event: Event) -> Sequence[Change]:
    """Learn from a later mark of a post-copy that it is one, where the recording begins after the switch to it.

    The apparent stop of the guest was the end of its memory: the guest was stopped before the recording.
    """
    if machine.mode is Mode.POSTCOPY:
        return postcopy_by_silence(machine, at_ns, is_over=True)
    devices = machine.devices_finished(machine.switchover.flush())
    machine.mode, machine.switchover = Mode.POSTCOPY, Switchover(devices=machine.switchover.devices)
    if machine.is_joined_without_sync:
        return [*devices, *_was_postcopy(machine, at_ns)]
    if machine.phase is PhaseName.COMPLETE_PRECOPY:
        machine.phase = PhaseName.POSTCOPY
        machine.recheck()
    return [*devices, *iterating(machine, at_ns, event)]


def _was_postcopy(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Replace the phases and rounds so far by the phase post-copy; a switch in the recording has a bitmap sync."""
    cleared = rounds_ended(machine, at_ns)
    machine.forget_phases()
    machine.precopy.forget_rounds()
    machine.phase, machine.phase_ns = PhaseName.POSTCOPY, machine.start_ns
    return [change for change in cleared if not isinstance(change, RoundEnded)]


def pinged(machine: Machine, at_ns: int, event: Pinged) -> Sequence[Change]:
    """Follow the ping that ends the switch to post-copy."""
    is_end = event.value == _POSTCOPY_PING and machine.mode is Mode.POSTCOPY
    return downtime_end(machine, at_ns, event) if is_end else ()
