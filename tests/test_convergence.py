"""What the boundaries between rounds plainly say."""

from __future__ import annotations

import pytest

from exporter.core.convergence import Convergence
from exporter.core.model import Verdict

MIB = 1 << 20


def test_the_best_boundary_is_the_least_pending() -> None:
    """Of equal ones the first: only less is progress."""
    convergence = Convergence()
    better = [convergence.boundary(number, pending) for number, pending in [(2, 50), (3, 60), (4, 40), (5, 40)]]
    assert [True, False, True, False] == better
    assert (40, 4, 40) == (convergence.best_pending, convergence.best_round, convergence.last_pending)


def test_without_a_boundary_nothing_is_known() -> None:
    """The bulk round says nothing about convergence."""
    assert Verdict() == Convergence().verdict(threshold=MIB, bandwidth_bytes_per_second=MIB, downtime_limit_seconds=0.3)


@pytest.mark.parametrize(
    ("threshold", "bandwidth", "limit", "converging", "downtime", "required_bandwidth"),
    [
        (10 * MIB, 32.0 * MIB, 0.3, None, 1.5, 160.0 * MIB),
        (49 * MIB, 32.0 * MIB, 0.3, True, 1.5, 160.0 * MIB),
        (48 * MIB, None, None, None, None, None),
        (None, 0.0, 0.0, None, None, None),
    ],
)
def test_a_boundary_says_what_it_would_take(
    *,
    threshold: int | None,
    bandwidth: float | None,
    limit: float | None,
    converging: bool | None,
    downtime: float | None,
    required_bandwidth: float | None,
) -> None:
    """48 MiB at 32 MiB/s are 1.5 s of downtime, or 160 MiB/s for 0.3 s; below the threshold QEMU stops the guest."""
    convergence = Convergence()
    convergence.boundary(2, 48 * MIB)
    verdict = convergence.verdict(
        threshold=threshold, bandwidth_bytes_per_second=bandwidth, downtime_limit_seconds=limit
    )
    assert converging is verdict.converging
    assert downtime == verdict.required_downtime_seconds
    assert required_bandwidth == (
        None if required_bandwidth is None else pytest.approx(verdict.required_bandwidth_bytes_per_second)
    )
