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
        if self.value is None:
            self.value = float(value)
        else:
            self.value += (value - self.value) * (1 - math.exp(-max(0.0, elapsed) / self.seconds))
        return self.value
