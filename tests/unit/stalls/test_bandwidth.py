"""The bandwidth of the windows."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.stalls.bandwidth import Bandwidth, set_by_operator

CAP = 32 << 20


def followed(*windows: int, max_bandwidth: int | None = None) -> Bandwidth:
    """Add windows of 100 ms."""
    bandwidth = Bandwidth()
    for transferred in windows:
        bandwidth.window(transferred, 0.1, max_bandwidth=max_bandwidth)
    return bandwidth


def test_bandwidth_is_smoothed_over_seconds() -> None:
    """One window that is printed late, or a burst, means little; a change that lasts is followed."""
    assert followed().bytes_per_second is None
    assert followed(1_000).bytes_per_second == pytest.approx(10_000)
    assert followed(*[1_000] * 50, 0).bytes_per_second == pytest.approx(10_000, rel=0.06)
    assert followed(*[1_000] * 50, *[2_000] * 60).bytes_per_second == pytest.approx(20_000, rel=0.06)


def test_window_of_no_time_is_ignored() -> None:
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
        ([3_000_000, 3_015_000] * 15, None, True),
        ([3_000_000, 3_016_000] * 15, None, False),
        ([3_357_090] * 20, None, True),
        ([3_357_090] * 19, None, False),
        ([95] * 30, 1_000, True),
        ([94] * 30, 1_000, False),
        ([3_357_090] * 30, 1 << 63, False),
        ([3_357_090] * 30, 2 * CAP, False),
    ],
)
def test_cap_is_recognised(windows: list[int], max_bandwidth: int | None, *, is_capped: bool) -> None:
    """A known setting decides, else windows that only QEMU's limiter makes so regular."""
    assert followed(*windows, max_bandwidth=max_bandwidth).is_capped(max_bandwidth) is is_capped


def test_cap_shows_on_busy_host() -> None:
    """Only every third window reaches it, and the average is half of it."""
    windows = [3_357_090, 900_000, 1_400_000] * 20
    assert followed(*windows, max_bandwidth=CAP).is_capped(CAP)
    assert not followed(*windows).is_capped(None)


@pytest.mark.parametrize(("count", "is_capped"), [(57, True), (58, False), (100, False)])
def test_lifted_cap_is_forgotten(count: int, *, is_capped: bool) -> None:
    """After 5.8 s: windows at the cap count for 5 s, and fewer than a fifth are no cap."""
    bandwidth = followed(*[3_357_090] * 50, max_bandwidth=CAP)
    for _ in range(count):
        bandwidth.window(20_000_000, 0.1, max_bandwidth=936 << 20)
    assert is_capped is bandwidth.is_capped(936 << 20)
    assert bandwidth.bytes_per_second == pytest.approx(200_000_000, rel=0.06)


def test_best_bandwidth_is_kept() -> None:
    """The state of a device will be sent with it, even if hardly any memory is sent before."""
    bandwidth = followed(*[64_000_000] * 50, *[600_000] * 200)
    assert bandwidth.best == pytest.approx(640_000_000)
    assert bandwidth.bytes_per_second == pytest.approx(6_000_000, rel=0.05)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [(None, None), (0, None), (28_454, None), (28_455, None), (28_456, 28_456_000.0), (1_250_000, 1_250_000_000.0)],
)
def test_estimate_of_qemu_is_no_setting(printed: int | None, expected: float | None) -> None:
    """QEMU 11.1 prints its estimate where QEMU 8.2 to 11.0 print avail-switchover-bandwidth, 0 without one."""
    window = Transferred(None, None, 3_414_546, 120, printed, 8_536_365)
    assert set_by_operator(window) == expected
