"""Whether the rounds lead anywhere: the rule of the verdict, on what is pending at the boundaries between them.

Pending bytes are comparable only just after a bitmap sync: inside a round they always fall. The bulk round begins with
all memory, so its own boundary says nothing.

The rule, as a person can follow it:

1. A boundary is *progress* when less is pending than at the last progress, by 4 % or more.
2. A migration is stalled when no boundary was progress for 40 s, and three boundaries or more say so.
3. It is stalled sooner when its boundaries are *level*: all within 2 % of one another, the last no more than 0.5 %
   below the first, and none before was better by 4 %, as the low points of a saw-tooth are. The further they are above
   the threshold, the less time it takes to be certain: 21 s at twice the threshold, 9 s at two and a half times, 5 s at
   three times, and never less than 4 s. That is 21 s over (times - 1)².
4. It is given more time when it is nearly there: 60 s where the least pending is within 1.2 times the threshold.
5. A boundary is judged when a bandwidth window ended after it: the threshold printed before it is a stale one. And the
   threshold it is held against is the best of late, half forgotten after 42 s, so that a network that dips for some
   seconds does not make of a migration that would fit one that is far above.
6. Every step of auto-converge starts the clock again, up to the last; as long as there are steps left nothing is judged
   by rule 3.
7. A stall is over when there is progress, or as soon as the threshold rises above what is pending.

Rules 1 and 2 are KubeVirt's VEP 248 (remaining at least 0.96 of the best that is older than 40 s), with the best of the
last 40 s in place of the present boundary, so that the high points of a saw-tooth raise nothing as long as its low
points get lower. Rules 3 to 6 are ours; convergence.md beside this file compares them with what others do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_NS: Final = 1e9

#: The threshold is smoothed over this time: some twenty windows, so that one that was printed late means little.
_SMOOTHING_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The numbers of the rule; each can be configured.

    Attributes:
        progress_ratio: A boundary this much lower is progress. VEP 248's, above what a working set varies by.
        window_seconds: Without progress for so long a migration is stalled. VEP 248's.
        boundaries: So many must agree, whatever the time: of long rounds two can be chance.
        level_ratio: Boundaries that differ by no more are level.
        fall_ratio: Level boundaries may fall by no more from first to last: slower than that takes a quarter of an hour
            and more.
        twice_seconds: How long they must be level at twice the threshold: guests are busy for ten or twenty seconds.
        least_seconds: How long they must be level however far above.
        near_ratio, near_seconds: Where so near, so much time is given: a small change of the guest or of the network
            is enough there.
        memory_seconds: How long a better threshold is remembered (by an exponential decay): longer than a dip.
    """

    progress_ratio: float = 0.04
    window_seconds: float = 40.0
    boundaries: int = 3
    level_ratio: float = 0.02
    fall_ratio: float = 0.005
    twice_seconds: float = 21.0
    least_seconds: float = 4.0
    near_ratio: float = 1.2
    near_seconds: float = 60.0
    memory_seconds: float = 60.0


@dataclass(slots=True)
class LevelRun:
    """Consecutive boundaries that are level."""

    first: int
    first_ns: int
    low: int
    high: int
    boundaries: int = 1

    def extend(self, pending: int, rules: Rules) -> bool:
        """Take one more boundary; say whether they are still level."""
        low, high = min(self.low, pending), max(self.high, pending)
        if high > low * (1 + rules.level_ratio) or pending < self.first * (1 - rules.fall_ratio):
            return False
        self.low, self.high = low, high
        self.boundaries += 1
        return True


@dataclass(slots=True)
class Convergence:
    """The boundaries of one migration, as plain data.

    Attributes:
        best_pending, best_round, best_ns: The boundary with the least pending, None before the first.
        last_pending: The last boundary's.
        progress_ns: When a boundary was last progress, or the clock was started again.
    """

    rules: Rules
    best_pending: int | None = None
    best_round: int | None = None
    best_ns: int | None = None
    last_pending: int | None = None
    progress_ns: int | None = None
    last_ns: int = 0
    reference: int = 0
    least: int = 0
    boundaries: int = 0
    run: LevelRun | None = None
    is_judged: bool = True
    is_easing: bool = False
    threshold: int | None = None
    smoothed: float | None = None
    peak: float = 0.0
    window_ns: int | None = None

    def boundary(self, at_ns: int, number: int, pending: int) -> bool:
        """Note what is pending as round `number` begins; say whether that is progress."""
        if self.best_pending is None or pending < self.best_pending:
            self.best_pending, self.best_round, self.best_ns = pending, number, at_ns
        self.last_pending, self.last_ns = pending, at_ns
        self.is_judged = False
        self.boundaries += 1
        if self.run is None or not self.run.extend(pending, self.rules):
            self.run = LevelRun(pending, at_ns, pending, pending)
        if self.progress_ns is None or pending < self.reference * (1 - self.rules.progress_ratio):
            self._begin(pending, at_ns)
            return True
        self.least = min(self.least, pending)
        return False

    def window(self, at_ns: int, threshold: int) -> None:
        """Note the threshold of a bandwidth window that ended."""
        elapsed = 0.0 if self.window_ns is None else (at_ns - self.window_ns) / _NS
        self.window_ns, self.threshold = at_ns, threshold
        if self.smoothed is None:
            self.smoothed = float(threshold)
        else:
            self.smoothed += (threshold - self.smoothed) * (1 - math.exp(-elapsed / _SMOOTHING_SECONDS))
        self.peak = max(self.smoothed, self.peak * math.exp(-elapsed / self.rules.memory_seconds))

    def eased(self, at_ns: int, *, is_last: bool) -> None:
        """Note that QEMU slowed the guest down, as far as it will if `is_last`."""
        self.restart(at_ns)
        self.is_easing = not is_last

    @property
    def fits(self) -> bool:
        """Whether the last boundary is below the threshold as it is now: QEMU will stop the guest."""
        return self.last_pending is not None and self.last_pending < (self.threshold or 0)

    def judge(self) -> bool | None:
        """Say whether it is stalled by the last boundary; None if that was judged before.

        To be asked when a window has ended.
        """
        if self.is_judged or self.last_pending is None or self.progress_ns is None:
            return None
        self.is_judged = True
        if self.fits:
            return False
        return self._is_level() or self._is_without_progress(self.progress_ns)

    def restart(self, at_ns: int) -> None:
        """Start the clock again: something changed that may bring it on."""
        if self.last_pending is not None:
            self._begin(self.last_pending, at_ns)
            self.run = LevelRun(self.last_pending, at_ns, self.last_pending, self.last_pending)

    def _begin(self, pending: int, at_ns: int) -> None:
        self.reference = self.least = pending
        self.progress_ns, self.boundaries = at_ns, 1

    def _is_level(self) -> bool:
        run, rules = self.run, self.rules
        if run is None or run.boundaries < rules.boundaries or self.is_easing or not self.peak:
            return False
        if self.least < run.low * (1 - rules.progress_ratio):
            return False
        times = run.low / self.peak
        if times <= rules.near_ratio:
            return False
        patience = max(rules.least_seconds, rules.twice_seconds / (times - 1) ** 2)
        return (self.last_ns - run.first_ns) / _NS >= patience

    def _is_without_progress(self, progress_ns: int) -> bool:
        rules = self.rules
        if self.boundaries < rules.boundaries:
            return False
        # Where no threshold is known, it may be near.
        is_near = not self.peak or self.least <= self.peak * rules.near_ratio
        return (self.last_ns - progress_ns) / _NS >= (rules.near_seconds if is_near else rules.window_seconds)
