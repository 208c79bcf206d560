"""Metrics as data, and their families in one scrape.

A `Metric` is a row of a table: name, type, help and labels. A metric that exists once per object (a virtual machine or
a stream) also has a function that reads the value from that object. `collector` and `self_collector` take readings;
`text_cache` compares them with the previous scrape, and only changed readings are rendered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as PrometheusMetric
from prometheus_client.samples import Exemplar

Buckets = Sequence[tuple[str, float] | tuple[str, float, Exemplar]]

#: A number, one number for each of the metric's states, the values of all labels of an info metric, or no sample.
Reading = float | tuple[float, ...] | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family.

    Attributes:
        name: The name in the exposition, with `_total`.
        buckets: Upper bounds of a histogram's buckets in seconds, without +Inf.
        read: The reading of one object, for metrics that exist once per object.
        states: The values of the last label, if a reading has a number for each of them.
    """

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    read: Callable[[Any], Reading] | None = None
    states: tuple[str, ...] = ()


class ObjectReadings(NamedTuple):
    """The readings of one object.

    Attributes:
        key: Unique among the objects of its collector.
        label: The value of the object's own label.
        version: Changes whenever a reading may have changed.
        readings: A reading for each metric of an object; None if the caller knows this version.
        exemplar: The exemplar for the object's counters.
    """

    key: str
    label: str
    version: int
    readings: Sequence[Reading] | None
    exemplar: Exemplar | None = None


class ObjectCollector(Protocol):
    """A collector whose families have samples of objects and shared samples."""

    @property
    def metrics(self) -> Sequence[Metric]: ...

    def read_objects(self, known: Mapping[str, int]) -> Sequence[ObjectReadings]:
        """Return every object; without readings if its version is in `known`."""
        ...

    def collect_shared(self, families: Families) -> None:
        """Add the samples that belong to no object."""
        ...


class Families:
    """The families of one scrape; a name that is not in the table raises KeyError."""

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
        """Add a sample of a gauge; None adds none."""
        if value is not None:
            self._gauges[name].add_metric(labels, value)

    def counter(self, name: str, labels: Sequence[str], value: float, exemplar: Exemplar | None = None) -> None:
        """Add a sample of a counter."""
        self._counters[name].add_metric(labels, value, exemplar=exemplar)

    def histogram(self, name: str, labels: Sequence[str], buckets: Buckets, total: float) -> None:
        """Add the samples of a histogram with cumulative buckets."""
        self._histograms[name].add_metric(labels, buckets=buckets, sum_value=total)

    def reading(self, metric: Metric, label: str, reading: Reading, exemplar: Exemplar | None) -> int:
        """Add the samples of an object's reading; return their number."""
        samples: list[tuple[Sequence[str], float]]
        if reading is None:
            return 0
        if not isinstance(reading, tuple):
            samples = [((label,), reading)]
        elif metric.states:
            numbers = cast("tuple[float, ...]", reading)
            samples = [((label, state), number) for state, number in zip(metric.states, numbers, strict=True)]
        else:
            samples = [([str(value) for value in reading], 1)]
        for labels, value in samples:
            if metric.kind == "counter":
                self.counter(metric.name, labels, value, exemplar)
            else:
                self.gauge(metric.name, labels, value)
        return len(samples)


def collect_objects(collector: ObjectCollector) -> list[PrometheusMetric]:
    """Build all families of a collector."""
    families = Families(collector.metrics)
    collector.collect_shared(families)
    metrics = object_metrics(collector.metrics)
    for item in collector.read_objects({}):
        for metric, reading in zip(metrics, item.readings or (), strict=True):
            families.reading(metric, item.label, reading, item.exemplar)
    return families.all


def object_metrics(metrics: Iterable[Metric]) -> list[Metric]:
    """Return the metrics that exist once per object."""
    return [metric for metric in metrics if metric.read is not None]
