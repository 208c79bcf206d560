"""Estimate of the time to the end, from the straight lines of `trend`, which the verdict uses too.

Two kinds of evidence give an estimate. If all lines of the last 10 s fall and agree, they are extrapolated, with a
margin that grows with their disagreement. Otherwise a single line over 8 s or more is extrapolated, if even its
shallowest fall (one-sided 95 %) is above zero; the bounds are wide then. Near the threshold chance decides, and there
is no estimate. In the bulk round the rate at which pending falls is known, but not the memory dirtied meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.stalls.trend import Line, Point, lines

#: Lines up to this length have to agree.
_RECENT_SECONDS: Final = 10.0

#: Margin of lines that agree, and the disagreement up to which they are believed.
_MARGIN: Final = 2.0
_DISAGREEMENT: Final = 6.0

#: A single line has to be this long and to have as many points; its bounds are widened by these factors.
_LONG_SECONDS: Final = 8.0
_LONG_POINTS: Final = 4
_SOONER: Final = 4.0
_LATER: Final = 2.5

#: A wider interval is of no use to an operator.
_WIDEST: Final = 30.0

#: Distance to the threshold, relative to it, below which chance decides.
_NEAR: Final = 0.05

#: Rounds near the end are short, and their number varies by one.
_LEAST_SECONDS: Final = 0.5

#: Margin in the bulk round: zero pages make it faster, the rounds that follow make it longer.
_BULK_SOONER: Final = 2.0
_BULK_LATER: Final = 3.0

Interval = tuple[float, float]


def eta_of_rounds(
    boundaries: Sequence[Point], *, threshold: float, bandwidth: float, elapsed: float
) -> Interval | None:
    """Return the least and the greatest time to the end, None without enough evidence.

    Args:
        boundaries: The last boundaries.
        threshold: Bytes below which QEMU stops the guest.
        bandwidth: Bytes per second.
        elapsed: Seconds since the last boundary.
    """
    if not boundaries or threshold <= 0 or bandwidth <= 0:
        return None
    pending = boundaries[-1].pending
    if pending < threshold:
        return 0.0, pending / bandwidth
    distance = pending - threshold
    if distance < _NEAR * threshold:
        return None
    known = list(lines(boundaries))
    interval = _agreed(known, distance) or _single(known, distance)
    if interval is None:
        return None
    least, most = interval
    return max(0.0, least - elapsed), max(0.0, most + threshold / bandwidth - elapsed)


def eta_of_bulk(pending: int, rate: float | None) -> Interval | None:
    """Return the least and the greatest time to the end if memory is sent at this rate, in bytes per second."""
    if not rate or rate <= 0:
        return None
    seconds = pending / rate
    return seconds / _BULK_SOONER, seconds * _BULK_LATER + _LEAST_SECONDS


def _agreed(known: Sequence[Line], distance: float) -> Interval | None:
    recent = [line for index, line in enumerate(known) if index == 0 or line.span <= _RECENT_SECONDS]
    if not recent or min(line.fall for line in recent) <= 0:
        return None
    times = [distance / line.fall for line in recent]
    disagreement = max(times) / max(min(times), _LEAST_SECONDS)
    if disagreement > _DISAGREEMENT:
        return None
    margin = _MARGIN * max(1.0, disagreement)
    return min(times) / margin, max(times) * margin + _LEAST_SECONDS


def _single(known: Sequence[Line], distance: float) -> Interval | None:
    long = [line for line in known if line.span >= _LONG_SECONDS and line.points >= _LONG_POINTS]
    falling = [line for line in long if line.shallowest_fall > 0]
    if not falling:
        return None
    line = min(falling, key=lambda line: line.margin / line.fall)
    least = distance / (line.fall + line.margin) / _SOONER
    most = distance / line.shallowest_fall * _LATER + _LEAST_SECONDS
    return (least, most) if most <= _WIDEST * max(least, _LEAST_SECONDS) else None
