"""Metrics sink: it turns changes of migrations into plain numbers, which are read at scrape time.

The numbers of a running migration come with its first and its last change, and from `update` in between.

Series of a virtual machine describe its newest outgoing migration; incoming migrations have a few series of their own.
The totals cover every migration. Histograms cover outgoing live migrations; they are filled when a migration ends,
because the evidence that a job is a `virsh save` or a snapshot may come late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import Any, Final

from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from qemu_migration_exporter.core.changes import (
    Change,
    GuestGone,
    MigrationEnded,
    Resumed,
    Started,
    SyncFinished,
)
from qemu_migration_exporter.core.model import ClockKind, Identity, Kind, Migration, PhaseName, Progress, Result, Side
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.metrics.families import (
    Families,
    ObjectReadings,
    Reading,
    collect_objects,
)
from qemu_migration_exporter.metrics.histogram import Histogram
from qemu_migration_exporter.metrics.table import INCOMING, MIGRATION, OUTGOING
from qemu_migration_exporter.metrics.vm_state import NS, TOTALS, VmState, trace_exemplar

_SYNC_HISTOGRAM: Final = "qemu_migration_bitmap_sync_duration_seconds"
_BUCKETS: Final = {metric.name: metric.buckets for metric in MIGRATION if metric.kind == "histogram"}
_OUTGOING_READERS: Final = [metric.read for metric in OUTGOING if metric.read is not None]
_INCOMING_READERS: Final = [metric.read for metric in INCOMING if metric.read is not None]
#: In place of the metrics of the other side; the first metric, the info, has both.
_NO_OUTGOING: Final[tuple[Reading, ...]] = (None,) * (len(_OUTGOING_READERS) - 1)
_NO_INCOMING: Final[tuple[Reading, ...]] = (None,) * len(_INCOMING_READERS)


class MetricsSink(Collector):
    """Numbers of all migrations, as a collector for a registry.

    Attributes:
        limited: Number of virtual machines without series because of the limit.
    """

    metrics = MIGRATION

    def __init__(self, *, max_vms: int = 1_000) -> None:
        self._lock = Lock()
        self._max_vms = max_vms
        self._outgoing: dict[str, VmState] = {}
        self._incoming: dict[str, VmState] = {}
        #: Open migrations by trace id, with their bytes counted so far and their sync durations.
        self._open: dict[str, Identity] = {}
        self._counted_bytes: dict[str, int] = {}
        self._syncs: dict[str, Histogram] = {}
        self._end_seen_ns: dict[tuple[Side, str], int] = {}
        #: Counters of a checkpoint, by VM, until its first migration.
        self._totals_before: dict[str, dict[str, int]] = {}
        self._started = dict.fromkeys(Side, 0)
        self._finished = {(side, kind, result): 0 for side in Side for kind in Kind for result in Result}
        self._transferred = dict.fromkeys(Side, 0)
        self._exemplars: dict[tuple[str, ...], Exemplar] = {}
        self._histograms: dict[tuple[str, ...], Histogram] = {
            (metric.name, *labels): Histogram(metric.buckets)
            for metric in MIGRATION
            if metric.kind == "histogram"
            for labels in ([(phase.value,) for phase in PhaseName] if metric.labels else [()])
        }
        self.limited = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes, see `qemu_migration_exporter.tracing.Sink`."""
        with self._lock:
            for change in changes:
                handler = _HANDLERS.get(type(change))
                if handler is not None:
                    handler(self, change)

    def update(self, running: Iterable[Migration]) -> None:
        """Replace the numbers of running migrations by their present numbers."""
        with self._lock:
            for migration in running:
                self._update(migration.identity.trace_id, migration.progress)

    # Checkpoint

    def snapshot(self) -> dict[str, Any]:
        """Return all counters as plain data, to continue them after a restart; the gauges follow from the streams."""
        with self._lock:
            return {
                "started": {side.value: count for side, count in self._started.items()},
                "finished": [[*map(str, key), count] for key, count in self._finished.items()],
                "transferred": {side.value: count for side, count in self._transferred.items()},
                "vms": {name: {each: vm.total(each) for each in TOTALS} for name, vm in self._outgoing.items()},
                "histograms": [[list(key), *histogram.snapshot()] for key, histogram in self._histograms.items()],
                "syncs": {trace_id: histogram.snapshot() for trace_id, histogram in self._syncs.items()},
            }

    def restore(self, snapshot: Mapping[str, Any]) -> None:
        """Continue the counters of a snapshot, before any change is applied; unknown label values are dropped."""
        with self._lock:
            for side in Side:
                self._started[side] += int(snapshot.get("started", {}).get(side.value, 0))
                self._transferred[side] += int(snapshot.get("transferred", {}).get(side.value, 0))
            for *labels, count in snapshot.get("finished", []):
                key = next((key for key in self._finished if key == tuple(labels)), None)
                if key is not None:
                    self._finished[key] += int(count)
            for key, counts, total in snapshot.get("histograms", []):
                if (histogram := self._histograms.get(tuple(key))) is not None:
                    histogram.restore(counts, total)
            for trace_id, (counts, total) in snapshot.get("syncs", {}).items():
                self._syncs[trace_id] = Histogram(_BUCKETS[_SYNC_HISTOGRAM])
                self._syncs[trace_id].restore(counts, total)
            self._totals_before = {
                str(name): {counter: int(totals.get(counter, 0)) for counter in TOTALS}
                for name, totals in snapshot.get("vms", {}).items()
            }

    def expire(self, now_ns: int, retention_ns: int) -> None:
        """Drop the series of migrations whose end was read this long ago; the totals keep their counts.

        The series of a guest whose QEMU ended are dropped at once. The time of the end itself does not count, because a
        log may be read long after its migration ended.
        """
        with self._lock:
            vms = {Side.SOURCE: self._outgoing, Side.DESTINATION: self._incoming}
            ended = {(side, name) for side, states in vms.items() for name, vm in states.items() if vm.end_ns}
            self._end_seen_ns = {key: self._end_seen_ns.get(key, now_ns) for key in ended}
            for (side, name), seen_ns in self._end_seen_ns.items():
                if now_ns - seen_ns > retention_ns or vms[side][name].is_gone:
                    del vms[side][name]

    # Changes

    def _on_started(self, change: Started) -> None:
        side = _side(change.identity)
        self._begin(change.identity)
        self._update(change.identity.trace_id, change.progress)
        self._started[side] += 1
        self._exemplars["qemu_migrations_started_total", side] = trace_exemplar(change.identity.trace_id, 1)

    def _on_resumed(self, change: Resumed) -> None:
        """Continue a migration of an earlier run: the counters have its counts already."""
        identity = change.identity
        self._counted_bytes[identity.trace_id] = change.progress.transferred_bytes or 0
        vm = self._begin(identity)
        if vm is not None:
            vm.resume(change.progress)

    def _begin(self, identity: Identity) -> VmState | None:
        self._open[identity.trace_id] = identity
        states = self._states(identity)
        vm = states.get(identity.vm)
        if vm is not None:
            vm.next_attempt(identity)
        elif len(states) < self._max_vms:
            before = self._totals_before.pop(identity.vm, {}) if states is self._outgoing else {}
            vm = states[identity.vm] = VmState(identity, before=before)
        else:
            self.limited += 1
        return vm

    def _update(self, trace_id: str, progress: Progress) -> None:
        identity = self._open.get(trace_id)
        if identity is None:
            return
        self._count_bytes(identity, progress)
        vm = self._states(identity).get(identity.vm)
        if vm is not None and vm.identity.trace_id == trace_id:
            vm.update(progress)

    def _count_bytes(self, identity: Identity, progress: Progress) -> None:
        sent = progress.transferred_bytes or 0
        self._transferred[_side(identity)] += sent - self._counted_bytes.get(identity.trace_id, 0)
        self._counted_bytes[identity.trace_id] = sent

    def _on_sync(self, change: SyncFinished) -> None:
        identity = self._open.get(change.trace_id)
        if identity is None or identity.clock is ClockKind.RECONSTRUCTED or change.sync.end_ns is None:
            return
        histogram = self._syncs.get(change.trace_id)
        if histogram is None:
            histogram = self._syncs[change.trace_id] = Histogram(_BUCKETS[_SYNC_HISTOGRAM])
        span = trace_ids.sync_span(change.trace_id, change.sync.number)
        exemplar = {"trace_id": change.trace_id, "span_id": span}
        histogram.observe((change.sync.end_ns - change.sync.start_ns) / NS, exemplar)

    def _on_ended(self, change: MigrationEnded) -> None:
        migration = change.migration
        identity, trace_id = migration.identity, migration.identity.trace_id
        self._update(trace_id, migration.progress)
        self._open.pop(trace_id, None)
        self._counted_bytes.pop(trace_id, None)
        syncs = self._syncs.pop(trace_id, None)
        key = (_side(identity), identity.kind, migration.result)
        self._finished[key] += 1
        self._exemplars["qemu_migrations_finished_total", *key] = trace_exemplar(trace_id, 1)
        vm = self._states(identity).get(identity.vm)
        if vm is not None and vm.identity.trace_id == trace_id:
            vm.end(migration)
        if _side(identity) is Side.SOURCE and identity.kind is Kind.LIVE:
            if syncs is not None:
                self._histograms[_SYNC_HISTOGRAM,].merge(syncs)
            self._observe(migration)

    def _on_guest_gone(self, change: GuestGone) -> None:
        """Mark a guest whose QEMU ended, because no alert must outlive it."""
        for states in (self._outgoing, self._incoming):
            for vm in states.values():
                vm.is_gone = vm.is_gone or vm.identity.trace_id == change.trace_id

    def _observe(self, migration: Migration) -> None:
        """Fill the histograms; on a reconstructed clock only rounds and the iterate phase have a duration.

        Where the beginning is missing, so is that of the first phase and round.
        """
        first = 1 if migration.is_joined else 0
        trace_id = migration.identity.trace_id
        root = trace_ids.root_span(trace_id)
        switchover = trace_ids.phase_span(trace_id, PhaseName.COMPLETE_PRECOPY)
        durations: list[tuple[tuple[str, ...], int | None, str]] = [
            (("duration",), None if migration.is_joined else migration.duration_ns, root),
            (("downtime",), migration.downtime_ns, switchover),
            (("blackout",), migration.blackout_ns, root),
        ]
        for round_ in migration.rounds[first:]:
            duration_ns = None if round_.end_ns is None else round_.end_ns - round_.start_ns
            durations.append((("round_duration",), duration_ns, trace_ids.round_span(trace_id, round_.number)))
        for phase in migration.phases[first:]:
            is_iterate = phase.name is PhaseName.ITERATE
            if phase.end_ns is not None and (migration.timed or is_iterate):
                # The iterate phase has no span of its own, so its exemplar leads to the root.
                span = root if is_iterate else trace_ids.phase_span(trace_id, phase.name)
                durations.append((("phase_duration", phase.name), phase.end_ns - phase.start_ns, span))
        for (name, *labels), duration_ns, span in durations:
            if duration_ns is not None:
                histogram = self._histograms[f"qemu_migration_{name}_seconds", *labels]
                histogram.observe(duration_ns / NS, {"trace_id": trace_id, "span_id": span})

    def _states(self, identity: Identity) -> dict[str, VmState]:
        return self._outgoing if _side(identity) is Side.SOURCE else self._incoming

    # Collector

    def describe(self) -> list[PrometheusMetric]:
        """Return the empty families, so that a registry refuses a second collector of these names."""
        return Families(MIGRATION).all

    def collect(self) -> list[PrometheusMetric]:
        """Return the present families."""
        return collect_objects(self)

    def read_objects(self, known: Mapping[str, int]) -> Sequence[ObjectReadings]:
        """Read every virtual machine that changed; see `ObjectCollector`."""
        with self._lock:
            found = [self._read(name, vm, known, _outgoing) for name, vm in self._outgoing.items()]
            found += [self._read(f"{name}\0incoming", vm, known, _incoming) for name, vm in self._incoming.items()]
        return found

    @staticmethod
    def _read(
        key: str, vm: VmState, known: Mapping[str, int], read: Callable[[VmState], Sequence[Reading]]
    ) -> ObjectReadings:
        readings = None if known.get(key) == vm.version else read(vm)
        return ObjectReadings(key, vm.identity.vm, vm.version, readings, vm.exemplar)

    def collect_shared(self, families: Families) -> None:
        """Add the totals and the histograms."""
        with self._lock:
            for side in Side:
                self._add_total(families, "qemu_migrations_started_total", (side,), self._started[side])
                self._add_total(families, "qemu_migrations_transferred_bytes_total", (side,), self._transferred[side])
            for ended, number in self._finished.items():
                self._add_total(families, "qemu_migrations_finished_total", ended, number)
            for (name, *labels), histogram in self._histograms.items():
                histogram.add_to(families, name, labels)

    def _add_total(self, families: Families, name: str, labels: tuple[str, ...], value: float) -> None:
        families.counter(name, labels, value, self._exemplars.get((name, *labels)))


def _outgoing(vm: VmState) -> Sequence[Reading]:
    return [*(read(vm) for read in _OUTGOING_READERS), *_NO_INCOMING]


def _incoming(vm: VmState) -> Sequence[Reading]:
    return [_OUTGOING_READERS[0](vm), *_NO_OUTGOING, *(read(vm) for read in _INCOMING_READERS)]


def _side(identity: Identity) -> Side:
    """Return the side; without evidence a migration counts as outgoing, because operators start outgoing migrations."""
    return identity.side or Side.SOURCE


_HANDLERS: Final[Mapping[type, Callable[[MetricsSink, Any], None]]] = {
    Started: MetricsSink._on_started,
    Resumed: MetricsSink._on_resumed,
    SyncFinished: MetricsSink._on_sync,
    MigrationEnded: MetricsSink._on_ended,
    GuestGone: MetricsSink._on_guest_gone,
}
