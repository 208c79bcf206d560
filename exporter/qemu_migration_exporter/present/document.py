"""The report as JSON: what was read, and the migrations found in it. Seconds and bytes; null is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qemu_migration_exporter.core.model import Device, Migration, Phase, PhaseName, Round, Stall, Verdict
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.advice import Advice, migration_advice
from qemu_migration_exporter.present.units import moment_of

Document = Mapping[str, Any]


def document(streams: Sequence[Stream], migrations: Sequence[Migration]) -> Document:
    """Make the whole report, ready for `json.dumps`."""
    return {
        "streams": [stream_document(stream) for stream in streams],
        "migrations": [migration_document(migration) for migration in migrations],
    }


def stream_document(stream: Stream) -> Document:
    """Say what was read of one stream."""
    counts = stream.counts
    return {
        "name": stream.name,
        "format": stream.format_name,
        "clock": stream.clock_kind,
        "lines": counts.lines,
        "events": counts.events,
        "noise": counts.noise,
        "malformed": counts.malformed,
        "surprises": counts.surprises.total(),
    }


def migration_document(migration: Migration) -> Document:
    """Say everything about one migration."""
    identity, progress, start_ns = migration.identity, migration.progress, migration.identity.start_ns
    return {
        "vm": identity.vm,
        "uuid": identity.uuid,
        "trace_id": identity.trace_id,
        "side": identity.side,
        "stream": identity.stream,
        "result": migration.result,
        "result_inferred": migration.result_inferred,
        "partial": migration.partial,
        "error": migration.error,
        "mode": progress.mode,
        "clock": identity.clock,
        "start_time": rfc3339(start_ns),
        "duration_seconds": _seconds(migration.duration_ns),
        "setup_seconds": _seconds(migration.setup_ns),
        "downtime_seconds": _seconds(migration.downtime_ns),
        "bitmap_syncs": progress.bitmap_syncs,
        "iterations": progress.iterations,
        "transferred_bytes": progress.transferred_bytes,
        "ram_bytes": progress.ram_bytes,
        "downtime_limit_seconds": progress.downtime_limit_seconds,
        "throttles": progress.throttles,
        "throttle_ratio": progress.throttle_ratio,
        "postcopy_requests": progress.postcopy_requests,
        "rounds": [_round(each, start_ns) for each in migration.rounds],
        "phases": [_phase(phase, migration) for phase in migration.phases],
        "devices": [_device(device) for device in migration.devices],
        "stalls": [_stall(stall, start_ns) for stall in migration.stalls],
        "verdict": _verdict(progress.verdict, migration_advice(migration), start_ns),
    }


def rfc3339(at_ns: int) -> str:
    """Write a time as RFC 3339, in UTC and to the microsecond."""
    return moment_of(at_ns).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _round(each: Round, start_ns: int) -> Document:
    return {
        "number": each.number,
        "start_seconds": _seconds(each.start_ns - start_ns),
        "duration_seconds": None if each.end_ns is None else _seconds(each.end_ns - each.start_ns),
        "iterations": each.iterations,
        "transferred_bytes": each.transferred_bytes,
        "pending_at_start_bytes": each.pending_at_start_bytes,
        "pending_at_end_bytes": each.pending_at_end_bytes,
        "dirtied_bytes": each.dirtied_bytes,
        "dirty_bytes_per_second": each.dirty_bytes_per_second,
        "bandwidth_bytes_per_second": each.bandwidth_bytes_per_second,
    }


def _phase(phase: Phase, migration: Migration) -> Document:
    # On a reconstructed clock only the iterate phase takes time.
    known = phase.end_ns is not None and (migration.timed or phase.name is PhaseName.ITERATE)
    return {
        "name": phase.name,
        "start_seconds": _seconds(phase.start_ns - migration.identity.start_ns),
        "duration_seconds": _seconds(phase.end_ns - phase.start_ns) if known and phase.end_ns is not None else None,
    }


def _device(device: Device) -> Document:
    return {
        "name": device.name,
        "instance": device.instance,
        "duration_seconds": _seconds(device.duration_ns),
    }


def _stall(stall: Stall, start_ns: int) -> Document:
    return {
        "start_seconds": _seconds(stall.start_ns - start_ns),
        "end_seconds": None if stall.end_ns is None else _seconds(stall.end_ns - start_ns),
        "reason": stall.reason,
    }


def _verdict(verdict: Verdict, advice: Sequence[Advice], start_ns: int) -> Document:
    since_ns = verdict.stalled_since_ns
    return {
        "converging": verdict.converging,
        "stalled_since_seconds": None if since_ns is None else _seconds(since_ns - start_ns),
        "reason": verdict.reason,
        "best_pending_bytes": verdict.best_pending_bytes,
        "best_round": verdict.best_round,
        "eta_seconds": None if verdict.eta_seconds is None else list(verdict.eta_seconds),
        "required_downtime_seconds": verdict.required_downtime_seconds,
        "required_bandwidth_bytes_per_second": verdict.required_bandwidth_bytes_per_second,
        "advice": list(map(str, advice)),
    }


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / 1e9
