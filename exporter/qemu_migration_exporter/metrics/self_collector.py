"""Metrics of the exporter itself: lines read, lines it could not read, and the outcomes of its spans."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector

import qemu_migration_exporter
from qemu_migration_exporter.core.tracking.stream import Counts, Stream
from qemu_migration_exporter.metrics.families import Families, ObjectReadings, collect_objects, object_metrics
from qemu_migration_exporter.metrics.table import EXPORTER
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, total

_PREFIX: Final = "qemu_migration_exporter_"
_READERS: Final = [metric.read for metric in object_metrics(EXPORTER) if metric.read is not None]


class StreamState(NamedTuple):
    """The values of a stream that its metrics read."""

    counts: Counts
    last_event_ns: int | None
    is_up: bool


class SpanCounter(Protocol):
    """Source of the numbers of spans by outcome."""

    def counts(self) -> SpanCounts: ...


class ExporterCollector(Collector):
    """Collector that reads streams and sinks at scrape time and keeps no state.

    Args:
        streams: Returns the streams, with True for a stream that can be read now.
        spans: The span sink, None if spans have no receiver.
        limited: Returns the number of virtual machines without series.
        config_loaded: Returns whether the last configuration read is in force.
        failures: Counter of failed operations.
    """

    metrics = EXPORTER

    def __init__(
        self,
        streams: Callable[[], Sequence[tuple[Stream, bool]]],
        spans: SpanCounter | None,
        limited: Callable[[], int],
        config_loaded: Callable[[], bool] = lambda: True,
        failures: ErrorCounter | None = None,
    ) -> None:
        self._streams = streams
        self._spans = spans
        self._limited = limited
        self._config_loaded = config_loaded
        self._failures = failures or ErrorCounter()

    def describe(self) -> list[PrometheusMetric]:
        """Return the empty families, see `qemu_migration_exporter.metrics.collector.MetricsSink.describe`."""
        return Families(EXPORTER).all

    def collect(self) -> list[PrometheusMetric]:
        """Return the present families."""
        return collect_objects(self)

    def read_objects(self, known: Mapping[str, int]) -> Sequence[ObjectReadings]:  # noqa: ARG002 - streams have no version
        """Read every stream."""
        found = []
        for stream, is_up in self._streams():
            state = StreamState(stream.counts, stream.last_event_ns, is_up)
            found.append(ObjectReadings(stream.name, stream.name, 0, [read(state) for read in _READERS]))
        return found

    def collect_shared(self, families: Families) -> None:
        """Add the samples that belong to no stream."""
        families.gauge(f"{_PREFIX}build_info", [qemu_migration_exporter.__version__, platform.python_version()], 1)
        families.gauge(f"{_PREFIX}config_last_reload_successful", [], int(self._config_loaded()))
        families.counter(f"{_PREFIX}series_limited_total", [], self._limited())
        for part, number in self._failures.counts().items():
            families.counter(f"{_PREFIX}failures_total", [part.value], number)
        for outcome, number in (self._spans.counts() if self._spans else total([])).items():
            families.counter(f"{_PREFIX}spans_total", [outcome.outcome, outcome.reason], number)
