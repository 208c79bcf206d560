"""Handlers of the marks that only a destination prints.

    device loads ──> read to its end ──> guest started ──> cleanup

If states are enabled, they end the migration. Without them, the last of these marks does. A stream that has nothing but
loads of devices does not show an end: silence ends it, with an unknown result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.events import DeviceLoaded, LoadReturned, SignalEvent
from qemu_migration_exporter.core.migration.ending import end, extend
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.model import DowntimePart, DowntimePartName, Mode

#: PostcopyState of migration/postcopy-ram.h: from here on pages are loaded while the guest runs.
_LISTENING: Final = 3

#: The same as in `qemu_migration_exporter.core.measures.switchover`.
_MAX_LOADS: Final = 4_096
_MAX_NAME: Final = 256
_RAM: Final = "ram"


def device_loaded(machine: Machine, at_ns: int, event: DeviceLoaded) -> Sequence[Change]:
    """Add the load of a device; after that of the memory, the others follow within the downtime."""
    if machine.partial and machine.start_ns == at_ns and not machine.loads and event.downtime_us:
        machine.start_ns = machine.phase_ns = at_ns - event.downtime_us * 1_000  # the first event is the end of a load
    if event.idstr == _RAM or machine.outcome.left_loop_ns is not None:
        _loaded_until(machine, at_ns)
    if machine.is_timed and event.downtime_us and len(machine.loads) < _MAX_LOADS:
        is_ram = event.idstr == _RAM
        machine.loads.append(
            DowntimePart(
                name=DowntimePartName.RAM if is_ram else DowntimePartName.DEVICE,
                start_ns=max(at_ns - event.downtime_us * 1_000, machine.start_ns),
                end_ns=at_ns,
                device=None if is_ram or event.idstr is None else event.idstr[:_MAX_NAME],
            )
        )
    return ()


def loaded(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Follow the end of the last device, after which an error may still come."""
    _loaded_until(machine, at_ns)
    return ()


def _loaded_until(machine: Machine, at_ns: int) -> None:
    """Record the last load, after which silence ends the migration if states are not enabled."""
    if machine.outcome.state is None:
        machine.outcome.left_loop_ns = machine.end_ns = at_ns


def load_returned(machine: Machine, at_ns: int, event: LoadReturned) -> Sequence[Change]:
    """Follow the end of reading; post-copy goes on after it, which releases from 10.2 on do not print here."""
    if event.ret is None:
        return ()
    outcome = machine.outcome
    if event.ret < 0:
        outcome.broke()
        return _ended(machine, at_ns)
    if event.postcopy is not None and event.postcopy >= _LISTENING:
        machine.mode = Mode.POSTCOPY
    outcome.is_all_read = True
    _loaded_until(machine, at_ns)
    if event.postcopy is None or machine.mode is Mode.POSTCOPY:
        return ()
    return _ended(machine, at_ns)


def loads_postcopy(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Learn that the guest runs here before all of its memory is here."""
    machine.mode = Mode.POSTCOPY
    _loaded_until(machine, at_ns)
    return ()


def guest_started(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Follow the start of the guest, which ends an incoming pre-copy."""
    machine.outcome.is_all_read = True
    return _ended(machine, at_ns)


def load_cleanup(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Follow the destination's cleanup."""
    return _ended(machine, at_ns)


def _ended(machine: Machine, at_ns: int) -> Sequence[Change]:
    """End the migration if states are not enabled; a later mark extends it."""
    outcome = machine.outcome
    if outcome.state is not None:
        return ()
    outcome.completing |= outcome.is_all_read and not outcome.failing
    if outcome.at_ns is None:
        return end(machine, at_ns)
    extend(machine, at_ns)
    return ()
