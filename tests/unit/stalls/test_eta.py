"""The estimate of the time to the end."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.stalls.eta import Interval, eta_by_chance, eta_of_bulk, eta_of_rounds
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


def eta(
    points: list[Point],
    *,
    threshold: float = 10,
    bandwidth: float = 10,
    dirty_rate: float | None = None,
    is_dip: bool = False,
    elapsed: float = 0,
) -> Interval | None:
    """Return the estimate; without a dirty rate only lines give one."""
    return eta_of_rounds(
        points, threshold=threshold, bandwidth=bandwidth, dirty_rate=dirty_rate, is_dip=is_dip, elapsed=elapsed
    )


@pytest.mark.parametrize("ratio", [0.6, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [3, 5, 7])
def test_steady_fall_eta_contains_end(ratio: float, count: int) -> None:
    points = shrinking(ratio, count)
    given = eta(points, threshold=3)
    assert given is not None
    low, high = given
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
        ("a fall of a thousandth", shrinking(0.999, 5, first=900), 3, 10),
        ("noise", [Point(second, mib) for second, mib in enumerate([50, 40, 60, 45, 55])], 10, 10),
    ],
)
def test_no_eta_without_evidence(what: str, points: list[Point], threshold: float, bandwidth: float) -> None:
    assert eta(points, threshold=threshold, bandwidth=bandwidth) is None, what


@pytest.mark.parametrize(("wobble", "high"), [(3, 180), (12, 300)])
def test_eta_of_noisy_fall_is_wide(wobble: int, high: float) -> None:
    """Neighbours contradict one another, and the whole still falls by 2 a second, 40 above the threshold.

    With more noise the lines through some of the points contradict one another too.
    """
    points = [Point(second, 90 - 2 * second + (wobble, -wobble)[second % 2]) for second in range(20)]
    given = eta(points)
    assert given is not None
    assert 0 < given[0] < 20 < given[1] < high


@pytest.mark.parametrize(
    ("what", "dirty_rate", "is_dip", "expected"),
    [
        ("half of the bandwidth", 5, False, 10),
        ("half of it, in a dip", 5, True, 10),
        ("nine tenths of it", 9, False, None),
        ("unknown", None, False, None),
    ],
)
def test_rates_give_eta_without_lines(
    *, what: str, dirty_rate: float | None, is_dip: bool, expected: float | None
) -> None:
    """A network dip raised pending; 50 above the threshold, it falls again by bandwidth less dirty rate."""
    points = [Point(0, 40), Point(1, 30), Point(9, 70), Point(12, 60)]
    given = eta(points, dirty_rate=dirty_rate, is_dip=is_dip)
    assert (given is None) == (expected is None), what
    if given is not None and expected is not None:
        assert given[0] <= expected / 3 + 0.01 < expected < given[1] < 4 * expected


def at(*times_and_sizes: float) -> list[Point]:
    """Return boundaries, given as time, pending, time, pending, and so on."""
    return [Point(*pair) for pair in zip(times_and_sizes[::2], times_and_sizes[1::2], strict=True)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (at(0, 40, 1, 30, 2, 20), (1 / 2, 1 * 2 + 0.5)),
        (at(0, 60, 1, 40, 2, 30), (4 / 3 / 3, 2 * 3 + 0.5)),
        (at(0, 40, 1, 25, 2, 10), (0, 0.5)),
        (at(0, 52, 1, 32, 2, 30), (20 / 11 / 11, 10 * 11 + 0.5)),
        (at(0, 56, 1, 32, 2, 30), None),
        (at(0, 10, 0.5, 50, 5.5, 40, 10.5, 30), (10 / 2, 10 * 2 + 0.5)),
        (at(0, 10, 1, 50, 5.5, 40, 10, 30), None),
        (at(0, 90, 6, 51, 7, 50, 8, 52), (4.2, 42 / 2.4548 * 2.5 + 0.5)),
        (at(0.1, 90, 6, 51, 7, 50, 8, 52), None),
        (at(0, 98, 6, 51, 7, 50, 8, 59), (4.9, 134.607)),
        (at(0, 92, 6, 51, 7, 50, 8, 58), None),
        (at(0, 99, 2, 81, 8, 51, 9, 50, 10, 52), (4.2, 42 / 3.3866 * 2.5 + 0.5)),
    ],
    ids=[
        "lines and the last round agree",
        "the last round falls slower",
        "at the threshold",
        "they differ by 5.5 times",
        "they differ by 6.5 times",
        "a rising line is older than 10 s",
        "a rising line is of the last 10 s",
        "a line of 8 s falls for certain",
        "it is shorter than 8 s",
        "its ends are 29 times apart",
        "its ends are 31 times apart",
        "the most certain of two lines counts",
    ],
)
def test_lines_give_interval(points: list[Point], expected: Interval | None) -> None:
    """Lines that agree give a margin of two, and more if they differ; the end also sends the threshold, in 1 s."""
    given = eta(points)
    assert given == (None if expected is None else pytest.approx((expected[0], expected[1] + 1), rel=1e-3))


@pytest.mark.parametrize(
    ("pending", "dirty_rate", "expected"),
    [(60, 5, (10 / 3, 31.5)), (60, 8.49, (11.04, 100.8)), (60, 8.5, None), (610, 8, (100, 901.5)), (613, 8, None)],
    ids=["half", "nearly 85 %", "85 %", "in 100 s", "later than in 100 s"],
)
def test_rates_give_interval(pending: float, dirty_rate: float, expected: Interval | None) -> None:
    """The bandwidth is 10; an end in over 100 s at best is not foreseeable."""
    given = eta(at(0, 40, 1, pending), dirty_rate=dirty_rate)
    assert given == (None if expected is None else pytest.approx(expected, rel=1e-3))


@pytest.mark.parametrize("rate", [10, 40])
def test_bulk_interval_is_half_to_three_times(rate: int) -> None:
    assert eta_of_bulk(80, rate) == (80 / rate / 2, 80 / rate * 3 + 0.5)


def test_flattening_fall_eta_contains_last_round() -> None:
    """A big first step after a long bulk round, then small steps: the end is nearer to that of the last step."""
    points = [Point(0, 29.4), Point(0.7, 22.3), Point(1.1, 21.9)]
    given = eta(points)
    assert given is None or given[1] > (21.9 - 10) / 1.0


@pytest.mark.parametrize(("level_seconds", "expected"), [(0, 60), (3, 60), (20, 180), (100, 900)])
def test_chance_eta_grows_with_time(level_seconds: float, expected: float) -> None:
    assert eta_by_chance(level_seconds) == (0, expected)


def test_eta_falls_between_boundaries() -> None:
    before, after = (eta(shrinking(0.8, 5), threshold=3, elapsed=seconds) for seconds in (0, 2))
    assert before is not None
    assert after is not None
    assert list(after) == pytest.approx([before[0] - 2, before[1] - 2])


def test_fitting_eta_is_switchover() -> None:
    assert eta([Point(0, 2)], threshold=3) == (0, 0.2)


@pytest.mark.parametrize(
    ("pending", "rate", "expected"), [(160e6, 22_680, 7_055), (160e6, None, None), (160e6, 0, None)]
)
def test_eta_in_bulk_round(pending: int, rate: float | None, expected: float | None) -> None:
    """At 22 kB/s two hours."""
    given = eta_of_bulk(int(pending), rate)
    assert (given is None) == (expected is None)
    if given is not None and expected is not None:
        assert given[0] < expected < given[1]
