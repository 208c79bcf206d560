"""Handlers of the events that carry numbers: rounds, bandwidth, devices, throttle, and the texts of errors.

Each handler updates one number of the machine and returns the changes that follow. Pending bytes and bandwidth
windows go to pre-copy and to the stall detector, devices and downtime marks to the switchover, and texts of errors to
the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.events import (
    DeviceDowntime,
    DeviceSaved,
    ErrorReported,
    ErrorSet,
    Pending,
    PostcopyRequests,
    SectionEnded,
    SectionStarted,
    SignalEvent,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.migration.outcome import LOAD_FAILED
from qemu_migration_exporter.core.migration.phases import iterating, learn_side, saves_first
from qemu_migration_exporter.core.model import DowntimePartName, Kind, Mode, PhaseName, Side

#: The same as in `qemu_migration_exporter.core.measures.switchover`.
_MAX_LOADS: Final = 4_096
_MAX_NAME: Final = 256

#: Members that are compared for each line: looking a member up in its class takes 0.1 µs in Python 3.11, a global
#: nothing. Pending bytes and slices are applied in 0.7 of the time.
_ITERATE: Final = PhaseName.ITERATE
_COMPLETE_PRECOPY: Final = PhaseName.COMPLETE_PRECOPY
_POSTCOPY: Final = Mode.POSTCOPY
_LIVE: Final = Kind.LIVE

# Rounds, syncs, bandwidth


def pending_seen(machine: Machine, at_ns: int, event: Pending) -> Sequence[Change]:
    """Record the bytes still to send."""
    if event.final:  # asked inside the switchover
        return ()
    changes: Sequence[Change] = ()
    if machine.phase is not _ITERATE or machine.mode is _POSTCOPY:
        _find_savevm(machine)
        changes = iterating(machine, at_ns, event)
    if event.threshold != machine.precopy.threshold:
        machine.precopy.threshold_seen(event)
    if event.size is None:
        return changes
    stalls = pending_is(machine, at_ns, event.size, event.postcopy)
    return [*changes, *stalls] if changes or stalls else ()


def pending_is(machine: Machine, at_ns: int, size: int, postcopy: int | None = None) -> Sequence[Change]:
    """Set the pending bytes; at a boundary, pass them to the detector."""
    precopy, detector = machine.precopy, machine.detector
    if size != precopy.pending:
        detector.waits.moved_ns = at_ns
    if not precopy.sends:
        machine.recheck()
    is_boundary = precopy.pending_seen(size, postcopy=postcopy)
    if not ((is_boundary or precopy.is_bulk) and machine.may_stall):
        return ()
    changes = detector.pending_seen(at_ns, size, is_boundary=is_boundary, numbers=precopy)
    if detector.next_check_ns == 0:
        machine.recheck()
    return changes


def _find_savevm(machine: Machine) -> None:
    """Recognise savevm, which sends in the state `setup` before any mark of setup's end."""
    if machine.outcome.state == "setup":
        machine.kind = Kind.SNAPSHOT


def iterated(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Count a slice."""
    changes: Sequence[Change] = ()
    if machine.mode is _POSTCOPY:
        changes = iterating(machine, at_ns, event)
    elif machine.phase is _COMPLETE_PRECOPY and machine.outcome.state == "active":
        saves_first(machine)
    elif machine.phase is not _ITERATE:
        _find_savevm(machine)
    if not machine.precopy.sends:
        machine.recheck()
    finished = machine.precopy.slice_seen()
    return [*changes, *finished] if changes or finished else ()


def transferred_seen(machine: Machine, at_ns: int, event: Transferred) -> Sequence[Change]:
    """Add a bandwidth window, and judge the boundary before it."""
    if event.transferred:
        machine.detector.waits.moved_ns = at_ns
    if not machine.precopy.sends:
        machine.recheck()
    changes = machine.precopy.window_seen(at_ns, event)
    if machine.phase is not _ITERATE or not machine.may_stall:
        return changes
    # A save or a dump is no convergence problem: it has no downtime to fit into.
    machine.detector.judges_rounds = machine.kind is _LIVE
    judged = machine.detector.window_seen(at_ns, event, machine.precopy, machine.parameters)
    return [*changes, *judged] if judged else changes


def sync_started(machine: Machine, at_ns: int, event: SignalEvent) -> Sequence[Change]:
    """Begin a bitmap sync, which begins a round on the migration thread in the iterate phase."""
    on_thread = event.thread is None or machine.thread is None or event.thread == machine.thread
    begins_round = machine.phase is _ITERATE and on_thread and not machine.throttle_sync
    machine.throttle_sync = False
    stacktrace, machine.sync_stacktrace = machine.sync_stacktrace, ()
    return machine.precopy.sync_started(at_ns, phase=machine.phase, begins_round=begins_round, stacktrace=stacktrace)


def sync_ended(machine: Machine, at_ns: int, event: SyncEnded) -> Sequence[Change]:
    """End a bitmap sync; with the guest stopped it is a part of the downtime."""
    if machine.phase is _COMPLETE_PRECOPY and machine.precopy.open_sync is not None:
        machine.switchover.add(DowntimePartName.BITMAP_SYNC, machine.precopy.open_sync.start_ns, at_ns)
    return machine.precopy.sync_ended(at_ns, event, phase=machine.phase)


# Devices


def section_started(machine: Machine, at_ns: int, event: SectionStarted) -> Sequence[Change]:
    """Begin a device's section of the stream."""
    # In a stream that was joined, the next line shows whether this is the switchover.
    if machine.phase is not _COMPLETE_PRECOPY and not (machine.phase is None and machine.partial):
        return ()
    return machine.devices_finished(machine.switchover.section_started(at_ns, event))


def device_saved(machine: Machine, at_ns: int, event: DeviceSaved) -> Sequence[Change]:
    """Record the device in the open section; QEMU saves devices in the switchover only."""
    if machine.phase is None and machine.partial and machine.outcome.at_ns is None:
        return [
            *machine.enter(_COMPLETE_PRECOPY, at_ns),
            *machine.devices_finished(machine.switchover.device_saved(at_ns, event)),
        ]
    if machine.phase is not _COMPLETE_PRECOPY:
        return ()
    return machine.devices_finished(machine.switchover.device_saved(at_ns, event))


def section_ended(machine: Machine, at_ns: int, event: SectionEnded) -> Sequence[Change]:
    """End a device's section of the stream."""
    if machine.phase is not _COMPLETE_PRECOPY:
        return ()
    return machine.parts_ended(machine.switchover.section_ended(at_ns, event, timed=machine.is_timed))


def device_downtime(machine: Machine, at_ns: int, event: DeviceDowntime) -> Sequence[Change]:
    """Add QEMU's own measure of a device."""
    if machine.phase is not _COMPLETE_PRECOPY:
        return ()
    devices = machine.devices_finished(machine.switchover.device_downtime(at_ns, event))
    return [*devices, *machine.parts_ended(machine.switchover.ram_downtime(at_ns, event))]


def iterable_saved(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """End RAM's last pass."""
    if machine.phase is not _COMPLETE_PRECOPY:
        return ()
    machine.switchover.checkpoint_seen()
    return machine.parts_ended(machine.switchover.iterable_saved(at_ns))


# Throttle, page requests, errors


def throttled(machine: Machine, at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Count a step of auto-converge."""
    machine.throttles += 1
    return _throttle_changed(machine, at_ns)


def throttle_set(machine: Machine, at_ns: int, event: ThrottleSet) -> Sequence[Change]:
    """Set the throttle's percentage."""
    if event.percentage is None:
        return ()
    machine.throttle_ratio = event.percentage / 100
    return _throttle_changed(machine, at_ns)


def _throttle_changed(machine: Machine, at_ns: int) -> Sequence[Change]:
    machine.detector.throttled(
        at_ns, steps=machine.throttles, ratio=machine.throttle_ratio, parameters=machine.parameters
    )
    return ()


def throttle_syncs(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Mark the next bitmap sync as the throttle's own."""
    machine.throttle_sync = True
    return ()


def dirty_limited(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Learn that the capability dirty-limit is on, which holds for the next migration too."""
    machine.parameters.capabilities["dirty-limit"] = True
    return ()


def postcopy_request(machine: Machine, _at_ns: int, _event: SignalEvent) -> Sequence[Change]:
    """Count a page request."""
    machine.postcopy_requests += 1
    return ()


def postcopy_requests_counted(machine: Machine, _at_ns: int, event: PostcopyRequests) -> Sequence[Change]:
    """Add page requests that a probe counted."""
    machine.postcopy_requests += event.requests or 0
    return ()


def error_set(machine: Machine, at_ns: int, event: ErrorSet) -> Sequence[Change]:
    """Record QEMU's own error."""
    _learn_side_by(machine, at_ns, event.text)
    machine.outcome.error_set(event.text)
    return ()


def error_reported(machine: Machine, at_ns: int, event: ErrorReported) -> Sequence[Change]:
    """Record a line of error_report()."""
    _learn_side_by(machine, at_ns, event.text)
    machine.outcome.error_reported(at_ns, event.text)
    return ()


def _learn_side_by(machine: Machine, at_ns: int, text: str | None) -> None:
    """Learn from the text of an error that this is a destination."""
    if machine.side is None and text is not None and text.startswith(LOAD_FAILED):
        learn_side(machine, Side.DESTINATION, at_ns)
