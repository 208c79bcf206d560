"""The bandwidth of the windows."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.stalls.bandwidth import Bandwidth

CAP = 32 << 20


def followed(*windows: int) -> Bandwidth:
    """Note windows of 100 ms."""
    bandwidth = Bandwidth()
    for transferred in windows:
        bandwidth.window(transferred, 0.1)
    return bandwidth


def test_it_is_smoothed_over_seconds() -> None:
    """One window that is printed late, or a burst, means little; a change that lasts is followed."""
    assert followed().bytes_per_second is None
    assert followed(1_000).bytes_per_second == pytest.approx(10_000)
    assert followed(*[1_000] * 50, 0).bytes_per_second == pytest.approx(10_000, rel=0.06)
    assert followed(*[1_000] * 50, *[2_000] * 60).bytes_per_second == pytest.approx(20_000, rel=0.06)


def test_a_window_of_no_time_says_nothing() -> None:
    """QEMU's clock may have been set."""
    bandwidth = followed(1_000)
    bandwidth.window(9_999, 0)
    assert bandwidth.bytes_per_second == pytest.approx(10_000)


@pytest.mark.parametrize(
    ("windows", "max_bandwidth", "is_capped"),
    [
        ([], None, False),
        ([3_357_090] * 30, None, True),  # what QEMU's limiter makes of 32 MiB/s
        ([3_357_090, 3_358_098, 3_357_090] * 10, None, True),
        ([3_357_090, 3_257_090] * 15, None, False),
        ([0] * 30, None, False),
        ([3_357_090, 3_257_090] * 15, CAP, True),
        ([3_357_090] * 30, 1 << 63, False),
        ([3_357_090] * 30, 2 * CAP, False),
    ],
)
def test_a_cap_is_known_by_its_setting_or_by_its_regularity(
    windows: list[int], max_bandwidth: int | None, *, is_capped: bool
) -> None:
    """A setting that was seen decides; without one, nothing but QEMU's limiter sends the same in every window."""
    assert followed(*windows).is_capped(max_bandwidth) is is_capped
