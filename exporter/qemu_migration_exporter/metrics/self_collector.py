"""The exporter's own metrics: what it read, what it could not, and what became of its spans."""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector

import qemu_migration_exporter
from qemu_migration_exporter.core.model import SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.table import EXPORTER, Families
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, total

_PREFIX: Final = "qemu_migration_exporter_"


class SpanCounter(Protocol):
    """Source of the numbers of spans by outcome."""

    def counts(self) -> SpanCounts: ...


class ExporterCollector(Collector):
    """Collect from the streams and sinks themselves; nothing is kept here.

    Args:
        streams: Gives the streams with whether each can be read now.
        spans: The span sink, None where none was asked for.
        limited: Gives the number of virtual machines that were denied series.
        config_loaded: Says whether the configuration in force is the last one given.
        failures: Counts what does not work.
    """

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
        """Name the families, see `qemu_migration_exporter.metrics.collector.MetricsSink.describe`."""
        return Families(EXPORTER).all

    def collect(self) -> list[PrometheusMetric]:
        """Build the families from what is known now."""
        families = Families(EXPORTER)
        families.gauge(f"{_PREFIX}build_info", [qemu_migration_exporter.__version__, platform.python_version()], 1)
        families.gauge(f"{_PREFIX}config_last_reload_successful", [], int(self._config_loaded()))
        families.counter(f"{_PREFIX}series_limited_total", [], self._limited())
        for part, number in self._failures.counts().items():
            families.counter(f"{_PREFIX}failures_total", [part.value], number)
        for stream, up in self._streams():
            _collect_stream(families, stream, up=up)
        for outcome, number in (self._spans.counts() if self._spans else total([])).items():
            families.counter(f"{_PREFIX}spans_total", [outcome.outcome, outcome.reason], number)
        return families.all


def _collect_stream(families: Families, stream: Stream, *, up: bool) -> None:
    counts, last_ns = stream.counts, stream.last_event_ns
    families.gauge(f"{_PREFIX}stream_up", [stream.name], int(up))
    families.gauge(
        f"{_PREFIX}stream_last_event_timestamp_seconds", [stream.name], None if last_ns is None else last_ns / 1e9
    )
    for outcome, lines in (("event", counts.events), ("noise", counts.noise), ("malformed", counts.malformed)):
        families.counter(f"{_PREFIX}lines_total", [stream.name, outcome], lines)
    for kind in SurpriseKind:
        families.counter(f"{_PREFIX}surprises_total", [stream.name, kind.value], counts.surprises[kind])
