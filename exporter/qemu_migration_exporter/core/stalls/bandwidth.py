"""The bandwidth of a migration, smoothed, and whether it is a cap of QEMU's own that holds it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

#: Some twenty windows: long enough to be steady, short enough to follow a change while a person looks.
_SMOOTHING_SECONDS: Final = 2.0

#: As near to `max-bandwidth` as this it is the cap that holds it, and not the network.
_AT_THE_CAP: Final = 0.85

#: QEMU's limiter sends the same number of bytes in every window of 100 ms (migration_rate_exceeded() in
#: migration/migration.c); nothing else is so regular.
_SAME: Final = 0.005
_REGULAR: Final = 0.6


@dataclass(slots=True)
class Bandwidth:
    """Follow the windows of one migration.

    Attributes:
        bytes_per_second: Smoothed; None before the first window.
    """

    bytes_per_second: float | None = None
    regularity: float = 0.0
    last_bytes: int = 0

    def window(self, transferred: int, seconds: float) -> None:
        """Note a window that ended."""
        if seconds <= 0:
            return
        share = 1 - math.exp(-seconds / _SMOOTHING_SECONDS)
        present = transferred / seconds
        before = present if self.bytes_per_second is None else self.bytes_per_second
        self.bytes_per_second = before + (present - before) * share
        is_same = abs(transferred - self.last_bytes) <= _SAME * self.last_bytes
        self.regularity += ((1.0 if is_same and transferred else 0.0) - self.regularity) * share
        self.last_bytes = transferred

    def is_capped(self, max_bandwidth: int | None) -> bool:
        """Say whether QEMU's cap holds it: by `max_bandwidth` (bytes per second) if known, else by the windows."""
        if self.bytes_per_second is None:
            return False
        if max_bandwidth is not None:
            return self.bytes_per_second >= _AT_THE_CAP * max_bandwidth
        return self.regularity >= _REGULAR
