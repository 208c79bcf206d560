"""How long a migration will still take, if its rounds go on as the last ones did."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

_NS: Final = 1e9

#: As many boundaries are looked at: the guest of a minute ago is another one.
_BOUNDARIES: Final = 4

#: Two steps can be told from chance; one cannot.
_MIN_BOUNDARIES: Final = 3

#: Where the worst step shrinks by less, nothing can be said of the end.
_LEAST_SHRINKING: Final = 0.03

#: The shorter a round, the less of what the guest writes in it it writes twice: the ratio gets worse on the way.
_WORSE: Final = 1.5

#: Rounds near the end are short, and one more or less of them is usual; so is a bandwidth that varies by a tenth.
_MARGIN_SECONDS: Final = 0.5
_MARGIN: Final = 0.1


@dataclass(slots=True)
class EtaEstimator:
    """Follow how the boundaries shrink."""

    pending: tuple[int, ...] = ()
    at_ns: int = 0

    def boundary(self, at_ns: int, pending: int) -> None:
        """Note what is pending at a boundary."""
        self.pending = (*self.pending, pending)[-_BOUNDARIES:]
        self.at_ns = at_ns

    def eta_seconds(self, now_ns: int, *, threshold: int | None, bandwidth: float | None) -> tuple[float, float] | None:
        """Say how long it will take from now to the end, at least and at most; None where that cannot be said.

        QEMU sends what is pending down to `threshold` bytes and then looks again, so it is what is pending above the
        threshold that shrinks, by about the same ratio each time, and each round takes as long as sending that at
        `bandwidth` bytes per second. The sum of all rounds to come is a geometric series: at most with the worst ratio
        of late. At least it takes the present round and the switchover; the best ratio tells whether that is the last.
        """
        if not self.pending or not threshold or not bandwidth:
            return None
        above = [pending - threshold for pending in self.pending]
        switchover = min(self.pending[-1], threshold) / bandwidth
        if above[-1] < 0:
            return 0.0, self.pending[-1] / bandwidth
        if len(above) < _MIN_BOUNDARIES or min(above) <= 0:
            return None
        ratios = [after / before for before, after in pairwise(above)]
        if max(ratios) > 1 - _LEAST_SHRINKING:
            return None
        rest = above[-1] / bandwidth
        elapsed = max(0.0, (now_ns - self.at_ns) / _NS)
        low = rest / (1 - min(ratios) / 2)
        high = rest / (1 - max(ratios)) * _WORSE + switchover + _MARGIN_SECONDS
        return max(0.0, low * (1 - _MARGIN) - elapsed), max(0.0, high - elapsed)
