"""Situations that once were judged late or wrong, as guests of the pre-copy model played through the whole core."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

import pytest
from qemu_migration_exporter.core.changes import MigrationEnded, Stalled
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.bakeoff.precopy import Guest, Precopy

_NS: Final = 1e9


def played(guest: Guest, seconds: float = 90) -> tuple[float, list[float], bool]:
    """Return the first boundary, the verdicts after it, in s, and whether the migration ended by itself."""
    log = Precopy(guest, seconds=seconds).run()
    stream = Stream("guest.log", vm="guest", start_ns=10**18)
    changes = [*stream.feed(log), *stream.close()]
    (migration,) = [change.migration for change in changes if isinstance(change, MigrationEnded)]
    first_ns = migration.rounds[1].start_ns
    stalls = [(change.stall.start_ns - first_ns) / _NS for change in changes if isinstance(change, Stalled)]
    return (first_ns - migration.identity.start_ns) / _NS, stalls, b"new state completed" in log


def noise(low: float, seconds: float) -> Callable[[float], float]:
    """Return a share between `low` and 1 that changes every so many seconds."""
    return lambda second: Random(int(second / seconds)).uniform(low, 1)  # noqa: S311 - a test's noise


def flips(offset: float, *bandwidths: float, seconds: float = 6) -> Callable[[float], float]:
    """Return bandwidths that follow one another."""
    return lambda second: bandwidths[int((second + offset) / seconds) % len(bandwidths)]


STUCK: Final[list[tuple[str, Guest, float]]] = [
    ("dead level at 1.15 times", Guest(hot=11.04, hot_rate=5_000), 26),
    ("dead level at 1.46 times", Guest(hot=14, hot_rate=5_000), 5),
    ("nearer for 19 s, and then no more", Guest(hot=47, hot_rate=400, cold=200, cold_rate=10), 27),
    ("busy 8 s after the start", Guest(hot=47, hot_rate=400, cold=200, cold_rate=10, busy=lambda s: 0.025 if s < 8.2 else 1), 6),
    ("busy after low boundaries", Guest(hot=64, hot_rate=400, cold=60, cold_rate=27, busy=lambda s: 0.3 if s < 12 else 1), 20),
    ("noise far above", Guest(hot=60, hot_rate=90, busy=noise(0.5, 1.5)), 17),
    ("noisy network far above", Guest(hot=60, hot_rate=200, bandwidth=lambda s: 32 * noise(0.5, 0.7)(s)), 12),
    ("few, long rounds", Guest(hot=96, hot_rate=100, bandwidth=lambda _: 4), 50),
    ("spike of the threshold", Guest(hot=47, hot_rate=400, bandwidth=lambda s: 100 if 10 <= s < 10.1 else 6), 16),
    ("network that flips, fits never", Guest(hot=30, hot_rate=200, bandwidth=flips(0, 12, 40)), 12),
    ("network that sinks for good", Guest(hot=120, hot_rate=36, bandwidth=lambda s: 40 if s < 6 else 6), 42),
]  # fmt: skip


@pytest.mark.parametrize(("what", "guest", "longest"), STUCK, ids=[what for what, _, _ in STUCK])
def test_stuck_situation_is_found_in_time(what: str, guest: Guest, longest: float) -> None:
    """Seconds after the first boundary."""
    _, stalls, has_ended = played(guest)
    assert not has_ended, what
    assert stalls, what
    assert stalls[0] <= longest, what


FINE: Final[list[tuple[str, Guest]]] = [
    *(
        (f"flips 12 and 40 MiB/s, {offset} s on", Guest(hot=30, hot_rate=20, cold=40, bandwidth=flips(offset, 12, 40)))
        for offset in range(0, 12, 2)
    ),
    ("two dips", Guest(hot=80, hot_rate=26, bandwidth=lambda s: 8 if 5 <= s < 10 or 14 <= s < 20 else 40)),
    ("a dip to a tenth", Guest(hot=120, hot_rate=19, bandwidth=lambda s: 3.2 if 6 <= s < 16 else 32)),
    ("hovers at 1.08 times", Guest(hot=10.4, hot_rate=5_000, busy=lambda s: 1 if s < 40 else 0.05)),
    ("shrinks by a tenth", Guest(hot=400, hot_rate=28.8)),
    ("throttle that helps", Guest(hot=47, hot_rate=100, auto_converge=True)),
]


@pytest.mark.parametrize(("what", "guest"), FINE, ids=[what for what, _ in FINE])
def test_fine_situation_is_never_stalled(what: str, guest: Guest) -> None:
    _, stalls, has_ended = played(guest)
    assert has_ended, what
    assert stalls == [], what


def test_auto_converge_is_judged_after_last_step() -> None:
    """No earlier, because any step may help: two rounds of 2.7 s after it at the latest."""
    guest = Guest(hot=96, hot_rate=20_000, auto_converge=True)
    log = Precopy(guest, seconds=70).run().splitlines()
    at_s = [
        float(line.split(b"@")[1].split(b":")[0]) for line in log if b"migration_throttle" in line or line is log[0]
    ]
    last_step = at_s[9] - at_s[0]
    first_boundary, stalls, _ = played(guest, seconds=70)

    assert 0 < first_boundary + stalls[0] - last_step <= 2 * 2.8
