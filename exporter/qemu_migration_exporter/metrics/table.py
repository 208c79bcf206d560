"""All metrics: name, type, labels and help with its source in QEMU, in the order of the exposition.

`make reference` writes docs/metrics.md from these tables. A help text names the trace event that a number comes from
and the first QEMU release that has it. Rows of a virtual machine or a stream also read their numbers, so that such a
metric is only a row here. Numbers that spans have too are rows of `qemu_migration_exporter.present.numbers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any, Final

from qemu_migration_exporter.core.model import PhaseName, Progress, Result, StallReason, SurpriseKind
from qemu_migration_exporter.metrics.families import Metric, Reading
from qemu_migration_exporter.metrics.vm_state import NS, LastMigration, VmState, seconds
from qemu_migration_exporter.present.numbers import COUNTERS, GAUGES, Number

#: Total time: buckets at most double where most migrations are, 5 s to 5 min.
_DURATIONS: Final = (0.1, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 300, 600, 1200, 1800, 3600, 7200)
#: Downtime: at most double around QEMU's default limit of 0.3 s, and up to the timeouts of cluster heartbeats.
_DOWNTIMES: Final = (
    0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30,
)  # fmt: skip
#: A blackout is a downtime, or a pause by an operator that lasts much longer.
_BLACKOUTS: Final = (*_DOWNTIMES[:-1], 20, 30, 60, 120, 240, 300, 600, 1800, 3600)
#: A sync reads one bit per page: microseconds for a small guest, a second for terabytes.
_SYNCS: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
_ROUNDS: Final = (
    0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 180, 300, 600,
)  # fmt: skip
_PHASES: Final = (0.001, 0.003, *_ROUNDS, 1800, 3600)


def _one_hot(states: type[StrEnum]) -> dict[StrEnum | None, tuple[int, ...]]:
    """Return the readings in every present state: 1 for that state and 0 for others; all are 0 without a state."""
    return {present: tuple(int(state is present) for state in states) for present in (None, *states)}


_PHASE_READINGS: Final = _one_hot(PhaseName)
_REASON_READINGS: Final = _one_hot(StallReason)
_RESULT_READINGS: Final = _one_hot(Result)


def _vm(name: str, help_text: str, read: Callable[[VmState], Reading]) -> Metric:
    return Metric(f"qemu_migration_{name}", "gauge", help_text, ("vm",), read=read)


def _progress(name: str, help_text: str, read: Callable[[Progress], Reading]) -> Metric:
    return _vm(name, help_text, lambda vm: None if vm.progress is None else read(vm.progress))


def _last(name: str, help_text: str, read: Callable[[LastMigration], Reading]) -> Metric:
    return _vm(name, help_text, lambda vm: None if vm.last is None else read(vm.last))


def _states(
    name: str, help_text: str, label: str, states: Iterable[StrEnum], read: Callable[[VmState], Reading]
) -> Metric:
    values = tuple(state.value for state in states)
    return Metric(f"qemu_migration_{name}", "gauge", help_text, ("vm", label), read=read, states=values)


def _gauge(number: Number) -> Metric:
    return _progress(number.name, number.description, number.read)


def _counter(number: Number) -> Metric:
    name = f"qemu_migration_{number.name}_total"
    return Metric(name, "counter", number.description, ("vm",), read=lambda vm: vm.total(number.name))


def _info(vm: VmState) -> Reading:
    identity, progress = vm.identity, vm.progress
    mode = progress.mode if progress is not None else "precopy"
    return (identity.vm, identity.uuid or "", identity.trace_id, identity.side or "source", mode, identity.kind)


#: Series of a virtual machine; all but the first exist for outgoing migrations only.
OUTGOING: Final = (
    Metric(
        "qemu_migration_info",
        "gauge",
        "Newest migration of a virtual machine on each side; trace_id leads to its trace.",
        ("vm", "uuid", "trace_id", "side", "mode", "kind"),
        read=_info,
    ),
    _vm(
        "active",
        "1 while an outgoing migration runs (migrate_set_state, 2.0 and later).",
        lambda vm: 0 if vm.end_ns is not None else 1,
    ),
    _states(
        "phase",
        "1 for the phase in force: migration_thread_setup_complete, _low_pending, _after_loop (2.5 and later).",
        "phase",
        PhaseName,
        lambda vm: _PHASE_READINGS[vm.progress.phase if vm.progress is not None else None],
    ),
    *map(_gauge, GAUGES),
    _vm(
        "stalled",
        "1 while the migration makes no progress towards its end; 0 at the outcome.",
        lambda vm: int(vm.stalled_since_ns is not None),
    ),
    _vm(
        "stalled_since_timestamp_seconds",
        "Start of the stall in force: its best round, or the start of the wait; 0 if the migration is not stalled.",
        lambda vm: seconds(vm.stalled_since_ns) or 0,
    ),
    _states(
        "stall_reason",
        "1 for the reason of the stall in force.",
        "reason",
        StallReason,
        lambda vm: _REASON_READINGS[vm.stall_reason],
    ),
    _vm(
        "start_timestamp_seconds",
        "Start of the newest migration: migrate_set_state setup, else savevm_state_header (2.4 and later).",
        lambda vm: vm.identity.start_ns / NS,
    ),
    _vm(
        "end_timestamp_seconds",
        "End of the newest migration; no sample while it runs.",
        lambda vm: seconds(vm.end_ns),
    ),
    _progress(
        "last_progress_timestamp_seconds",
        "Last time the newest migration made progress: clearly less pending bytes after a bitmap sync than before.",
        lambda progress: progress.last_progress_ns / NS,
    ),
    _last("last_duration_seconds", "Total time of the last migration that ended.", lambda last: last.duration_seconds),
    _last(
        "last_downtime_seconds",
        "Downtime of the last migration that ended, if it had one.",
        lambda last: last.downtime_seconds,
    ),
    _last(
        "last_blackout_seconds",
        "Time in which the guest did not run during the last migration that ended, pauses included.",
        lambda last: last.blackout_seconds,
    ),
    _states(
        "last_result",
        "1 for the result of the last migration that ended.",
        "result",
        Result,
        lambda vm: None if vm.last is None else _RESULT_READINGS[vm.last.result],
    ),
    *map(_counter, COUNTERS),
)

#: Series of a virtual machine that receives or received a migration, beside its info.
INCOMING: Final = (
    _vm(
        "incoming_active",
        "1 while an incoming migration runs (migrate_set_state, 2.0 and later).",
        lambda vm: 0 if vm.end_ns is not None else 1,
    ),
    _vm(
        "incoming_start_timestamp_seconds",
        "Start of the newest incoming migration, by the destination's clock.",
        lambda vm: vm.identity.start_ns / NS,
    ),
    _last(
        "incoming_last_duration_seconds",
        "Total time of the last incoming migration that ended.",
        lambda last: last.duration_seconds,
    ),
    _last(
        "incoming_last_load_seconds",
        "Part of the downtime in which the destination loaded the last memory and the devices: vmstate_downtime_load"
        " (8.2 and later).",
        lambda last: last.load_seconds,
    ),
    _states(
        "incoming_last_result",
        "1 for the result of the last incoming migration that ended.",
        "result",
        Result,
        lambda vm: None if vm.last is None else _RESULT_READINGS[vm.last.result],
    ),
)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(f"qemu_migration_{name}_seconds", "histogram", help_text, labels, buckets)


#: Metrics of migrations, in the order of the exposition.
MIGRATION: Final[tuple[Metric, ...]] = (
    *OUTGOING,
    *INCOMING,
    Metric("qemu_migrations_started_total", "counter", "Migrations that began.", ("side",)),
    Metric(
        "qemu_migrations_finished_total",
        "counter",
        "Migrations that ended, by kind and result.",
        ("side", "kind", "result"),
    ),
    Metric("qemu_migrations_transferred_bytes_total", "counter", "Bytes sent by all migrations.", ("side",)),
    _histogram("duration", "Total time of outgoing live migrations.", _DURATIONS),
    _histogram("downtime", "Downtime of outgoing live migrations.", _DOWNTIMES),
    _histogram(
        "blackout",
        "Time in which the guest did not run during an outgoing live migration, pauses included.",
        _BLACKOUTS,
    ),
    _histogram("round_duration", "Duration of a round of an outgoing live migration, counted when that ends.", _ROUNDS),
    _histogram(
        "bitmap_sync_duration",
        "migration_bitmap_sync_start to _end (2.0 and later) of outgoing live migrations, counted when those end.",
        _SYNCS,
    ),
    _histogram(
        "phase_duration",
        "Duration of a phase of an outgoing live migration, counted when that ends.",
        _PHASES,
        "phase",
    ),
)

_PREFIX: Final = "qemu_migration_exporter_"
_NO_SURPRISES: Final = (0,) * len(SurpriseKind)


def _surprises(stream: Any) -> Reading:  # noqa: ANN401 - a `self_collector.StreamState`
    surprises = stream.counts.surprises
    return tuple(surprises[kind] for kind in SurpriseKind) if surprises else _NO_SURPRISES


#: Metrics of the exporter itself.
EXPORTER: Final[tuple[Metric, ...]] = (
    Metric(f"{_PREFIX}build_info", "gauge", "1, with the exporter's version and Python's.", ("version", "python")),
    Metric(
        f"{_PREFIX}lines_total",
        "counter",
        "Lines read: an event is used, noise is unrelated, malformed begins like an event and cannot be parsed.",
        ("stream", "outcome"),
        read=lambda stream: (stream.counts.events, stream.counts.noise, stream.counts.malformed),
        states=("event", "noise", "malformed"),
    ),
    Metric(
        f"{_PREFIX}surprises_total",
        "counter",
        "Events that parsed and were not expected.",
        ("stream", "kind"),
        read=_surprises,
        states=tuple(kind.value for kind in SurpriseKind),
    ),
    Metric(
        f"{_PREFIX}stream_up",
        "gauge",
        "1 while the stream can be read.",
        ("stream",),
        read=lambda stream: int(stream.is_up),
    ),
    Metric(
        f"{_PREFIX}stream_last_event_timestamp_seconds",
        "gauge",
        "Time of the stream's last event, on the stream's clock.",
        ("stream",),
        read=lambda stream: seconds(stream.last_event_ns),
    ),
    Metric(f"{_PREFIX}spans_total", "counter", "Spans by the outcome of their delivery.", ("outcome", "reason")),
    Metric(
        f"{_PREFIX}config_last_reload_successful",
        "gauge",
        "1 if the configuration in force is the last one that was loaded.",
    ),
    Metric(
        f"{_PREFIX}failures_total",
        "counter",
        "Operations that failed, by part of the exporter; its log has the reasons.",
        ("part",),
    ),
    Metric(
        f"{_PREFIX}series_limited_total",
        "counter",
        "Virtual machines without series, because metrics.max_vms was reached.",
    ),
)
