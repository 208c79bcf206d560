"""Counts of durations by bucket, with the newest observation of each bucket as its exemplar."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from prometheus_client.samples import Exemplar

from qemu_migration_exporter.metrics.families import Families


class Histogram:
    """One histogram; its series are cumulative when they are collected."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._exemplars: list[Exemplar | None] = [None] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, exemplar: Mapping[str, str]) -> None:
        """Count a value; a value equal to a bound belongs to the bucket that ends there, as `le` requires."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._exemplars[bucket] = Exemplar(dict(exemplar), value)
        self._sum += value

    def snapshot(self) -> tuple[list[int], float]:
        """Return the counts and the sum."""
        return list(self._counts), self._sum

    def restore(self, counts: Sequence[int], total: float) -> None:
        """Continue earlier counts, unless the buckets have changed since."""
        if len(counts) == len(self._counts):
            self._counts, self._sum = [int(count) for count in counts], float(total)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram with the same bounds."""
        self._counts = [mine + more for mine, more in zip(self._counts, other._counts, strict=True)]
        pairs = zip(self._exemplars, other._exemplars, strict=True)
        self._exemplars = [newer or older for older, newer in pairs]
        self._sum += other._sum

    def add_to(self, families: Families, name: str, labels: Sequence[str]) -> None:
        """Add the samples to a family."""
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        total = 0
        for bound, count, exemplar in zip((*self._bounds, math.inf), self._counts, self._exemplars, strict=True):
            total += count
            text = "+Inf" if bound == math.inf else str(float(bound))
            buckets.append((text, total) if exemplar is None else (text, total, exemplar))
        families.histogram(name, labels, buckets, self._sum)
