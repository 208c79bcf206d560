"""Estimate of the time to the end, as an interval that contains it in nine of ten moments.

Four kinds of evidence give an estimate, the first that applies:

1. If the lines of `trend` over the last 10 s and the last round all fall and agree, they are extrapolated, with a
   margin that grows with their disagreement.
2. A single line over 8 s or more is extrapolated, if even its shallowest fall (one-sided 95 %) is above zero. Its
   bounds are wide: at the earliest, the migration ends when what is pending has been sent.
3. If the last round dirtied clearly less than is sent now, as after a network dip, pending falls by the difference.
4. So near the threshold that pending may wander below it at any moment, chance decides. The longer this has lasted, the
   longer it may last: in nine of ten moments at most nine times as long again.

During a network dip the lines are about the network and give no estimate. In the bulk round the rate at which pending
falls is known, but not the memory dirtied meanwhile.
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

#: A single line has to be this long and to have as many points. Its latest end gets this margin, and an interval is of
#: no use to an operator if its ends are further apart than this factor.
_LONG_SECONDS: Final = 8.0
_LONG_POINTS: Final = 4
_LATER: Final = 2.5
_WIDEST: Final = 30.0

#: Share of the bandwidth below which a dirty rate is clearly less, and the margin of the estimate by rates.
_CLEARLY_LESS: Final = 0.85
_RATES_MARGIN: Final = 3.0

#: An end that is further away, in seconds, is not foreseeable.
_FORESEEABLE: Final = 100.0

#: Rounds near the end are short, and their number varies by one.
_LEAST_SECONDS: Final = 0.5

#: Chance: times as long again, and the shortest upper bound in seconds.
_AS_LONG_AGAIN: Final = 9.0
_LEAST_CHANCE: Final = 60.0

#: Margin in the bulk round: zero pages make it faster, the rounds that follow make it longer.
_BULK_SOONER: Final = 2.0
_BULK_LATER: Final = 3.0

Interval = tuple[float, float]


def eta_of_rounds(
    boundaries: Sequence[Point],
    *,
    threshold: float,
    bandwidth: float,
    dirty_rate: float | None,
    is_dip: bool,
    elapsed: float,
) -> Interval | None:
    """Return the least and the greatest time to the end, None without enough evidence.

    Args:
        boundaries: The last boundaries.
        threshold: Bytes below which QEMU stops the guest.
        bandwidth: Bytes per second.
        dirty_rate: Bytes per second that the last round dirtied.
        is_dip: The bandwidth is far below the best of the last seconds.
        elapsed: Seconds since the last boundary.
    """
    if not boundaries or threshold <= 0 or bandwidth <= 0:
        return None
    pending = boundaries[-1].pending
    if pending < threshold:
        return 0.0, pending / bandwidth
    distance = pending - threshold
    interval = None
    if not is_dip:
        known, sending = list(lines(boundaries)), distance / bandwidth
        interval = _agreed(known, distance, _last_fall(boundaries)) or _single(known, distance, sending)
    interval = interval or _by_rates(distance, bandwidth, dirty_rate)
    if interval is None or interval[0] > _FORESEEABLE:
        return None
    least, most = interval
    return max(0.0, least - elapsed), max(0.0, most + threshold / bandwidth - elapsed)


def eta_by_chance(level_seconds: float) -> Interval:
    """Return the interval of a migration that came no nearer for `level_seconds`, but is near its threshold."""
    return 0.0, max(_LEAST_CHANCE, _AS_LONG_AGAIN * level_seconds)


def eta_of_bulk(pending: int, rate: float | None) -> Interval | None:
    """Return the least and the greatest time to the end if memory is sent at this rate, in bytes per second."""
    if not rate or rate <= 0:
        return None
    seconds = pending / rate
    return seconds / _BULK_SOONER, seconds * _BULK_LATER + _LEAST_SECONDS


def _last_fall(boundaries: Sequence[Point]) -> float:
    """Return the bytes per second by which pending fell in the last round."""
    if len(boundaries) < 2:  # noqa: PLR2004
        return 0.0
    before, last = boundaries[-2:]
    return (before.pending - last.pending) / max(last.seconds - before.seconds, 1e-9)


def _agreed(known: Sequence[Line], distance: float, last_fall: float) -> Interval | None:
    recent = [line.fall for index, line in enumerate(known) if index == 0 or line.span <= _RECENT_SECONDS]
    if not recent or min(recent) <= 0:
        return None
    times = [distance / fall for fall in (*recent, last_fall) if fall > 0]
    disagreement = max(times) / max(min(times), _LEAST_SECONDS)
    if disagreement > _DISAGREEMENT:
        return None
    margin = _MARGIN * max(1.0, disagreement)
    return min(times) / margin, max(times) * margin + _LEAST_SECONDS


def _single(known: Sequence[Line], distance: float, sending: float) -> Interval | None:
    long = [line for line in known if line.span >= _LONG_SECONDS and line.points >= _LONG_POINTS]
    falling = [line for line in long if line.shallowest_fall > 0]
    if not falling:
        return None
    line = min(falling, key=lambda line: line.margin / line.fall)
    most = distance / line.shallowest_fall * _LATER + _LEAST_SECONDS
    soonest = distance / (line.fall + line.margin)
    return (sending, most) if most <= _WIDEST * max(soonest, _LEAST_SECONDS) else None


def _by_rates(distance: float, bandwidth: float, dirty_rate: float | None) -> Interval | None:
    if dirty_rate is None or dirty_rate >= _CLEARLY_LESS * bandwidth:
        return None
    seconds = distance / (bandwidth - dirty_rate)
    return seconds / _RATES_MARGIN, seconds * _RATES_MARGIN + _LEAST_SECONDS
