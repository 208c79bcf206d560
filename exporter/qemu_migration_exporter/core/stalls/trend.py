"""Straight lines through the last boundaries, with the uncertainty of their slope.

QEMU sends at its bandwidth and the guest dirties at its rate. As long as neither changes, pending falls by a constant
number of bytes per second, which is a straight line over time even though the rounds become shorter.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from qemu_migration_exporter.core.records import record

#: Student's t, one-sided 95 %, by degrees of freedom; more use the last value. With three boundaries the noise
#: is nearly unknown and the factor is large, with twenty it is close to the normal distribution's 1.64.
_STUDENT: Final = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83, 1.81, 1.70)

#: A line through two points has no residuals.
MIN_POINTS: Final = 3


@record(frozen=True, slots=True)
class Point:
    """Pending bytes at one boundary, seconds since the first."""

    seconds: float
    pending: float


@record(frozen=True, slots=True)
class Line:
    """Least-squares line through the last points.

    Attributes:
        points: Number of points.
        span: Seconds from the first to the last point.
        fall: Bytes per second by which pending falls; negative while it rises.
        error: Standard error of the fall.
        is_flattening: Every step falls, and the last step falls slower than the first.
    """

    points: int
    span: float
    fall: float
    error: float
    is_flattening: bool

    @property
    def margin(self) -> float:
        """Bytes per second within which the fall is known, one-sided 95 %; the error itself without residuals."""
        if self.points < MIN_POINTS:
            return self.error
        return _STUDENT[min(self.points - MIN_POINTS, len(_STUDENT) - 1)] * self.error

    @property
    def steepest_fall(self) -> float:
        """Steepest fall that the points allow.

        A fall that flattens out, as on the way to a plateau, will not become steeper than its mean.
        """
        return self.fall if self.is_flattening else self.fall + self.margin

    @property
    def shallowest_fall(self) -> float:
        """Shallowest fall that the points allow."""
        return self.fall - self.margin

    @property
    def round_seconds(self) -> float:
        """Mean time between two boundaries."""
        return self.span / (self.points - 1)


def lines(points: Sequence[Point]) -> Iterator[Line]:
    """Yield the line through the last three points, the last four, and so on to all of them.

    The sums are those of Welford, from the last point backwards, so that all lines cost one pass.
    """
    count, mean_x, mean_y, sum_xx, sum_xy, sum_yy = 0, 0.0, 0.0, 0.0, 0.0, 0.0
    falls_always, last_step, first_step = True, None, 0.0
    for index in range(len(points) - 1, -1, -1):
        point = points[index]
        count += 1
        dx, dy = point.seconds - mean_x, point.pending - mean_y
        mean_x += dx / count
        mean_y += dy / count
        sum_xx += dx * (point.seconds - mean_x)
        sum_xy += dx * (point.pending - mean_y)
        sum_yy += dy * (point.pending - mean_y)
        if count > 1:
            after = points[index + 1]
            first_step = (point.pending - after.pending) / max(after.seconds - point.seconds, 1e-9)
            last_step = first_step if last_step is None else last_step
            falls_always &= first_step > 0
        if count < MIN_POINTS or sum_xx <= 0:
            continue
        slope = sum_xy / sum_xx
        residual = max(0.0, sum_yy - slope * sum_xy)
        yield Line(
            points=count,
            span=points[-1].seconds - point.seconds,
            fall=-slope,
            error=math.sqrt(residual / (count - 2) / sum_xx),
            is_flattening=falls_always and last_step is not None and last_step < first_step,
        )
