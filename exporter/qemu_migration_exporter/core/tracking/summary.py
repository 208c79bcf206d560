"""The numbers of a migration at one moment, computed from its machine when they are read."""

from __future__ import annotations

from qemu_migration_exporter.core.model import Migration, Mode, Phase, PhaseName, Progress
from qemu_migration_exporter.core.tracking.machine import Machine


def progress(machine: Machine) -> Progress:
    """Return the present numbers."""
    precopy, outcome = machine.precopy, machine.outcome
    requests_unknown = machine.mode is Mode.POSTCOPY and machine.postcopy_requests == 0
    return Progress(
        phase=PhaseName.CLEANUP if outcome.at_ns is not None else machine.phase,
        state=outcome.state,
        mode=machine.mode,
        round=precopy.round,
        pending_bytes=precopy.pending,
        threshold_bytes=precopy.threshold,
        ram_bytes=precopy.ram,
        bandwidth_bytes_per_second=precopy.bandwidth,
        dirty_bytes_per_second=precopy.dirty_bytes_per_second,
        downtime_limit_seconds=precopy.downtime_limit_seconds,
        throttle_ratio=machine.throttle_ratio,
        transferred_bytes=precopy.transferred,
        bitmap_syncs=precopy.syncs,
        iterations=precopy.slices,
        throttles=machine.throttles,
        postcopy_requests=None if requests_unknown else machine.postcopy_requests,
        last_progress_ns=machine.detector.progress_ns,
        verdict=machine.detector.verdict(
            machine.last_ns,
            converged=machine.mode is Mode.PRECOPY and outcome.completing,
            is_over=outcome.at_ns is not None,
            numbers=precopy,
            parameters=machine.parameters,
        ),
    )


def migration(machine: Machine) -> Migration:
    """Return the whole migration; before its end, as far as it is known."""
    outcome = machine.outcome
    result, inferred = outcome.result()
    downtime = _downtime(machine)
    return Migration(
        identity=machine.identity,
        result=result,
        result_inferred=inferred,
        partial=machine.partial or outcome.at_ns is None,
        error=outcome.error(),
        outcome_ns=outcome.at_ns,
        end_ns=max(machine.end_ns, outcome.at_ns or 0),
        setup_ns=machine.setup_ns if machine.is_timed else None,
        downtime_ns=None if downtime is None else downtime[1] - downtime[0],
        downtime_start_ns=None if downtime is None else downtime[0],
        progress=progress(machine),
        rounds=tuple(machine.precopy.all_rounds()),
        phases=(*machine.phases, *_open_phase(machine)),
        devices=tuple(machine.switchover.devices),
        stalls=tuple(machine.detector.stalls),
    )


def _downtime(machine: Machine) -> tuple[int, int] | None:
    """Return the start and end of QEMU's own downtime, None if one of them is not known."""
    start_ns, end_ns = machine.switchover.start_ns, machine.switchover.end_ns
    if machine.mode is Mode.PRECOPY and end_ns is None:
        end_ns = machine.outcome.at_ns
    if not machine.is_timed or start_ns is None or end_ns is None or start_ns > end_ns:
        return None
    return start_ns, end_ns


def _open_phase(machine: Machine) -> list[Phase]:
    """Return the phase that has not ended; cleanup is none as long as nothing was cleaned up."""
    if machine.phase is None or machine.phase is PhaseName.CLEANUP:
        return []
    return [Phase(name=machine.phase, start_ns=machine.phase_ns, end_ns=None)]
