"""What spans say of a migration, a round and a stall."""

from __future__ import annotations

from qemu_migration_exporter.core.model import Identity, Migration, PhaseName, Result, Round, Stall
from qemu_migration_exporter.present.advice import advice_for
from qemu_migration_exporter.tracing import attribute_table as names
from qemu_migration_exporter.tracing.emitter import Value
from qemu_migration_exporter.tracing.trace_limits import device_attributes


def error_type(migration: Migration) -> str:
    """Class a failure by where it happened: a bounded set, as error.type has to be."""
    names_of_phases = [phase.name for phase in migration.phases if phase.name is not PhaseName.CLEANUP]
    return f"{names_of_phases[-1]}_failed" if names_of_phases else "failed"


def described(identity: Identity) -> dict[str, Value | None]:
    """Say whose migration it is: on its first span, and on its last."""
    return {
        names.VM_NAME: identity.vm,
        names.VM_UUID: identity.uuid,
        names.SIDE: identity.side,
    }


def summed_up(migration: Migration) -> dict[str, Value | None]:
    """Say what came of it."""
    progress = migration.progress
    return {
        names.RESULT: migration.result,
        names.RESULT_INFERRED: migration.result_inferred,
        names.PARTIAL: migration.partial,
        names.MODE: progress.mode,
        names.DURATION: _seconds(migration.duration_ns),
        names.SETUP: _seconds(migration.setup_ns),
        names.DOWNTIME: _seconds(migration.downtime_ns),
        names.DOWNTIME_LIMIT: progress.downtime_limit_seconds,
        **device_attributes(migration.devices),
        names.ROUNDS: migration.rounds[-1].number if migration.rounds else 0,
        names.BITMAP_SYNCS: progress.bitmap_syncs,
        names.ITERATIONS: progress.iterations,
        names.TRANSFERRED_BYTES: progress.transferred_bytes,
        names.RAM_BYTES: progress.ram_bytes,
        names.THRESHOLD_BYTES: progress.threshold_bytes,
        names.BEST_PENDING_BYTES: progress.verdict.best_pending_bytes,
        names.BEST_ROUND: progress.verdict.best_round,
        names.REQUIRED_DOWNTIME: progress.verdict.required_downtime_seconds,
        names.STALLS: len(migration.stalls),
        names.THROTTLES: progress.throttles,
        names.POSTCOPY_REQUESTS: progress.postcopy_requests,
        names.STACKTRACE: "\n".join(migration.identity.stacktrace) or None,
        names.ERROR_TYPE: error_type(migration) if migration.result is Result.FAILED else None,
    }


def of_round(each: Round) -> dict[str, Value | None]:
    """Say what was sent and dirtied in a round."""
    return {
        names.ROUND: each.number,
        names.ITERATIONS: each.iterations,
        names.TRANSFERRED_BYTES: each.transferred_bytes,
        names.PENDING_AT_START_BYTES: each.pending_at_start_bytes,
        names.PENDING_AT_END_BYTES: each.pending_at_end_bytes,
        names.DIRTIED_BYTES: each.dirtied_bytes,
        names.DIRTY_BYTES_PER_SECOND: each.dirty_bytes_per_second,
        names.BANDWIDTH_BYTES_PER_SECOND: each.bandwidth_bytes_per_second,
        names.INCOMPLETE: True if each.end_ns is None else None,
    }


def of_stall(identity: Identity, stall: Stall, at_ns: int) -> dict[str, Value | None]:
    """Say what a stall was judged by; what would end it, as long as it holds."""
    return {
        names.STALL_REASON: stall.reason,
        names.STALL_DURATION: _seconds(at_ns - stall.since_ns),
        names.ROUND: stall.round,
        names.PENDING_BYTES: stall.pending_bytes,
        names.BEST_PENDING_BYTES: stall.best_pending_bytes,
        names.BEST_ROUND: stall.best_round,
        names.DIRTY_BYTES_PER_SECOND: stall.dirty_bytes_per_second,
        names.BANDWIDTH_BYTES_PER_SECOND: stall.bandwidth_bytes_per_second,
        names.DOWNTIME_LIMIT: stall.downtime_limit_seconds,
        names.REQUIRED_DOWNTIME: stall.required_downtime_seconds,
        names.REQUIRED_BANDWIDTH: stall.required_bandwidth_bytes_per_second,
        names.ADVICE: "\n".join(map(str, advice_for(identity, stall))) or None if stall.end_ns is None else None,
    }


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / 1e9
