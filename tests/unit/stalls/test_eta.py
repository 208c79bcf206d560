"""How long it will still take."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.stalls.eta import EtaEstimator

MIB = 1 << 20
SECOND = 1_000_000_000


def eta(*pending: float, threshold: float | None = 10, bandwidth: float | None = 32, later_s: float = 0) -> object:
    """Ask after boundaries of these MiB, a second apart; threshold in MiB, bandwidth in MiB/s."""
    trend = EtaEstimator()
    for second, each in enumerate(pending):
        trend.boundary(second * SECOND, round(each * MIB))
    return trend.eta_seconds(
        round((len(pending) - 1 + later_s) * SECOND),
        threshold=None if threshold is None else round(threshold * MIB),
        bandwidth=None if bandwidth is None else bandwidth * MIB,
    )


@pytest.mark.parametrize(
    ("pending", "expected"),
    [
        ((), None),
        ((80,), None),
        ((80, 64), None),
        ((47, 47, 47), None),
        ((80, 60, 70), None),
        ((80, 79, 78), None),
        ((80, 9, 20), None),
        ((80, 8), (0, 8 / 32)),
        ((90, 50, 30), (20 / 32 / (1 - 0.25) * 0.9, 20 / 32 / 0.5 * 1.5 + 10 / 32 + 0.5)),
        ((90, 50, 26), (16 / 32 / (1 - 0.2) * 0.9, 16 / 32 / 0.5 * 1.5 + 10 / 32 + 0.5)),
    ],
)
def test_an_eta_needs_rounds_that_shrink(pending: tuple[float, ...], expected: tuple[float, float] | None) -> None:
    """What is above the threshold shrinks by a ratio; all rounds to come are a geometric series."""
    assert eta(*pending) == (None if expected is None else pytest.approx(expected))


def test_time_passes_and_the_eta_with_it() -> None:
    """It is from now, and never negative."""
    now, later, much_later = (eta(80, 60, 45, later_s=seconds) for seconds in (0, 0.5, 900))
    assert isinstance(now, tuple)
    assert isinstance(later, tuple)
    assert [each - 0.5 for each in now] == pytest.approx(list(later))
    assert much_later == (0, 0)


@pytest.mark.parametrize(("threshold", "bandwidth"), [(None, 32.0), (10.0, None), (0.0, 32.0), (10.0, 0.0)])
def test_without_a_threshold_or_a_bandwidth_nothing_is_foreseen(
    threshold: float | None, bandwidth: float | None
) -> None:
    """None, and not for ever."""
    assert eta(80, 60, 45, threshold=threshold, bandwidth=bandwidth) is None
