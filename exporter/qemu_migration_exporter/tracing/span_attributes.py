"""Span attributes for migrations, rounds and stalls.

One function per kind of span. Names and types are those of `attribute_table`, which the documentation is generated
from. A value of None is left out, because OpenTelemetry has no null.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from qemu_migration_exporter.core.model import (
    Device,
    DowntimePart,
    Identity,
    Migration,
    PhaseName,
    Result,
    Round,
    Stall,
)
from qemu_migration_exporter.present.advice import advice_for
from qemu_migration_exporter.tracing import attribute_table as attributes
from qemu_migration_exporter.tracing.attribute_table import attribute_of

Value = str | bool | int | float
Attributes = dict[str, Value | None]

_ROUND_NUMBERS: Final = (
    "iterations", "transferred_bytes", "pending_at_start_bytes", "pending_at_end_bytes", "dirtied_bytes",
    "dirty_bytes_per_second", "bandwidth_bytes_per_second",
)  # fmt: skip
_STALL_NUMBERS: Final = (
    "round", "pending_bytes", "best_pending_bytes", "best_round", "dirty_bytes_per_second",
    "bandwidth_bytes_per_second", "downtime_limit_seconds", "required_downtime_seconds",
    "required_bandwidth_bytes_per_second", "best_case_seconds",
)  # fmt: skip


def error_type(migration: Migration) -> str:
    """Return an `error.type` of low cardinality: the phase that failed."""
    phases = [phase.name for phase in migration.phases if phase.name is not PhaseName.CLEANUP]
    return f"{phases[-1]}_failed" if phases else "failed"


def identity_attributes(identity: Identity) -> Attributes:
    """Return the attributes that identify a migration, for its first and its last span."""
    return {
        attributes.VM_NAME: identity.vm,
        attributes.VM_UUID: identity.uuid,
        attributes.KIND: identity.kind,
        attributes.SIDE: identity.side,
        attributes.RETRY_OF: identity.retry_of,
    }


def migration_attributes(migration: Migration) -> Attributes:
    """Return the attributes of a migration that ended."""
    progress = migration.progress
    return {
        attributes.RESULT: migration.result,
        attributes.RESULT_INFERRED: migration.result_inferred,
        attributes.PARTIAL: migration.partial,
        attributes.MODE: progress.mode,
        attributes.DURATION: _seconds(migration.duration_ns),
        attributes.SETUP: _seconds(migration.setup_ns),
        attributes.DOWNTIME: _seconds(migration.downtime_ns),
        attributes.BLACKOUT: _seconds(migration.blackout_ns),
        attributes.PAUSES: len(migration.pauses) or None,
        **_downtime_attributes(migration.downtime_parts),
        **_numbers(progress, "downtime_limit_seconds"),
        **device_attributes(migration.devices),
        attributes.ROUNDS: migration.rounds[-1].number if migration.rounds else 0,
        **_numbers(progress, "bitmap_syncs", "iterations", "transferred_bytes", "ram_bytes", "threshold_bytes"),
        **_numbers(progress.verdict, "best_pending_bytes", "best_round", "required_downtime_seconds"),
        attributes.STALLS: len(migration.stalls),
        **_numbers(progress, "throttles", "throttle_ratio", "postcopy_requests"),
        attributes.STACKTRACE: "\n".join(migration.identity.stacktrace) or None,
        attributes.ERROR_TYPE: error_type(migration) if migration.result is Result.FAILED else None,
    }


def round_attributes(round_: Round) -> Attributes:
    """Return the attributes of a round."""
    return {
        attribute_of("round"): round_.number,
        **_numbers(round_, *_ROUND_NUMBERS),
        attributes.INCOMPLETE: True if round_.end_ns is None else None,
    }


def batch_attributes(rounds: Sequence[Round]) -> Attributes:
    """Return the sums of consecutive rounds."""
    first, last = rounds[0], rounds[-1]
    boundaries = [
        (round_.pending_at_start_bytes, round_.number) for round_ in rounds if round_.pending_at_start_bytes is not None
    ]
    best_bytes, best_round = min(boundaries) if boundaries else (None, None)
    return {
        attributes.ROUNDS: len(rounds),
        attribute_of("round"): first.number,
        attributes.LAST_ROUND: last.number,
        attribute_of("iterations"): sum(round_.iterations for round_ in rounds),
        attribute_of("transferred_bytes"): _sum(round_.transferred_bytes for round_ in rounds),
        attribute_of("pending_at_start_bytes"): first.pending_at_start_bytes,
        attribute_of("pending_at_end_bytes"): last.pending_at_end_bytes,
        attribute_of("best_pending_bytes"): best_bytes,
        attribute_of("best_round"): best_round,
        attribute_of("dirtied_bytes"): _sum(round_.dirtied_bytes for round_ in rounds),
        attribute_of("bandwidth_bytes_per_second"): last.bandwidth_bytes_per_second,
    }


def device_attributes(devices: Sequence[Device]) -> Attributes:
    """Return the total time of devices in the downtime and the slowest device; all values are None without devices."""
    timed = [(device.duration_ns, device.name) for device in devices if device.duration_ns is not None]
    slowest_ns, slowest = max(timed, key=lambda pair: pair[0], default=(None, None))
    return {
        attributes.DEVICES: len(devices) or None,
        attributes.DEVICES_SECONDS: sum(duration_ns for duration_ns, _ in timed) / 1e9 if timed else None,
        attributes.SLOWEST_DEVICE: slowest,
        attributes.SLOWEST_DEVICE_SECONDS: _seconds(slowest_ns),
    }


def stall_attributes(identity: Identity, stall: Stall, at_ns: int) -> Attributes:
    """Return the evidence of a stall, and for a stall in force the commands that would end it."""
    advice = advice_for(identity, stall) if stall.end_ns is None else ()
    return {
        attributes.VM_NAME: identity.vm,
        attributes.STALL_REASON: stall.reason,
        attributes.STALL_DURATION: _seconds(at_ns - stall.since_ns),
        **_numbers(stall, *_STALL_NUMBERS),
        attributes.ADVICE: "\n".join(map(str, advice)) or None,
    }


def _downtime_attributes(parts: Sequence[DowntimePart]) -> Attributes:
    return {
        attribute: _seconds(_sum(part.end_ns - part.start_ns for part in parts if part.name is name))
        for name, attribute in attributes.DOWNTIME_PARTS.items()
    }


def _numbers(record: object, *names: str) -> Attributes:
    """Return numbers of a record; a field and its attribute have the same name."""
    return {attribute_of(name): getattr(record, name) for name in names}


def _sum(values: Iterable[int | None]) -> int | None:
    """Add up the known values; None if there are none."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / 1e9
