"""Cache of the exposition text between scrapes.

prometheus-client renders samples at some 3 µs each, and most of a host's series do not change between two scrapes: a
phase, a limit, an ended migration. So the text of every object's samples is kept per metric, and the text of a total or
histogram as a whole. At a scrape, only readings and families that differ from the kept ones become samples. The library
renders these as one small registry, and its lines replace the kept lines. The page consists of the headers and the kept
lines in the order of the table:

    # HELP qemu_migration_pending_bytes …      rendered at every scrape
    # TYPE qemu_migration_pending_bytes gauge
    qemu_migration_pending_bytes{vm="a"} 1.0   kept for a
    qemu_migration_pending_bytes{vm="b"} 2.0   kept for b

This relies on one property of both text formats: a sample is one line, and the lines of a family follow its `#` lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from qemu_migration_exporter.metrics.families import (
    Families,
    ObjectCollector,
    ObjectReadings,
    Reading,
    object_metrics,
)

Encoder = Callable[[Collector], bytes]

#: HELP and TYPE; our metrics have no UNIT.
_HEADER_LINES: Final = 2

#: Differs from every reading.
_UNKNOWN: Final = object()


class _Kept:
    """The readings of one object and their text, by metric."""

    __slots__ = ("exemplar", "readings", "text", "version")

    def __init__(self, metrics: int) -> None:
        self.version = -1
        self.exemplar: Exemplar | None = None
        self.readings: list[Reading | object] = [_UNKNOWN] * metrics
        self.text = [b""] * metrics


class _Rendered(Collector):
    """A registry of given families."""

    def __init__(self, families: Sequence[PrometheusMetric]) -> None:
        self._families = families

    def collect(self) -> Sequence[PrometheusMetric]:
        return self._families


class CollectorText:
    """The text of one collector in one format."""

    def __init__(self, collector: ObjectCollector) -> None:
        self._collector = collector
        self._object_metrics = object_metrics(collector.metrics)
        self._kept: dict[str, _Kept] = {}
        #: Samples and text of totals and histograms.
        self._kept_shared: dict[str, tuple[list[Sample], bytes]] = {}

    def render(self, encoder: Encoder) -> tuple[bytes, bytes]:
        """Return the exposition of the collector, and the format's end mark."""
        families = Families(self._collector.metrics)
        self._collector.collect_shared(families)
        shared = self._take_changed(families)
        changed = self._update(families)
        # Not splitlines(): a label's value may have a carriage return, which the formats do not escape.
        lines = (line + b"\n" for line in encoder(_Rendered(families.all)).removesuffix(b"\n").split(b"\n"))
        page: list[bytes] = []
        index = 0
        for metric, samples in zip(self._collector.metrics, shared, strict=True):
            page.extend(islice(lines, _HEADER_LINES))
            if metric.read is None:
                if samples is not None:
                    self._kept_shared[metric.name] = samples, b"".join(islice(lines, len(samples)))
                page.append(self._kept_shared[metric.name][1])
                continue
            for kept, lines_of_object in changed[index]:
                kept.text[index] = b"".join(islice(lines, lines_of_object))
            page.extend(kept.text[index] for kept in self._kept.values())
            index += 1
        return b"".join(page), b"".join(lines)

    def _take_changed(self, families: Families) -> list[list[Sample] | None]:
        """Drop the samples of families that have not changed; return the samples of the others."""
        changed: list[list[Sample] | None] = []
        for metric, family in zip(self._collector.metrics, families.all, strict=True):
            kept = self._kept_shared.get(metric.name)
            is_kept = kept is not None and kept[0] == family.samples
            changed.append(None if is_kept else family.samples)
            if is_kept:
                family.samples = []
        return changed

    def _update(self, families: Families) -> list[list[tuple[_Kept, int]]]:
        """Add samples of changed readings; return, by metric, their objects and their number."""
        changed: list[list[tuple[_Kept, int]]] = [[] for _ in self._object_metrics]
        known = {key: kept.version for key, kept in self._kept.items()}
        found = self._collector.read_objects(known)
        kept_before, self._kept = self._kept, {}
        for item in found:
            kept = kept_before.get(item.key) or _Kept(len(self._object_metrics))
            self._kept[item.key] = kept
            if item.readings is not None:
                self._compare(families, item, kept, changed)
        return changed

    def _compare(
        self, families: Families, item: ObjectReadings, kept: _Kept, changed: list[list[tuple[_Kept, int]]]
    ) -> None:
        is_new_trace = kept.exemplar is not item.exemplar
        kept.version, kept.exemplar = item.version, item.exemplar
        for index, (metric, reading) in enumerate(zip(self._object_metrics, item.readings or (), strict=True)):
            if reading != kept.readings[index] or (is_new_trace and metric.kind == "counter"):
                kept.readings[index] = reading
                changed[index].append((kept, families.reading(metric, item.label, reading, item.exemplar)))
