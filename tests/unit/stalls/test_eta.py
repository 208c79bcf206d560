"""The estimate of the time to the end."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.stalls.eta import eta_of_bulk, eta_of_rounds
from qemu_migration_exporter.core.stalls.trend import Point


def shrinking(ratio: float, count: int, *, first: float = 100.0, bandwidth: float = 10.0) -> list[Point]:
    """Return boundaries of rounds that take as long as sending what is pending."""
    points, seconds, pending = [], 0.0, first
    for _ in range(count):
        points.append(Point(seconds, pending))
        seconds, pending = seconds + pending / bandwidth, pending * ratio
    return points


def end_of(ratio: float, *, threshold: float, first: float = 100.0, bandwidth: float = 10.0) -> float:
    """Return when such rounds reach the threshold, in s."""
    points = shrinking(ratio, 500, first=first, bandwidth=bandwidth)
    return next(point.seconds for point in points if point.pending < threshold)


@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [3, 5, 7])
def test_steady_fall_eta_contains_end(ratio: float, count: int) -> None:
    points = shrinking(ratio, count)
    eta = eta_of_rounds(points, threshold=3, bandwidth=10, elapsed=0)
    assert eta is not None
    low, high = eta
    assert low <= end_of(ratio, threshold=3) - points[-1].seconds <= high
    assert high < 6 * max(low, 0.5)


@pytest.mark.parametrize(
    ("what", "points", "threshold", "bandwidth"),
    [
        ("no boundary", [], 3, 10),
        ("two boundaries", shrinking(0.8, 2), 3, 10),
        ("no threshold", shrinking(0.8, 5), 0, 10),
        ("no bandwidth", shrinking(0.8, 5), 3, 0),
        ("level", shrinking(1, 5), 3, 10),
        ("growing", shrinking(1.1, 5), 3, 10),
        ("near the threshold", [Point(second, 10.4 - second / 100) for second in range(5)], 10, 10),
        ("noise", [Point(second, mib) for second, mib in enumerate([50, 40, 60, 45, 55])], 10, 10),
    ],
)
def test_no_eta_without_evidence(what: str, points: list[Point], threshold: float, bandwidth: float) -> None:
    assert eta_of_rounds(points, threshold=threshold, bandwidth=bandwidth, elapsed=0) is None, what


def test_eta_of_noisy_fall_is_wide() -> None:
    """Neighbours contradict one another, and the whole still falls by 2 a second, 40 above the threshold."""
    points = [Point(second, 90 - 2 * second + (3, -3)[second % 2]) for second in range(20)]
    eta = eta_of_rounds(points, threshold=10, bandwidth=10, elapsed=0)
    assert eta is not None
    assert eta[0] < 20 < eta[1]
    assert eta[1] < 30 * eta[0]


def test_eta_falls_between_boundaries() -> None:
    before, after = (eta_of_rounds(shrinking(0.8, 5), threshold=3, bandwidth=10, elapsed=s) for s in (0, 2))
    assert before is not None
    assert after is not None
    assert list(after) == pytest.approx([before[0] - 2, before[1] - 2])


def test_fitting_eta_is_switchover() -> None:
    assert eta_of_rounds([Point(0, 2)], threshold=3, bandwidth=10, elapsed=0) == (0, 0.2)


@pytest.mark.parametrize(
    ("pending", "rate", "expected"), [(160e6, 22_680, 7_055), (160e6, None, None), (160e6, 0, None)]
)
def test_eta_in_bulk_round(pending: int, rate: float | None, expected: float | None) -> None:
    """At 22 kB/s two hours."""
    eta = eta_of_bulk(int(pending), rate)
    assert (eta is None) == (expected is None)
    if eta is not None and expected is not None:
        assert eta[0] < expected < eta[1]
