"""The rule of the verdict: the shortest possible time to the threshold, judged at the boundaries between rounds.

Pending bytes are comparable only just after a bitmap sync. Inside a round they always fall, and the bulk round begins
with all memory, so its own boundary proves nothing.

The rule:

1. A *look-back* is the last three boundaries, the last four, and so on through 40 s or eight boundaries, whichever is
   longer; the last two if they are level and 12 s apart. A straight line is fitted to each.
   Its *best case* is the time to the threshold along the steepest fall that the boundaries allow, one-sided 95 %.
   Level boundaries allow no fall; they may still wander unseen, by 6 % in 100 s, and by the square root of
   time for longer or shorter: at 1.25 times the threshold 7 s of look-back exclude that, at 1.36 times 3.8 s do.
2. A migration is *stalled* when the best case of some look-back of 3.8 s or more is over 100 s and over 20 rounds.
3. Six kinds of evidence concern other causes than the guest, or contradict a verdict. No verdict is given

   - while the shortest look-back that could prove a stall falls fast enough by itself, because the migration is
     on its way again;
   - while the last progress is more recent than the longest pause before an earlier progress: a guest that writes
     in bursts got nearer after such a pause before. A pause of five rounds or more was a step of a guest that gets
     nearer in steps, and the next step may take half as long again;
   - until a guest that was getting nearer got no nearer for as long, or for two of the shortest look-backs: its dirty
     rate varies, and a rise of some seconds on the way down is no plateau;
   - when a boundary of the last 40 s was within half of the usual distance (in log) of the threshold, as the low
     points of a saw-tooth are: pending may reach the threshold by chance;
   - on boundaries of a network dip: the look-back's bandwidth is under 60 % of the best of the last 25 s;
   - before auto-converge made its last step, and one round longer.
4. The threshold is the best of the last 25 s, so that a dip does not make a migration that would fit one that is far
   above. It is smoothed over 0.5 s: QEMU needs one window of enough bandwidth, but a spike must not hide a stall.
5. A stall is over with *progress*, a boundary 4 % below all boundaries of the last 40 s, or when the threshold rises
   above the pending bytes. Boundaries before a new high are not low points: the guest has become busier since.

A boundary is judged when a bandwidth window ended after it, because the threshold printed before it is stale.
docs/convergence.md has a picture, the reason for each number, and a comparison with other rules.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from qemu_migration_exporter.core.records import record
from qemu_migration_exporter.core.stalls.ewma import Ewma
from qemu_migration_exporter.core.stalls.trend import Line, Point, lines

_NS: Final = 1e9

#: Some twenty bandwidth windows, so that a single odd window has little weight.
_SMOOTHING_SECONDS: Final = 2.0

#: Some five windows, for the distance to the threshold: QEMU compares pending with the threshold of a single window.
_QUICK_SECONDS: Final = 0.5

#: Share of the usual distance to the threshold, in log, at which a low point counts as near.
_NEAR_SHARE: Final = 0.5

#: Share of the longest pause in progress that must pass again. Rounds shrink a little while a guest gets nearer.
_PAUSE_SHARE: Final = 0.9

#: The same for a pause of so many rounds or more, as between the steps of a guest that gets nearer in steps.
_STEP_SHARE: Final = 1.5
_STEP_ROUNDS: Final = 5

#: Shortest look-backs without progress after which an approach of any length is over.
_APPROACH_LOOK_BACKS: Final = 2

#: Length of a round, in seconds, that is a look-back by itself if its boundaries are level. Two boundaries have no
#: residual, so what counts as progress is their error.
_LONG_ROUND: Final = 12.0

#: Rate and time of a fall that never reaches the threshold, in bytes per second and seconds.
_SLOWEST: Final = 1e-3
_AGES: Final = 1e9

#: Boundaries kept: 40 s of ten a second, the highest rate at which boundaries are judged, and some more.
_MAX_BOUNDARIES: Final = 512

#: Boundaries kept at any age: with rounds of ten seconds or more, 40 s would leave too few.
_LEAST_BOUNDARIES: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Numbers of the rule, each configurable.

    Attributes:
        progress_ratio: Relative fall below all boundaries of the window that counts as progress. KubeVirt's VEP 248
            has the same; working sets vary by less.
        window_seconds: Longest look-back, and memory for low points. KubeVirt's VEP 248 has the same.
        boundaries: Fewest boundaries of a look-back; two can agree by chance.
        look_back_seconds: Shortest look-back. Guests write in bursts of seconds.
        horizon_seconds, horizon_rounds: A threshold further away than both at best is out of reach. Guests that
            shrink by 5 % a round, the slowest that operators wait for, need less.
        wander_ratio: Relative change within `horizon_seconds` that level boundaries cannot exclude unless the
            look-back is as long.
        dip_ratio: Share of the best bandwidth below which a look-back is about the network.
        dip_seconds: Memory for thresholds: a lower bandwidth for longer is no dip.
    """

    progress_ratio: float = 0.04
    window_seconds: float = 40.0
    boundaries: int = 3
    look_back_seconds: float = 3.8
    horizon_seconds: float = 100.0
    horizon_rounds: float = 20.0
    wander_ratio: float = 0.06
    dip_ratio: float = 0.6
    dip_seconds: float = 25.0


@record(frozen=True, slots=True)
class Boundary(Point):
    """Point with the integral of the threshold over time up to it."""

    area: float
    covered: float


@dataclass(slots=True)
class Convergence:
    """Boundaries of one migration, and the verdict on them.

    Attributes:
        best_pending, best_round, best_ns: The boundary with the least pending, None before the first.
        last_pending: Pending at the last boundary.
        progress_ns: Time of the last progress.
        is_stalled: The verdict in force.
        best_case_seconds: Shortest possible time to the threshold, from the last judged boundary; None if pending is
            below the threshold, or if too little is known.
    """

    rules: Rules = field(default_factory=Rules)
    best_pending: int | None = None
    best_round: int | None = None
    best_ns: int | None = None
    last_pending: int | None = None
    progress_ns: int | None = None
    is_stalled: bool = False
    best_case_seconds: float | None = None
    origin_ns: int | None = None
    boundaries: list[Boundary] = field(default_factory=list)
    is_judged: bool = True
    high: float = 0.0
    high_seconds: float = 0.0
    progress_seconds: float = 0.0
    reference: float = 0.0
    longest_pause: float = 0.0
    longest_pause_rounds: int = 0
    rounds_since_progress: int = 0
    steps_left: bool = False
    rounds_to_wait: int = 0
    smoothed: Ewma = field(default_factory=lambda: Ewma(_SMOOTHING_SECONDS))
    window_ns: int | None = None
    area: float = 0.0
    covered: float = 0.0
    peaks: list[tuple[float, float]] = field(default_factory=list)
    quick: Ewma = field(default_factory=lambda: Ewma(_QUICK_SECONDS))
    quick_peaks: list[tuple[float, float]] = field(default_factory=list)

    def boundary(self, at_ns: int, number: int, pending: int) -> bool:
        """Add the boundary that begins round `number`; return whether it is progress."""
        if self.best_pending is None or pending < self.best_pending:
            self.best_pending, self.best_round, self.best_ns = pending, number, at_ns
        self.last_pending, size = pending, float(pending)
        seconds = self._seconds(at_ns)
        if not self.is_stalled and size > self.high * (1 + self.rules.progress_ratio):
            self.high_seconds, self.progress_seconds, self.longest_pause = seconds, seconds, 0.0
            self.reference = size
        self.high = max(self.high, size)
        if seconds - self.progress_seconds > self.rules.window_seconds and self.boundaries:
            self.reference = min(point.pending for point in self.boundaries)
        self._append(Boundary(seconds, size, self.area, self.covered))
        self.is_judged = False
        self.rounds_since_progress += 1
        self.rounds_to_wait = max(0, self.rounds_to_wait - 1)
        if self.progress_ns is not None and pending >= self.reference * (1 - self.rules.progress_ratio):
            return False
        if seconds - self.progress_seconds > self.longest_pause:
            self.longest_pause = seconds - self.progress_seconds
            self.longest_pause_rounds = self.rounds_since_progress
        self.rounds_since_progress = 0
        self.progress_ns, self.progress_seconds, self.reference = at_ns, seconds, size
        self.is_stalled = False
        return True

    def window(self, at_ns: int, threshold: int) -> None:
        """Add the threshold of a bandwidth window that ended."""
        last_ns, self.window_ns = self.window_ns, at_ns
        elapsed = (at_ns - last_ns) / _NS if last_ns is not None and at_ns > last_ns else 0.0
        self.area += threshold * elapsed
        self.covered += elapsed
        seconds = self._seconds(at_ns)
        for peaks, average in ((self.peaks, self.smoothed), (self.quick_peaks, self.quick)):
            value = average.update(threshold, elapsed)
            # Kept falling, so that the first is the greatest.
            while peaks and peaks[-1][1] <= value:
                peaks.pop()
            peaks.append((seconds, value))
            while peaks[0][0] < seconds - self.rules.dip_seconds:
                peaks.pop(0)
        if self.is_stalled and self.fits:
            self.is_stalled = False

    def eased(self, at_ns: int, *, is_last: bool) -> None:
        """Add a step of auto-converge, after which the guest may write slower; `is_last` if QEMU makes no more."""
        self.steps_left, self.rounds_to_wait, self.is_stalled = not is_last, 2, False
        self.high, self.high_seconds = 0.0, self._seconds(at_ns)
        self.progress_seconds, self.longest_pause, self.reference = self.high_seconds, 0.0, 0.0
        self.progress_ns = at_ns if self.last_pending is not None else self.progress_ns

    def restart(self) -> None:
        """Forget the boundaries: a stopped guest is no evidence of its dirty rate."""
        self.boundaries.clear()
        self.is_stalled, self.best_case_seconds, self.is_judged = False, None, True
        self.high, self.high_seconds, self.longest_pause, self.reference = 0.0, 0.0, 0.0, 0.0

    @property
    def fits(self) -> bool:
        """True if the last boundary is below the threshold in force: QEMU will stop the guest."""
        return self.last_pending is not None and self.last_pending < (self.smoothed.value or 0)

    @property
    def is_dip(self) -> bool:
        """True while the threshold, and so the bandwidth, is far below its best."""
        return bool(self.peaks) and (self.smoothed.value or 0.0) < self.rules.dip_ratio * self.peaks[0][1]

    @property
    def is_near(self) -> bool:
        """True if pending is so near above the threshold that level boundaries of a whole window prove no stall."""
        pending, threshold, rules = self.last_pending, self.smoothed.value or 0.0, self.rules
        if not pending or threshold <= 0 or self.fits:
            return False
        wander = rules.wander_ratio * math.sqrt(rules.horizon_seconds / rules.window_seconds)
        return math.log(pending / threshold) < wander

    def seconds_since_progress(self, now_ns: int) -> float:
        """Return the time since the last progress; 0 before the first boundary."""
        return 0.0 if self.progress_ns is None else max(0.0, (now_ns - self.progress_ns) / _NS)

    def seconds_since_boundary(self, now_ns: int) -> float:
        """Return the time since the last boundary; 0 without a boundary."""
        return max(0.0, self._seconds(now_ns) - self.boundaries[-1].seconds) if self.boundaries else 0.0

    def judge(self) -> bool | None:
        """Return whether the migration is stalled by the last boundary; None if that was judged before."""
        if self.is_judged or not self.boundaries:
            return None
        self.is_judged = True
        threshold = max((peaks[0][1] for peaks in (self.peaks, self.quick_peaks) if peaks), default=0.0)
        self.best_case_seconds, is_out_of_reach = (None, False) if self.fits else self._best_case(threshold)
        self.is_stalled |= is_out_of_reach and self._is_conclusive(threshold)
        return self.is_stalled

    def _seconds(self, at_ns: int) -> float:
        if self.origin_ns is None:
            self.origin_ns = at_ns
        return (at_ns - self.origin_ns) / _NS

    def _append(self, boundary: Boundary) -> None:
        """Keep a window of boundaries, and only the last boundary between two judgements."""
        kept = self.boundaries
        if not self.is_judged and len(kept) > self.rules.boundaries and self.window_ns is not None:
            kept.pop()
        kept.append(boundary)
        oldest = boundary.seconds - self.rules.window_seconds
        while len(kept) > _LEAST_BOUNDARIES and (kept[0].seconds < oldest or len(kept) > _MAX_BOUNDARIES):
            kept.pop(0)

    def _lows(self, seconds: float) -> Iterator[Boundary]:
        """Yield the boundaries of the window since the last new high."""
        since = max(self.high_seconds, seconds - self.rules.window_seconds)
        return (point for point in self.boundaries if point.seconds >= since)

    def _best_case(self, threshold: float) -> tuple[float | None, bool]:
        """Return the best case of the look-back with the strongest evidence, and whether a look-back proves a stall."""
        # A single high boundary, as after a freeze, is not sufficient evidence.
        pending = min(point.pending for point in self.boundaries[-self.rules.boundaries :])
        distance = pending - threshold
        if distance <= 0:
            return None, False
        longest, is_out_of_reach, is_under_way = 0.0, False, None
        for line in self._look_backs():
            horizon = max(self.rules.horizon_seconds, self.rules.horizon_rounds * line.round_seconds)
            wander = self._wander_seconds(line, pending, threshold)
            best = min(wander, distance / max(line.steepest_fall, _SLOWEST))
            longest = max(longest, best)
            if wander > horizon:
                if is_under_way is None:
                    is_under_way = line.fall * horizon > distance
                is_out_of_reach |= best > horizon and not self._is_dip(line)
        return longest or None, is_out_of_reach and not is_under_way

    def _look_backs(self) -> Iterator[Line]:
        """Yield the lines of all look-backs, and at last that of a level long round, in which bursts average out."""
        kept, rules = self.boundaries, self.rules
        for line in lines(kept):
            if line.points >= rules.boundaries and line.span >= rules.look_back_seconds:
                yield line
        span = kept[-1].seconds - kept[-2].seconds if len(kept) > 1 else 0.0
        if span < _LONG_ROUND:
            return
        fall, error = kept[-2].pending - kept[-1].pending, rules.progress_ratio * kept[-1].pending
        if abs(fall) <= error:
            yield Line(points=2, span=span, fall=fall / span, error=error / span, is_flattening=False)

    def _wander_seconds(self, line: Line, pending: float, threshold: float) -> float:
        """Return the time in which pending might wander to the threshold without the look-back showing it.

        A random walk covers a distance in a time that grows with its square.
        """
        if not threshold:
            # A threshold that is not known may be near, so a whole window of boundaries is needed.
            return _AGES if line.span >= self.rules.window_seconds * _PAUSE_SHARE else 0.0
        return line.span * (math.log(pending / threshold) / self.rules.wander_ratio) ** 2

    def _is_dip(self, line: Line) -> bool:
        first = self.boundaries[-line.points]
        covered = self.covered - first.covered
        if covered <= 0 or not self.peaks:
            return False
        return (self.area - first.area) / covered < self.rules.dip_ratio * self.peaks[0][1]

    def _is_conclusive(self, threshold: float) -> bool:
        """Return whether no evidence of rule 3 contradicts a verdict."""
        if self.steps_left or self.rounds_to_wait:
            return False
        seconds = self.boundaries[-1].seconds
        share = _STEP_SHARE if self.longest_pause_rounds >= _STEP_ROUNDS else _PAUSE_SHARE
        longest = _APPROACH_LOOK_BACKS * self.rules.look_back_seconds
        approach = min(longest, self.progress_seconds - self.high_seconds)
        if seconds - self.progress_seconds < max(share * self.longest_pause, approach):
            return False
        if not threshold:
            return True
        lows = sorted(point.pending for point in self._lows(seconds))
        middle = len(lows) // 2
        low, usual = lows[0], (lows[middle] + lows[~middle]) / 2  # the median; the module for it takes 0.3 MiB
        return low > threshold and math.log(low / threshold) >= _NEAR_SHARE * math.log(usual / threshold)
