"""Deadlines that hold on a busy machine: scaled by its speed at the start, and by its load now.

A test waits for a condition and fails only if it never comes, so a deadline is a bound for a hung program and no
measurement. What measures time says so, and is given the machine for itself.
"""

from __future__ import annotations

import os
import time
from functools import cache
from typing import Final

#: Wall time of the loop below on an idle core of an ordinary machine.
_REFERENCE_SECONDS: Final = 0.05
_MOST: Final = 20.0


def patience(seconds: float) -> float:
    """Return a deadline for this machine as it is now."""
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    return seconds * min(max(1.0, _slowness(), 2 * load), _MOST)


@cache
def _slowness() -> float:
    """Return the time of a fixed piece of work, as a multiple of the reference."""
    began = time.monotonic()
    number = 0
    for each in range(1_000_000):
        number ^= each
    return (time.monotonic() - began) / _REFERENCE_SECONDS
