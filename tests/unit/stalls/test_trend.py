"""Lines through the last boundaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qemu_migration_exporter.core.stalls.trend import Point, lines


def test_lines_end_at_last_point() -> None:
    points = [Point(second, 100 - 3 * second) for second in range(6)]
    found = list(lines(points))
    assert [line.points for line in found] == [3, 4, 5, 6]
    assert [line.span for line in found] == [2, 3, 4, 5]
    assert all(line.fall == pytest.approx(3) and line.error == pytest.approx(0, abs=1e-6) for line in found)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_fewer_than_three_points_make_no_line(count: int) -> None:
    assert list(lines([Point(second, 9) for second in range(count)])) == []


def test_points_at_one_time_make_no_line() -> None:
    assert list(lines([Point(1, 9), Point(1, 8), Point(1, 7)])) == []


def test_margin_is_student_t_times_error() -> None:
    """Residuals of 1, -2 and 1 about a level: the error is the root of 6 / 1 / 2, and t of one degree 6.31."""
    (line,) = lines([Point(0, 11), Point(1, 8), Point(2, 11)])
    assert line.error == pytest.approx((6 / 2) ** 0.5)
    assert line.margin == pytest.approx(6.31 * line.error)
    assert (line.steepest_fall, line.shallowest_fall) == (line.margin, -line.margin)
    assert line.round_seconds == 1


@pytest.mark.parametrize(("middle", "is_flattening"), [(90.0, True), (97.0, False), (101.0, False)])
def test_fall_that_flattens_gets_no_steeper(middle: float, *, is_flattening: bool) -> None:
    (line,) = lines([Point(0, 100), Point(1, middle), Point(2, 89)])
    assert line.is_flattening is is_flattening
    assert line.steepest_fall == pytest.approx(5.5 + (0 if is_flattening else line.margin))


@given(
    pending=st.lists(st.floats(1e3, 1e12), min_size=3, max_size=40),
    step=st.floats(0.01, 100),
)
def test_one_pass_agrees_with_textbook(pending: list[float], step: float) -> None:
    points = [Point(index * step, size) for index, size in enumerate(pending)]
    line = list(lines(points))[-1]
    count = len(points)
    mean_x = sum(point.seconds for point in points) / count
    mean_y = sum(point.pending for point in points) / count
    sum_xx = sum((point.seconds - mean_x) ** 2 for point in points)
    slope = sum((point.seconds - mean_x) * (point.pending - mean_y) for point in points) / sum_xx
    scale = max(pending) / line.span
    assert line.fall == pytest.approx(-slope, rel=1e-6, abs=1e-6 * scale)
