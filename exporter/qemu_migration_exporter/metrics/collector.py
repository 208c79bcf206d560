"""Migrations as Prometheus metrics: plain numbers, and a collector that builds families of them at each scrape.

Per-VM series describe the newest outgoing migration of a virtual machine; their counters go on over its attempts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from qemu_migration_exporter.core.changes import (
    Change,
    MigrationEnded,
    PhaseEnded,
    Progressed,
    Resumed,
    RoundEnded,
    Started,
    SyncFinished,
)
from qemu_migration_exporter.core.model import (
    ClockKind,
    Identity,
    Migration,
    Mode,
    PhaseName,
    Progress,
    Result,
    Side,
    StallReason,
)
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.metrics.table import MIGRATION, Families

_NS: Final = 1e9

#: Counters of one VM and where their numbers come from.
_VM_COUNTERS: Final = ("transferred_bytes", "bitmap_syncs", "iterations", "throttles", "postcopy_requests")


@dataclass(slots=True)
class _Vm:
    """What is known of one virtual machine's outgoing migrations."""

    identity: Identity
    progress: Progress | None = None
    end_ns: int | None = None
    last: Migration | None = None
    #: Counts of the attempts before this one.
    before: dict[str, int] = field(default_factory=dict)

    def total(self, counter: str) -> int:
        present = getattr(self.progress, counter, None) or 0
        return self.before.get(counter, 0) + int(present)

    def next_attempt(self, identity: Identity) -> None:
        self.before = {counter: self.total(counter) for counter in _VM_COUNTERS}
        self.identity, self.progress, self.end_ns = identity, None, None


class _Histogram:
    """Counts by bucket, with the last observation of each as its exemplar."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, exemplar: Mapping[str, str]) -> None:
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self._exemplars[place] = Exemplar(dict(exemplar), value)
        self._sum += value

    def add_to(self, families: Families, name: str, labels: Sequence[str]) -> None:
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        total = 0
        for bound, count, exemplar in zip((*self._bounds, math.inf), self._counts, self._exemplars, strict=True):
            total += count
            text = "+Inf" if bound == math.inf else str(float(bound))
            buckets.append((text, total) if exemplar is None else (text, total, exemplar))
        families.histogram(name, labels, buckets, self._sum)


class MetricsSink(Collector):
    """Keep the numbers of all migrations and give them to a registry."""

    def __init__(self, *, max_vms: int = 1_000) -> None:
        self._lock = Lock()
        self._max_vms = max_vms
        self._vms: dict[str, _Vm] = {}
        self._identities: dict[str, Identity] = {}
        self._newest: dict[tuple[str, str], tuple[Identity, Progress | None]] = {}
        self._ended_incoming: set[tuple[str, str]] = set()
        self._ended_seen_ns: dict[tuple[str, str], int] = {}
        self._started: dict[Side, int] = dict.fromkeys(Side, 0)
        self._finished: dict[tuple[Side, Result], int] = {(side, result): 0 for side in Side for result in Result}
        self._transferred: dict[Side, int] = dict.fromkeys(Side, 0)
        self._transferred_of: dict[str, int] = {}
        self._exemplars: dict[tuple[str, ...], Exemplar] = {}
        self._histograms: dict[tuple[str, ...], _Histogram] = {
            (metric.name, *labels): _Histogram(metric.buckets)
            for metric in MIGRATION
            if metric.kind == "histogram"
            for labels in ([(phase.value,) for phase in PhaseName] if metric.labels else [()])
        }
        self.limited = 0

    # Sink

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes, see `qemu_migration_exporter.tracing.Sink`."""
        with self._lock:
            for change in changes:
                handler = _HANDLERS.get(type(change))
                if handler is not None:
                    handler(self, change)

    def _started_change(self, change: Started) -> None:
        self._start(change.identity)
        self._count_start(change.identity)

    def _resumed_change(self, change: Resumed) -> None:
        self._start(change.identity)
        self._resume(change.identity, change.progress)

    def _ended_change(self, change: MigrationEnded) -> None:
        self._end(change.migration)

    def _round_ended(self, change: RoundEnded) -> None:
        if change.round.end_ns is not None:
            duration_ns = change.round.end_ns - change.round.start_ns
            span = trace_ids.round_span(change.trace_id, change.round.number)
            self._observe("qemu_migration_round_duration_seconds", change.trace_id, duration_ns, span)

    def _sync_finished(self, change: SyncFinished) -> None:
        if change.sync.end_ns is not None:
            duration_ns = change.sync.end_ns - change.sync.start_ns
            span = trace_ids.sync_span(change.trace_id, change.sync.number)
            self._observe("qemu_migration_bitmap_sync_duration_seconds", change.trace_id, duration_ns, span)

    def _phase_ended(self, change: PhaseEnded) -> None:
        if change.phase.end_ns is not None:
            duration_ns = change.phase.end_ns - change.phase.start_ns
            span = _phase_span(change.trace_id, change.phase.name)
            name = "qemu_migration_phase_duration_seconds"
            self._observe(name, change.trace_id, duration_ns, span, change.phase.name)

    def _start(self, identity: Identity) -> None:
        self._identities[identity.trace_id] = identity
        side = _side(identity)
        if side is Side.DESTINATION:
            key = identity.vm, side.value
            if key in self._newest or len(self._newest) < self._max_vms:
                self._newest[key] = (identity, None)
                self._ended_incoming.discard(key)
            else:
                self.limited += 1
            return
        vm = self._vms.get(identity.vm)
        if vm is not None:
            vm.next_attempt(identity)
        elif len(self._vms) < self._max_vms:
            self._vms[identity.vm] = _Vm(identity)
        else:
            self.limited += 1

    def _resume(self, identity: Identity, progress: Progress) -> None:
        """Leave out of the counters what was counted before this program began: they begin at 0, as it does."""
        self._transferred_of[identity.trace_id] = progress.transferred_bytes or 0
        vm = self._vms.get(identity.vm)
        if vm is not None:
            vm.progress = progress
            vm.before = {counter: -vm.total(counter) for counter in _VM_COUNTERS}

    def _count_start(self, identity: Identity) -> None:
        side = _side(identity)
        self._started[side] += 1
        self._exemplars["qemu_migrations_started_total", side] = _exemplar(identity.trace_id, 1)

    def expire(self, now_ns: int, retention_ns: int) -> None:
        """Forget the series of migrations whose end is known for so long; their counts stay in the totals.

        It counts from when the end was first seen here and not from when it was: a log may be read late.
        """
        with self._lock:
            ended = {("", name) for name, vm in self._vms.items() if vm.end_ns is not None}
            ended |= {(side, name) for name, side in self._ended_incoming}
            self._ended_seen_ns = {key: self._ended_seen_ns.get(key, now_ns) for key in ended}
            for side, name in [key for key, seen in self._ended_seen_ns.items() if now_ns - seen > retention_ns]:
                if side:
                    self._ended_incoming.discard((name, side))
                    self._newest.pop((name, side), None)
                else:
                    del self._vms[name]

    def _progress(self, change: Progressed) -> None:
        identity = self._identities.get(change.trace_id)
        if identity is None:
            return
        side = _side(identity)
        sent = change.progress.transferred_bytes or 0
        self._transferred[side] += sent - self._transferred_of.get(change.trace_id, 0)
        self._transferred_of[change.trace_id] = sent
        if side is Side.DESTINATION:
            if (identity.vm, side.value) in self._newest:
                self._newest[identity.vm, side.value] = (identity, change.progress)
        elif (vm := self._vms.get(identity.vm)) is not None and vm.identity.trace_id == change.trace_id:
            vm.progress = change.progress

    def _end(self, migration: Migration) -> None:
        identity = migration.identity
        self._identities.pop(identity.trace_id, None)
        self._transferred_of.pop(identity.trace_id, None)
        side, root = _side(identity), trace_ids.root_span(identity.trace_id)
        self._finished[side, migration.result] += 1
        self._exemplars["qemu_migrations_finished_total", side, migration.result] = _exemplar(identity.trace_id, 1)
        if side is Side.DESTINATION:
            if (identity.vm, side.value) in self._newest:
                self._ended_incoming.add((identity.vm, side.value))
            return
        vm = self._vms.get(identity.vm)
        if vm is not None and vm.identity.trace_id == identity.trace_id:
            vm.end_ns, vm.last = migration.end_ns, migration
        exemplar = {"trace_id": identity.trace_id, "span_id": root}
        if migration.duration_ns is not None:
            self._histograms["qemu_migration_duration_seconds",].observe(migration.duration_ns / _NS, exemplar)
        if migration.downtime_ns is not None:
            exemplar["span_id"] = trace_ids.phase_span(identity.trace_id, PhaseName.COMPLETE_PRECOPY)
            self._histograms["qemu_migration_downtime_seconds",].observe(migration.downtime_ns / _NS, exemplar)

    def _observe(self, name: str, trace_id: str, duration_ns: int, span_id: str, *labels: str) -> None:
        """Count a duration, unless its clock is reconstructed and the duration therefore unknown."""
        identity = self._identities.get(trace_id)
        if identity is None or _side(identity) is not Side.SOURCE:
            return
        reconstructed = identity.clock is ClockKind.RECONSTRUCTED
        if reconstructed and name != "qemu_migration_round_duration_seconds" and labels != (PhaseName.ITERATE,):
            return
        self._histograms[name, *labels].observe(duration_ns / _NS, {"trace_id": trace_id, "span_id": span_id})

    # Collector

    def describe(self) -> list[PrometheusMetric]:
        """Name the families, so that a registry refuses another collector with one of the names."""
        return Families(MIGRATION).all

    def collect(self) -> list[PrometheusMetric]:
        """Build the families from the numbers as they are now."""
        families = Families(MIGRATION)
        with self._lock:
            self._collect_totals(families)
            for name, vm in self._vms.items():
                _collect_vm(families, name, vm)
            for (vm_name, _), (identity, progress) in self._newest.items():
                _add_info(families, vm_name, identity, progress)
        return families.all

    def _collect_totals(self, families: Families) -> None:
        for side in Side:
            self._count(families, "qemu_migrations_started_total", [side.value], self._started[side])
            self._count(families, "qemu_migrations_transferred_bytes_total", [side.value], self._transferred[side])
            for result in Result:
                labels = [side.value, result.value]
                self._count(families, "qemu_migrations_finished_total", labels, self._finished[side, result])
        for (name, *labels), histogram in self._histograms.items():
            histogram.add_to(families, name, labels)

    def _count(self, families: Families, name: str, labels: list[str], value: float) -> None:
        families.counter(name, labels, value, self._exemplars.get((name, *labels)))


#: What is done with each kind of change; of the devices and waits of a downtime there are no metrics.
_HANDLERS: Final[Mapping[type, Callable[[MetricsSink, Any], None]]] = {
    Started: MetricsSink._started_change,
    Resumed: MetricsSink._resumed_change,
    Progressed: MetricsSink._progress,
    MigrationEnded: MetricsSink._ended_change,
    RoundEnded: MetricsSink._round_ended,
    SyncFinished: MetricsSink._sync_finished,
    PhaseEnded: MetricsSink._phase_ended,
}


def _collect_vm(families: Families, name: str, vm: _Vm) -> None:
    _add_info(families, name, vm.identity, vm.progress)
    exemplar = _exemplar(vm.identity.trace_id, 1)
    for counter in _VM_COUNTERS:
        families.counter(f"qemu_migration_{counter}_total", [name], vm.total(counter), exemplar)
    # A stall that nothing ended ends with its migration: an alert must not outlive it.
    is_over = vm.end_ns is not None or (vm.progress is not None and vm.progress.phase is PhaseName.CLEANUP)
    stalled_ns = vm.progress.verdict.stalled_since_ns if vm.progress is not None and not is_over else None
    gauges: dict[str, float | None] = {
        "active": 0 if vm.end_ns is not None else 1,
        "start_timestamp_seconds": vm.identity.start_ns / _NS,
        "end_timestamp_seconds": None if vm.end_ns is None else vm.end_ns / _NS,
        **_progress_gauges(vm.progress),
        **_stall_gauges(stalled_ns),
        **_last_gauges(vm.last),
    }
    for gauge, value in gauges.items():
        families.gauge(f"qemu_migration_{gauge}", [name], value)
    phase = vm.progress.phase if vm.progress else None
    _add_one_of(families, "qemu_migration_phase", name, PhaseName, phase)
    reason = vm.progress.verdict.reason if vm.progress is not None and stalled_ns is not None else None
    _add_one_of(families, "qemu_migration_stall_reason", name, StallReason, reason)
    if vm.last is not None:
        _add_one_of(families, "qemu_migration_last_result", name, Result, vm.last.result)


def _side(identity: Identity) -> Side:
    """Count a migration whose side nothing tells as outgoing: that is what an operator asks for."""
    return identity.side or Side.SOURCE


def _phase_span(trace_id: str, phase: PhaseName) -> str:
    """Name the span that shows a phase; the iterate phase is shown by its rounds, so the whole trace stands for it."""
    return trace_ids.root_span(trace_id) if phase is PhaseName.ITERATE else trace_ids.phase_span(trace_id, phase)


def _exemplar(trace_id: str, value: float) -> Exemplar:
    return Exemplar({"trace_id": trace_id, "span_id": trace_ids.root_span(trace_id)}, value)


def _progress_gauges(progress: Progress | None) -> dict[str, float | None]:
    if progress is None:
        return {}
    verdict = progress.verdict
    return {
        "pending_bytes": progress.pending_bytes,
        "best_pending_bytes": verdict.best_pending_bytes,
        "threshold_bytes": progress.threshold_bytes,
        "ram_bytes": progress.ram_bytes,
        "round": progress.round,
        "best_round": verdict.best_round,
        "bandwidth_bytes_per_second": progress.bandwidth_bytes_per_second,
        "dirty_bytes_per_second": progress.dirty_bytes_per_second,
        "throttle_ratio": progress.throttle_ratio,
        "downtime_limit_seconds": progress.downtime_limit_seconds,
        "required_downtime_seconds": verdict.required_downtime_seconds,
        "required_bandwidth_bytes_per_second": verdict.required_bandwidth_bytes_per_second,
        "last_progress_timestamp_seconds": progress.last_progress_ns / _NS,
    }


def _stall_gauges(since_ns: int | None) -> dict[str, float | None]:
    return {
        "stalled": 0 if since_ns is None else 1,
        "stalled_since_timestamp_seconds": 0 if since_ns is None else since_ns / _NS,
    }


def _last_gauges(last: Migration | None) -> dict[str, float | None]:
    if last is None:
        return {}
    return {
        "last_duration_seconds": None if last.duration_ns is None else last.duration_ns / _NS,
        "last_downtime_seconds": None if last.downtime_ns is None else last.downtime_ns / _NS,
    }


def _add_info(families: Families, vm: str, identity: Identity, progress: Progress | None) -> None:
    mode = progress.mode if progress else Mode.PRECOPY
    labels = [vm, identity.uuid or "", identity.trace_id, _side(identity).value, mode.value]
    families.gauge("qemu_migration_info", labels, 1)


def _add_one_of(
    families: Families, name: str, vm: str, values: Iterable[PhaseName | StallReason | Result], present: object
) -> None:
    for value in values:
        families.gauge(name, [vm, value.value], 1 if value is present else 0)
