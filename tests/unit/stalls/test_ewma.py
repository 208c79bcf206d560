"""The moving average."""

from __future__ import annotations

import math

import pytest
from qemu_migration_exporter.core.stalls.ewma import Ewma


def test_first_value_is_taken_as_it_is() -> None:
    assert Ewma(2).update(7, 0.1) == 7


@pytest.mark.parametrize(("elapsed", "weight"), [(2, 1 - math.exp(-1)), (0.1, 1 - math.exp(-0.05)), (0, 0), (-5, 0)])
def test_later_value_weighs_by_time(elapsed: float, weight: float) -> None:
    average = Ewma(2)
    average.update(10, 1)
    assert average.update(20, elapsed) == pytest.approx(10 + 10 * weight)
