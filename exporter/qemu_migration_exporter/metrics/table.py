"""Every metric there is: name, kind, labels, help with its source in QEMU. The single list.

Names of counters end in `_total` in what is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.samples import Exemplar

Buckets = Sequence[tuple[str, float] | tuple[str, float, Exemplar]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: As it is served, with `_total`.
        buckets: Upper bounds of a histogram's buckets, without +Inf, in seconds.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


#: From an idle guest's fraction of a second to the hours of a big one on a slow link.
_DURATIONS = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
#: Around QEMU's default downtime limit of 0.3 s, and up to what breaks TCP sessions and cluster heartbeats.
_DOWNTIMES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 30)
#: A sync reads a bit a page: microseconds for a small guest, a second for terabytes.
_SYNCS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3)
_ROUNDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600)
_PHASES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3600)

_VM = ("vm",)

MIGRATION: tuple[Metric, ...] = (
    Metric(
        "qemu_migration_info",
        "gauge",
        "The newest migration of a virtual machine on each side; trace_id leads to its trace.",
        ("vm", "uuid", "trace_id", "side", "mode"),
    ),
    Metric(
        "qemu_migration_active", "gauge", "1 while an outgoing migration runs (migrate_set_state, 2.0 and later).", _VM
    ),
    Metric(
        "qemu_migration_phase",
        "gauge",
        "1 for the present phase, by migration_thread_setup_complete, _low_pending, _after_loop (2.5 and later).",
        ("vm", "phase"),
    ),
    Metric(
        "qemu_migration_pending_bytes",
        "gauge",
        "Bytes still to send: migrate_pending (2.0 to 7.2), migrate_pending_estimate and _exact (8.0 to 11.0).",
        _VM,
    ),
    Metric(
        "qemu_migration_best_pending_bytes",
        "gauge",
        "Least bytes pending just after a bitmap sync, the first round left out.",
        _VM,
    ),
    Metric(
        "qemu_migration_threshold_bytes",
        "gauge",
        "Pending bytes below which QEMU stops the guest: max_size of migrate_transferred (2.0 and later).",
        _VM,
    ),
    Metric("qemu_migration_ram_bytes", "gauge", "The first pending bytes after setup: all memory to send.", _VM),
    Metric(
        "qemu_migration_round",
        "gauge",
        "Pass over the dirty bitmap the migration is in; each begins with migration_bitmap_sync_start (2.0 and later).",
        _VM,
    ),
    Metric("qemu_migration_best_round", "gauge", "The round that began with the least bytes pending.", _VM),
    Metric(
        "qemu_migration_bandwidth_bytes_per_second",
        "gauge",
        "Bandwidth of the last window of migrate_transferred (2.0 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_dirty_bytes_per_second",
        "gauge",
        "How fast the guest dirtied memory in the last round: migration_bitmap_sync_end (2.0 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_throttle_ratio",
        "gauge",
        "How much the guest's CPUs are throttled: cpu_throttle_set (9.2 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_downtime_limit_seconds",
        "gauge",
        "The downtime limit: max_size over bandwidth of migrate_transferred, else qmp_enter_migrate_set_parameters.",
        _VM,
    ),
    Metric(
        "qemu_migration_required_downtime_seconds",
        "gauge",
        "What sending the last boundary's pending bytes takes at the present bandwidth.",
        _VM,
    ),
    Metric(
        "qemu_migration_required_bandwidth_bytes_per_second",
        "gauge",
        "What would send the last boundary's pending bytes within the downtime limit.",
        _VM,
    ),
    Metric("qemu_migration_stalled", "gauge", "1 while the migration does not get nearer to its end.", _VM),
    Metric(
        "qemu_migration_stalled_since_timestamp_seconds",
        "gauge",
        "When a stalled migration was nearest to its end; 0 when it is not stalled.",
        _VM,
    ),
    Metric("qemu_migration_stall_reason", "gauge", "1 for the reason of the stall.", ("vm", "reason")),
    Metric(
        "qemu_migration_start_timestamp_seconds",
        "gauge",
        "When the newest migration began: migrate_set_state setup, else savevm_state_header (2.4 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_end_timestamp_seconds", "gauge", "When the newest migration ended; none while it runs.", _VM
    ),
    Metric(
        "qemu_migration_last_progress_timestamp_seconds",
        "gauge",
        "When the newest migration last got nearer to its end: a new least of pending bytes after a bitmap sync.",
        _VM,
    ),
    Metric("qemu_migration_last_duration_seconds", "gauge", "Total time of the last migration that ended.", _VM),
    Metric(
        "qemu_migration_last_downtime_seconds",
        "gauge",
        "Downtime of the last migration that ended, if it had one.",
        _VM,
    ),
    Metric(
        "qemu_migration_last_result", "gauge", "1 for the result of the last migration that ended.", ("vm", "result")
    ),
    Metric(
        "qemu_migration_transferred_bytes_total",
        "counter",
        "Bytes sent, the downtime's left out: sum of migrate_transferred (2.0 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_bitmap_syncs_total",
        "counter",
        "Dirty bitmap syncs: migration_bitmap_sync_start (2.0 and later), QEMU's dirty-sync-count.",
        _VM,
    ),
    Metric(
        "qemu_migration_iterations_total",
        "counter",
        "Slices of at most 50 to 100 ms: savevm_state_iterate (2.0 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_throttles_total",
        "counter",
        "Times the guest was throttled further: migration_throttle (2.0 and later).",
        _VM,
    ),
    Metric(
        "qemu_migration_postcopy_requests_total",
        "counter",
        "Pages the destination asked for: migrate_handle_rp_req_pages (2.5 and later).",
        _VM,
    ),
    Metric("qemu_migrations_started_total", "counter", "Migrations that began.", ("side",)),
    Metric("qemu_migrations_finished_total", "counter", "Migrations that ended, by result.", ("side", "result")),
    Metric("qemu_migrations_transferred_bytes_total", "counter", "Bytes sent by all migrations.", ("side",)),
    Metric("qemu_migration_duration_seconds", "histogram", "Total time of outgoing migrations.", (), _DURATIONS),
    Metric("qemu_migration_downtime_seconds", "histogram", "How long guests stood still.", (), _DOWNTIMES),
    Metric("qemu_migration_round_duration_seconds", "histogram", "Time of a pass over the dirty bitmap.", (), _ROUNDS),
    Metric(
        "qemu_migration_bitmap_sync_duration_seconds",
        "histogram",
        "migration_bitmap_sync_start to _end (2.0 and later).",
        (),
        _SYNCS,
    ),
    Metric(
        "qemu_migration_phase_duration_seconds",
        "histogram",
        "Time of a phase of an outgoing migration.",
        ("phase",),
        _PHASES,
    ),
)

EXPORTER: tuple[Metric, ...] = (
    Metric(
        "qemu_migration_exporter_build_info",
        "gauge",
        "1, with the version of the exporter and of Python.",
        ("version", "python"),
    ),
    Metric(
        "qemu_migration_exporter_lines_total",
        "counter",
        "Lines read: events are used, noise is not ours, malformed looked like ours and did not parse.",
        ("stream", "outcome"),
    ),
    Metric(
        "qemu_migration_exporter_surprises_total",
        "counter",
        "Events that parsed and were not expected.",
        ("stream", "kind"),
    ),
    Metric("qemu_migration_exporter_stream_up", "gauge", "1 while the stream can be read.", ("stream",)),
    Metric(
        "qemu_migration_exporter_stream_last_event_timestamp_seconds",
        "gauge",
        "Time of the last event of the stream, by the stream's clock.",
        ("stream",),
    ),
    Metric("qemu_migration_exporter_spans_total", "counter", "Spans by what became of them.", ("outcome", "reason")),
    Metric(
        "qemu_migration_exporter_config_last_reload_successful",
        "gauge",
        "1 if the configuration in force is the last one given.",
    ),
    Metric(
        "qemu_migration_exporter_failures_total",
        "counter",
        "What the exporter failed to do itself, by part; its log says what and why.",
        ("part",),
    ),
    Metric(
        "qemu_migration_exporter_series_limited_total",
        "counter",
        "Virtual machines that got no series because there were too many.",
    ),
)


class Families:
    """The families of one scrape, empty at first; a name that is not in the list is a KeyError."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._gauges: dict[str, GaugeMetricFamily] = {}
        self._counters: dict[str, CounterMetricFamily] = {}
        self._histograms: dict[str, HistogramMetricFamily] = {}
        self.all: list[PrometheusMetric] = []
        for metric in metrics:
            family: PrometheusMetric
            match metric.kind:
                case "gauge":
                    family = self._gauges[metric.name] = GaugeMetricFamily(
                        metric.name, metric.help, labels=metric.labels
                    )
                case "counter":
                    family = self._counters[metric.name] = CounterMetricFamily(
                        metric.name, metric.help, labels=metric.labels
                    )
                case "histogram":
                    family = self._histograms[metric.name] = HistogramMetricFamily(
                        metric.name, metric.help, labels=metric.labels
                    )
            self.all.append(family)

    def gauge(self, name: str, labels: Sequence[str], value: float | None) -> None:
        """Add a sample of a gauge; None is no sample."""
        if value is not None:
            self._gauges[name].add_metric(labels, value)

    def counter(self, name: str, labels: Sequence[str], value: float, exemplar: Exemplar | None = None) -> None:
        """Add a sample of a counter."""
        self._counters[name].add_metric(labels, value, exemplar=exemplar)

    def histogram(self, name: str, labels: Sequence[str], buckets: Buckets, total: float) -> None:
        """Add the samples of a histogram, its buckets cumulative."""
        self._histograms[name].add_metric(labels, buckets=buckets, sum_value=total)
