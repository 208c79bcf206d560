"""How long a migration will still take, if its rounds go on as the last ones did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NS: Final = 1e9

#: As many boundaries' ratios as are looked at: the guest of a minute ago is another one.
_RATIOS: Final = 3

#: Two ratios can be told from chance; one cannot.
_MIN_RATIOS: Final = 2

#: Boundaries that shrink by less say nothing of when they will be low enough.
_LEAST_SHRINKING: Final = 0.03

#: What would take more rounds than this is not foreseen.
_MAX_ROUNDS: Final = 200


@dataclass(slots=True)
class Trend:
    """Follow how the boundaries shrink."""

    _ratios: tuple[float, ...] = ()
    _pending: int | None = None
    _at_ns: int = 0

    def boundary(self, at_ns: int, pending: int) -> None:
        """Note what is pending at a boundary."""
        if self._pending:
            self._ratios = (*self._ratios, pending / self._pending)[-_RATIOS:]
        self._pending, self._at_ns = pending, at_ns

    def eta_seconds(self, now_ns: int, *, threshold: int | None, bandwidth: float | None) -> tuple[float, float] | None:
        """Say how long it will take from now to the end, at least and at most; None where that cannot be said.

        It is as long as the rounds take until less than `threshold` bytes are pending, and sending that, at `bandwidth`
        bytes per second: at least with the best of the last ratios, at most with the worst and one round more.
        """
        if self._pending is None or not threshold or not bandwidth:
            return None
        if self._pending < threshold:
            return 0.0, self._pending / bandwidth
        if len(self._ratios) < _MIN_RATIOS or max(self._ratios) > 1 - _LEAST_SHRINKING:
            return None
        low = _seconds(self._pending, min(self._ratios), threshold, bandwidth)
        high = _seconds(self._pending, max(self._ratios), threshold, bandwidth)
        if low is None or high is None:
            return None
        elapsed = max(0.0, (now_ns - self._at_ns) / _NS)
        return max(0.0, low - elapsed), max(0.0, high + threshold / bandwidth - elapsed)


def _seconds(pending: float, ratio: float, threshold: int, bandwidth: float) -> float | None:
    """Add up the rounds: each sends what is pending down to the threshold, and then looks again."""
    seconds = 0.0
    for _ in range(_MAX_ROUNDS):
        if pending < threshold:
            return seconds + pending / bandwidth
        seconds += (pending - threshold) / bandwidth
        pending *= ratio
    return None
