"""Exponentially weighted moving average over irregular intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Ewma:
    """Moving average in which a value loses 63 % of its weight within `seconds`.

    Attributes:
        seconds: Time constant.
        value: Average so far; None before the first value.
    """

    seconds: float
    value: float | None = None

    def update(self, value: float, elapsed: float) -> float:
        """Weigh in a value that was in force for `elapsed` seconds, and return the average."""
        before = self.value
        self.value = average = (
            float(value) if before is None else before + (value - before) * weight(elapsed, self.seconds)
        )
        return average

    def weigh(self, value: float, share: float) -> float:
        """Weigh in a value by its share, and return the average."""
        before = self.value
        self.value = average = float(value) if before is None else before + (value - before) * share
        return average


def weight(elapsed: float, seconds: float) -> float:
    """Return the share of a value in force for `elapsed` seconds in an average over `seconds`."""
    return 1 - math.exp(-elapsed / seconds) if elapsed > 0 else 0.0
