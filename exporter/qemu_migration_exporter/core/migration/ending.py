"""Handlers of failures, of cleanup, and of the end of a migration.

The outcome has a time and evidence. Marks that come later may move the time: the last call of `end` counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, PreSwitchoverEnded
from qemu_migration_exporter.core.events import (
    ChannelFailed,
    SignalEvent,
)
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.migration.phases import active_ended_setup, is_live
from qemu_migration_exporter.core.model import Kind, Mode, PhaseName, Result, Side

#: Up to 2.10 QEMU computes its times when the thread has left its loop.
_LAST_COMPUTING_AFTER_LOOP: Final = (2, 10)
#: A QEMU that sends prints ten lines a second, and libvirt notices a crash some seconds later, when the core is dumped.
_DUMPING_NS: Final = 60_000_000_000

#: libvirt's reasons for the end of a QEMU after a successful migration or save.
_WELL_ENDED: Final = ("reason=migrated", "reason=saved")


def end(machine: Machine, at_ns: int) -> Sequence[Change]:
    """Set the outcome's time; the last call counts."""
    changes = [*wait_ended(machine, at_ns), *active_ended_setup(machine, at_ns)]
    machine.outcome.at_ns, machine.end_ns = at_ns, max(at_ns, machine.end_ns)
    if machine.phase is not PhaseName.CLEANUP:
        changes += machine.precopy.end(at_ns)
        changes += machine.leave(at_ns)
    changes += machine.precopy.close()
    return changes


def wait_ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    """End the wait for `migrate-continue`, if there is one."""
    began_ns = machine.switchover.wait_ends(at_ns)
    return () if began_ns is None else [PreSwitchoverEnded(machine.trace_id, began_ns, at_ns)]


def extend(machine: Machine, at_ns: int) -> None:
    """Move the outcome of a completed migration to the moment at which QEMU computed its times."""
    outcome = machine.outcome
    if outcome.at_ns is not None and outcome.result()[0] is Result.COMPLETED:
        outcome.at_ns = max(at_ns, outcome.at_ns)
        machine.end_ns = max(at_ns, machine.end_ns)


def after_loop(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Follow the migration thread out of its loop."""
    if machine.phase is PhaseName.CLEANUP:
        return ()
    is_live(machine)
    changes: list[Change] = []
    machine.outcome.left_loop_ns = machine.end_ns = at_ns
    if machine.releases[1] <= _LAST_COMPUTING_AFTER_LOOP:
        extend(machine, at_ns)
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
    """Record a request to cancel, which QEMU prints at every exit too, and a destination then only."""
    if machine.side is not Side.DESTINATION and machine.outcome.at_ns is None:
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


def failing(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Record a failure that may end the migration."""
    machine.outcome.broke()
    return ()


def resumed(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Continue post-copy over a new connection."""
    machine.outcome.resumed()
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
        outcome.left_loop_ns, outcome.is_late = at_ns, True
        return end(machine, at_ns)
    if outcome.completing and outcome.state is None and machine.mode is Mode.PRECOPY and not outcome.failing:
        return end(machine, last_ns)  # states are not enabled, and a QEMU that completed is ended
    outcome.qemu_ended = text
    has_fallen_silent = machine.phase is PhaseName.ITERATE and machine.detector.last_reported_ns <= last_ns
    if text.endswith("reason=crashed") and has_fallen_silent and at_ns - last_ns < _DUMPING_NS:
        return end(machine, last_ns)
    return end(machine, at_ns)
