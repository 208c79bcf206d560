"""Smoothed bandwidth of a migration, and whether a cap of QEMU limits it.

QEMU's limiter lets the same number of bytes through in every window of 100 ms (migration_rate_exceeded() in
migration/migration.c), and nothing else is so regular. On a busy host only some windows reach the cap, so that the
cap is recognised by windows that repeat the greatest one rather than by the average.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.stalls.ewma import Ewma, weight

_MS_PER_SECOND: Final = 1_000

#: Some twenty windows: steady, but fast enough to follow a change while an operator watches.
_SMOOTHING_SECONDS: Final = 2.0

#: Over this time windows at the cap are counted.
_COUNTING_SECONDS: Final = 5.0

#: Share of max-bandwidth from which a window counts as at the cap; QEMU may stop a page short of it.
_AT_THE_CAP: Final = 0.95

#: Windows that differ by less count as equal.
_SAME: Final = 0.005

#: Share of windows at a known cap, and of windows that repeat the window before, without a known cap.
_ENOUGH_AT_CAP: Final = 0.2
_ENOUGH_REGULAR: Final = 0.6


def set_by_operator(event: Transferred) -> float | None:
    """Return avail-switchover-bandwidth in bytes per second if it is set.

    Up to 11.0 QEMU prints 0 if it is not, and since 11.1 the bandwidth of the window.
    """
    printed = event.switchover_bandwidth
    if not printed:
        return None
    if event.transferred and event.time_spent_ms and abs(printed - event.transferred / event.time_spent_ms) <= 1:
        return None
    return float(printed) * _MS_PER_SECOND


@dataclass(slots=True)
class Bandwidth:
    """Bandwidth windows of one migration.

    Attributes:
        best: Greatest smoothed bandwidth so far, in bytes per second; None before the first window.
    """

    best: float | None = None
    smoothed: Ewma = field(default_factory=lambda: Ewma(_SMOOTHING_SECONDS))
    at_cap: Ewma = field(default_factory=lambda: Ewma(_COUNTING_SECONDS, 0.0))
    regularity: Ewma = field(default_factory=lambda: Ewma(_SMOOTHING_SECONDS, 0.0))
    last_bytes: int = 0

    @property
    def bytes_per_second(self) -> float | None:
        """Smoothed bandwidth; None before the first window."""
        return self.smoothed.value

    def window(self, transferred: int, seconds: float, *, max_bandwidth: int | None = None) -> None:
        """Add a window that ended under this cap, in bytes per second."""
        if seconds <= 0:
            return
        rate = transferred / seconds
        share = weight(seconds, _SMOOTHING_SECONDS)
        average = self.smoothed.weigh(rate, share)
        if self.best is None or average > self.best:
            self.best = average
        is_same = transferred > 0 and abs(transferred - self.last_bytes) <= _SAME * self.last_bytes
        self.regularity.weigh(is_same, share)
        is_at_cap = max_bandwidth is not None and rate >= _AT_THE_CAP * max_bandwidth
        if is_at_cap or self.at_cap.value:  # otherwise it stays at zero
            self.at_cap.update(is_at_cap, seconds)
        self.last_bytes = transferred

    def is_capped(self, max_bandwidth: int | None) -> bool:
        """Return whether a cap limits the bandwidth: `max_bandwidth` if that is known, else one that shows."""
        if max_bandwidth is not None:
            return (self.at_cap.value or 0.0) >= _ENOUGH_AT_CAP
        return (self.regularity.value or 0.0) >= _ENOUGH_REGULAR
