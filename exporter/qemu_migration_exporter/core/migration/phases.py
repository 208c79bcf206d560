"""Handlers of setup and of the iterate phase.

QEMU's releases print different marks, and operators enable subsets of the events. So no handler relies on an earlier
mark: it enters the phase that its event proves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.events import Event, SignalEvent
from qemu_migration_exporter.core.measures.switchover import COMPLETE_RANK
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.model import Kind, Mode, PhaseName, Side
from qemu_migration_exporter.core.terms import Signal

#: A switch to post-copy prints its marks within milliseconds; only the save of a device, which has marks of its own,
#: takes longer. After a longer silence the marks of its end are not enabled.
_SILENT_SWITCH_NS: Final = 1_000_000_000
#: If a mark of the switch's beginning is enabled, that of its end probably is.
_LONG_SWITCH_NS: Final = 60_000_000_000


def learn_side(machine: Machine, side: Side, at_ns: int) -> None:
    """Set this QEMU's side: source or destination."""
    outcome = machine.outcome
    if side is Side.DESTINATION and (machine.header_seen or (outcome.state == "completed" and not machine.was_active)):
        return  # a destination writes no header and is `active` first: a snapshot was saved, and now one is loaded
    machine.side = side
    machine.recheck()
    if side is Side.DESTINATION and PhaseName.SETUP in {machine.phase, *(phase.name for phase in machine.phases)}:
        # A destination is in `setup` from the moment it listens, maybe for hours (8.2 and later).
        machine.forget_phases()
        if outcome.left_loop_ns is None:
            begun_ns = at_ns if machine.active_ns is None else machine.active_ns
            machine.start_ns = machine.phase_ns = min(begun_ns, outcome.at_ns or begun_ns)


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


def header(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Begin the phase setup at the stream's header, which is later than the state `setup`."""
    machine.thread = event.thread
    if machine.outcome.at_ns is not None or machine.header_seen:
        return ()
    if machine.stops_first:
        machine.phase, machine.kind, machine.partial = PhaseName.SETUP, Kind.CPR, False
    machine.header_seen = True
    if machine.phase is None or machine.phase is PhaseName.SETUP:
        machine.phase, machine.phase_ns = PhaseName.SETUP, at_ns
        machine.recheck()
    return ()


def setup_complete(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """End setup and begin the bulk round."""
    is_live(machine)
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
        if known_ns is None and machine.switch_ns is not None:  # the lines of pre-copy are missing
            return machine.enter(PhaseName.POSTCOPY, max(machine.switch_ns, machine.phase_ns))
        changes = _begin_rounds(machine, known_ns or at_ns, event.thread)
        if known_ns is None:
            machine.setup_ns = None
        return changes
    if machine.mode is Mode.POSTCOPY and machine.phase in {PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY}:
        begun_ns = max(silent_switch(machine, at_ns) or at_ns, machine.phase_ns)
        return [*rounds_ended(machine, begun_ns), *machine.enter(PhaseName.POSTCOPY, begun_ns)]
    return ()


def silent_switch(machine: Machine, at_ns: int) -> int | None:
    """Return the time of the last mark of a switch to post-copy whose end prints no mark; None if it may come."""
    switch_ns, switchover = machine.switch_ns, machine.switchover
    if switch_ns is None or switchover.section is not None:
        return None
    longest_ns = _SILENT_SWITCH_NS if switchover.rank >= COMPLETE_RANK else _LONG_SWITCH_NS
    return switch_ns if at_ns - switch_ns > longest_ns else None


def active_ended_setup(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Begin the iterate phase with the state `active`, if no other mark of setup's end is enabled."""
    if machine.phase is PhaseName.SETUP and machine.active_ns is not None:
        return iterating(machine, at_ns, SignalEvent(at_ns, machine.thread, Signal.OTHER))
    return ()


def is_live(machine: Machine) -> None:
    """Correct the kind from snapshot to live: only a migration thread prints this mark, and savevm has no thread."""
    if machine.kind is Kind.SNAPSHOT and not machine.parameters.is_background_snapshot and not machine.saves_first:
        machine.kind = Kind.LIVE


def saves_first(machine: Machine) -> None:
    """Recognise a background snapshot: it stops the guest, saves its devices, and sends memory while it runs again."""
    machine.kind, machine.saves_first = Kind.SNAPSHOT, True


def rounds_ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    """End the rounds, and with them a stall of the rounds."""
    cleared = machine.detector.rounds_ended(at_ns) if machine.may_stall else ()
    return [*machine.precopy.end(at_ns), *cleared]
