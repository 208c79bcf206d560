"""Stall rules of other programs, each as the time at which it would report that a migration does not converge.

They are told what they would see: boundaries as libvirt's iteration events tell them, or what remains when they poll.
Sources: KubeVirt's VEP 248 (pkg/virt-launcher/virtwrap/stall-detector.go), oVirt's vdsm (virt/migration.py), OpenStack's
Nova (virt/libvirt/driver.py, and migration.py up to Pike), Proxmox' qemu-server (QemuMigrate.pm).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_VEP_WINDOW_S, _VEP_RATIO = 40.0, 0.96
_VDSM_INTERVAL_S: Final = 10.0
_NOVA_TIMEOUT_S, _NOVA_LEAST_GIB, _NOVA_PROGRESS_S, _NOVA_INTERVAL_S = 800.0, 2, 150.0, 0.5
_PROXMOX_INTERVAL_S, _PROXMOX_TIMES = 1.0, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Boundary:
    """Numbers known just after a bitmap sync: seconds since the migration began, bytes, bytes per second."""

    at_s: float
    pending: int
    bandwidth: float | None
    dirty_rate: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One migration as seen from outside, up to its end or to the first intervention.

    Attributes:
        remaining: What remains, by time.
        until_s: When what they would have seen ends.
    """

    boundaries: tuple[Boundary, ...]
    remaining: tuple[tuple[float, int], ...]
    until_s: float

    def polled(self, interval_s: float) -> Iterator[tuple[float, int]]:
        """Sample the remaining bytes at equal intervals."""
        times = [at_s for at_s, _ in self.remaining]
        at_s = interval_s
        while at_s <= self.until_s:
            place = bisect_right(times, at_s)
            if place:
                yield at_s, self.remaining[place - 1][1]
            at_s += interval_s


Rule = Callable[[Observed], float | None]


def vep_248(observed: Observed) -> float | None:
    """The remainder at a boundary is at least 0.96 of the best boundary that is older than 40 s."""
    for now in observed.boundaries:
        older = [each.pending for each in observed.boundaries if each.at_s <= now.at_s - _VEP_WINDOW_S]
        if older and now.pending >= min(older) * _VEP_RATIO:
            return now.at_s
    return None


def vdsm(observed: Observed) -> float | None:
    """More remains than at the lowest mark so far, asked every 10 s."""
    low = None
    for at_s, remaining in observed.polled(_VDSM_INTERVAL_S):
        if low is not None and remaining > low:
            return at_s
        low = remaining if low is None else min(low, remaining)
    return None


def nova(observed: Observed) -> float | None:
    """It takes longer than 800 s a GiB, of two at least."""
    seconds = _NOVA_TIMEOUT_S * _NOVA_LEAST_GIB
    return seconds if observed.until_s > seconds else None


def nova_progress(observed: Observed) -> float | None:
    """No new lowest mark for 150 s, asked twice a second; given up in Pike, for it ended healthy migrations."""
    low, low_s = None, 0.0
    for at_s, remaining in observed.polled(_NOVA_INTERVAL_S):
        if low is None or remaining < low:
            low, low_s = remaining, at_s
        elif at_s - low_s > _NOVA_PROGRESS_S:
            return at_s
    return None


def proxmox(observed: Observed) -> float | None:
    """The remainder, read every second, rose or was zero for the sixth time; Proxmox then doubles the downtime limit."""
    last, times = None, 0
    for at_s, remaining in observed.polled(_PROXMOX_INTERVAL_S):
        times += remaining == 0 or (last is not None and remaining > last)
        last = remaining
        if times > _PROXMOX_TIMES:
            return at_s
    return None


def dirty_rate(observed: Observed) -> float | None:
    """The guest dirties memory faster than it is sent, in the round before."""
    for now in observed.boundaries:
        if now.bandwidth and now.dirty_rate is not None and now.dirty_rate >= now.bandwidth:
            return now.at_s
    return None


PEERS: Final[Mapping[str, Rule]] = {
    "KubeVirt VEP 248": vep_248,
    "oVirt vdsm": vdsm,
    "Nova": nova,
    "Nova to Pike": nova_progress,
    "Proxmox": proxmox,
    "dirty rate over bandwidth": dirty_rate,
}
