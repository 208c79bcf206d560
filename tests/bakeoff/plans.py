"""Plans of the blind set: migrations whose labels were decided before they ran, and before the rule saw them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from tests.bakeoff.record import Pages, Plan

_FIRST: Final = 12

Sets = Mapping[float, tuple[Pages, ...]]


def _hot(size: float, rate: float, *, is_random: bool = False, is_elastic: bool = False) -> Pages:
    return Pages(_FIRST, size, rate, is_random, is_elastic)


def _always(*sets: Pages) -> Sets:
    return {0: sets}


def _in_turn(seconds: float, *stages: tuple[Pages, ...], until: float = 150) -> Sets:
    """Repeat the stages in turn, for `seconds` at a time."""
    return {index * seconds: stages[index % len(stages)] for index in range(int(until / seconds))}


def _steps(seconds: float, *sizes: float, rate: float = 300) -> Sets:
    return {index * seconds: (_hot(size, rate),) for index, size in enumerate(sizes)}


def _bursts(busy: float, calm: float, size: float, rate: float, then: float, until: float = 150) -> Sets:
    changes: dict[float, tuple[Pages, ...]] = {}
    at_s = 0.0
    while at_s < until:
        changes[at_s], changes[at_s + busy] = (_hot(size, rate),), (_hot(size, then),)
        at_s += busy + calm
    return changes


def _rates(seconds: float, size: float, low: float, high: float, seed: int) -> Sets:
    random = Random(seed)  # noqa: S311 - a guest's noise
    return {
        index * seconds: (_hot(size, random.uniform(low, high), is_random=True),) for index in range(int(150 / seconds))
    }


def _flips(seconds: float, *bandwidths: float) -> Callable[[float], float]:
    return lambda second: bandwidths[int(second / seconds) % len(bandwidths)]


def _dips(to: float, usual: float, *spans: tuple[float, float]) -> Callable[[float], float]:
    return lambda second: to if any(begin <= second < end for begin, end in spans) else usual


def _noise(seconds: float, low: float, high: float, seed: int) -> Callable[[float], float]:
    return lambda second: Random(seed * 1_000 + int(second / seconds)).uniform(low, high)  # noqa: S311


_FAST: Final = 2_048

STUCK: Final[Mapping[str, Plan]] = {
    "level-115pc": Plan(
        what="74 MiB without a pause, limit 2 s: 1.15 x the threshold", label="stuck", guest=_always(_hot(74, 2_000)),
        limit=2_000, seconds=60,
    ),
    "level-130pc": Plan(
        what="12.5 MiB without a pause: 1.3 x the threshold", label="stuck", guest=_always(_hot(12.5, 400)), seconds=40,
    ),
    "level-150pc": Plan(
        what="18 MiB without a pause at 24 MiB/s, limit 500 ms: 1.5 x the threshold", label="stuck",
        guest=_always(_hot(18, 300)), bandwidth=24, limit=500, seconds=40,
    ),
    "busy-late": Plan(
        what="dirties 85 % of 8 MiB/s, and after 22 s 48 MiB without a pause",
        label="stuck", guest={0: (_hot(48, 6.8),), 22: (_hot(48, 200),)}, bandwidth=8, seconds=70,
    ),
    "noisy-rate": Plan(
        what="80 MiB at random at 30 to 100 MiB/s, another rate every 1.5 s, at 16 MiB/s",
        label="stuck", guest=_rates(1.5, 80, 30, 100, 3), bandwidth=16, seconds=70,
    ),
    "long-rounds": Plan(
        what="70 MiB at 60 MiB/s, at 4 MiB/s: rounds of 18 s",
        label="stuck", guest=_always(_hot(70, 60)), bandwidth=4, memory=80, seconds=110,
    ),
    "flips-6s": Plan(
        what="30 MiB without a pause on a network of 12 and 40 MiB/s, 6 s at a time",
        label="stuck", guest=_always(_hot(30, 200)), bandwidth=_FAST, network=_flips(6, 12, 40), seconds=60,
    ),
    "flips-2s": Plan(
        what="40 MiB at random at 90 MiB/s on a network of 48 and 16 MiB/s, 2 s at a time",
        label="stuck", guest=_always(_hot(40, 90, is_random=True)), bandwidth=_FAST, network=_flips(2, 48, 16),
        seconds=45,
    ),
    "auto-converge": Plan(
        what="auto-converge, 40 MiB of a guest that catches up, at 8 MiB/s", label="stuck",
        guest=_always(_hot(40, 500)), bandwidth=8, capabilities=("auto-converge",),
        parameters={"cpu-throttle-initial": 30, "cpu-throttle-increment": 25}, seconds=90,
    ),
    "alternates": Plan(
        what="60 MiB and 28 MiB without a pause, 4 s at a time, at 16 MiB/s", label="stuck",
        guest=_in_turn(4, (_hot(60, 300),), (_hot(28, 300),)), bandwidth=16, seconds=70,
    ),
    "hot-cold": Plan(
        what="hot 13 MiB at 200 MiB/s, cold 70 MiB at 6 MiB/s", label="stuck",
        guest=_always(_hot(13, 200), Pages(26, 70, 6, is_random=True)), seconds=60,
    ),
    "grows": Plan(
        what="without a pause 14 MiB, 2 MiB more every 3 s", label="stuck", guest=_steps(3, *range(14, 54, 2)),
        seconds=55,
    ),
    "rate-115pc": Plan(
        what="60 MiB in turn at 115 % of 16 MiB/s", label="stuck", guest=_always(_hot(60, 18.4)), bandwidth=16,
        seconds=80,
    ),
    "network-sinks": Plan(
        what="60 MiB at 34 MiB/s on a network of 40 MiB/s, and of 6 MiB/s after 6 s", label="stuck",
        guest=_always(_hot(60, 34)), bandwidth=_FAST, network=lambda s: 40 if s < 6 else 6, seconds=80,
    ),
    "multifd": Plan(
        what="multifd, 30 MiB without a pause at 24 MiB/s", label="stuck", guest=_always(_hot(30, 300)), bandwidth=24,
        capabilities=("multifd",), seconds=35,
    ),
    "postcopy": Plan(
        what="40 MiB without a pause at 24 MiB/s; post-copy after 35 s", label="stuck", guest=_always(_hot(40, 300)),
        bandwidth=24, capabilities=("postcopy-ram",), seconds=35, end=("migrate-start-postcopy", {}),
    ),
    "limit-2s": Plan(
        what="45 MiB without a pause at 16 MiB/s, limit 2 s: 1.4 x the threshold", label="stuck",
        guest=_always(_hot(45, 150)), bandwidth=16, limit=2_000, seconds=70,
    ),
    "slow-network": Plan(
        what="4 MiB at 30 MiB/s on a network of 1 MiB/s", label="stuck", guest=_always(_hot(4, 30)), memory=20,
        bandwidth=_FAST, network=lambda _: 1, seconds=70,
    ),
    "noisy-network": Plan(
        what="35 MiB without a pause on a network of 10 to 50 MiB/s, another every 0.7 s", label="stuck",
        guest=_always(_hot(35, 300)), bandwidth=_FAST, network=_noise(0.7, 10, 50, 5), seconds=50,
    ),
}  # fmt: skip

FINE: Final[Mapping[str, Plan]] = {
    "xbzrle-fast": Plan(
        what="XBZRLE, 50 MiB at 400 MiB/s, limit 20 ms: so little to send that it fits", label="fine", guest=_always(_hot(50, 400)), bandwidth=16,
        limit=20, capabilities=("xbzrle",), parameters={"xbzrle-cache-size": 1 << 27}, seconds=45,
    ),
    "limit-30ms": Plan(
        what="8 MiB without a pause at 128 MiB/s, limit 30 ms: a window carries more than that at once", label="fine", guest=_always(_hot(8, 400)),
        bandwidth=128, limit=30, seconds=30,
    ),
    "shrinks-80pc": Plan(
        what="200 MiB in turn at 80 % of 32 MiB/s", label="fine", guest=_always(_hot(200, 25.6)), memory=220,
    ),
    "shrinks-90pc": Plan(
        what="100 MiB in turn at 90 % of 24 MiB/s", label="fine", guest=_always(_hot(100, 21.6)), bandwidth=24,
        memory=120, seconds=120,
    ),
    "shrinks-95pc-random": Plan(
        what="80 MiB at random at 95 % of 32 MiB/s", label="fine", guest=_always(_hot(80, 30.4, is_random=True)),
        seconds=120,
    ),
    "shrinks-88pc-network": Plan(
        what="110 MiB in turn at 30 MiB/s on a network of 30 to 38 MiB/s", label="fine",
        guest=_always(_hot(110, 30)), bandwidth=_FAST, network=_noise(0.5, 30, 38, 8), memory=120, seconds=120,
    ),
    "idle": Plan(what="an idle guest", label="fine", guest=_always(), seconds=60),
    "fits": Plan(what="3 MiB without a pause", label="fine", guest=_always(_hot(3, 300)), seconds=60),
    "just-fits": Plan(
        what="8.6 MiB without a pause: 0.9 x the threshold", label="fine", guest=_always(_hot(8.6, 300)), seconds=60,
    ),
    "flips-6s-fits": Plan(
        what="9 MiB without a pause on a network of 12 and 40 MiB/s, 6 s at a time", label="fine",
        guest=_always(_hot(9, 300)), bandwidth=_FAST, network=_flips(6, 12, 40), memory=60, seconds=60,
    ),
    "flips-3s-shrinks": Plan(
        what="60 MiB in turn at 16 MiB/s on a network of 50 and 10 MiB/s, 3 s at a time", label="fine",
        guest=_always(_hot(60, 16)), bandwidth=_FAST, network=_flips(3, 50, 10), seconds=90,
    ),
    "dip": Plan(
        what="40 MiB in turn at 24 MiB/s on a network of 40 MiB/s, of 4 MiB/s from 4 to 14 s", label="fine",
        guest=_always(_hot(40, 24)), bandwidth=_FAST, network=_dips(4, 40, (4, 14)), seconds=90,
    ),
    "two-dips": Plan(
        what="80 MiB in turn at 26 MiB/s on a network of 40 MiB/s, of 8 MiB/s from 5 to 10 s and from 14 to 20 s",
        label="fine", guest=_always(_hot(80, 26)), bandwidth=_FAST, network=_dips(8, 40, (5, 10), (14, 20)), seconds=90,
    ),
    "network-stops": Plan(
        what="60 MiB in turn at 20 MiB/s on a network of 32 MiB/s that carries nothing from 5 to 12 s", label="fine",
        guest=_always(_hot(60, 20)), bandwidth=_FAST, network=_dips(0, 32, (5, 12)), seconds=90,
    ),
    "noisy-network-shrinks": Plan(
        what="80 MiB at random at 18 MiB/s on a network of 8 to 50 MiB/s, another every 0.6 s", label="fine",
        guest=_always(_hot(80, 18, is_random=True)), bandwidth=_FAST, network=_noise(0.6, 8, 50, 9), seconds=90,
    ),
    "bursts-1s": Plan(
        what="30 MiB without a pause for 1 s, calm for 7 s, in turn", label="fine", guest=_bursts(1, 7, 30, 300, 1),
        bandwidth=16, seconds=90,
    ),
    "bursts-3s": Plan(
        what="40 MiB without a pause for 3 s, calm for 5 s, in turn, at 16 MiB/s", label="fine",
        guest=_bursts(3, 5, 40, 300, 2), bandwidth=16, seconds=90,
    ),
    "creeps": Plan(
        what="30 MiB without a pause, 2 MiB less every 3 s", label="fine", guest=_steps(3, *range(30, 4, -2)),
        seconds=90,
    ),
    "creeps-fast": Plan(
        what="60 MiB without a pause, 3 MiB less every 2 s", label="fine", guest=_steps(2, *range(60, 6, -3)),
        seconds=90,
    ),
    "moves": Plan(
        what="6 MiB without a pause, another 6 MiB every second", label="fine", seconds=60,
        guest={second: (Pages(12 + 6 * (second % 12), 6, 300),) for second in range(60)},
    ),
    "auto-converge": Plan(
        what="auto-converge, 70 MiB in turn at 60 MiB/s, slower when throttled", label="fine",
        guest=_always(_hot(70, 60, is_elastic=True)), capabilities=("auto-converge",), seconds=90,
    ),
    "auto-converge-slow": Plan(
        what="auto-converge by 5 %, 60 MiB in turn at 45 MiB/s, slower when throttled", label="fine",
        guest=_always(_hot(60, 45, is_elastic=True)), capabilities=("auto-converge",),
        parameters={"cpu-throttle-initial": 10, "cpu-throttle-increment": 5}, seconds=120,
    ),
    "xbzrle-fits": Plan(
        what="XBZRLE, 70 MiB in turn at 24 MiB/s", label="fine", guest=_always(_hot(70, 24)),
        capabilities=("xbzrle",), parameters={"xbzrle-cache-size": 1 << 27}, seconds=60,
    ),
    "multifd-shrinks": Plan(
        what="multifd, 80 MiB in turn at 80 % of 32 MiB/s", label="fine", guest=_always(_hot(80, 25.6)),
        capabilities=("multifd",), seconds=90,
    ),
    "long-rounds-shrink": Plan(
        what="40 MiB in turn at 75 % of 4 MiB/s: rounds of up to 10 s", label="fine", guest=_always(_hot(40, 3)),
        memory=60, bandwidth=4, seconds=120,
    ),
    "busy-1s-of-rounds": Plan(
        what="40 MiB without a pause for the first 5 s, then calm", label="fine",
        guest={0: (_hot(40, 300),), 5: (_hot(40, 2),)}, seconds=60,
    ),
    "limit-1s": Plan(
        what="27 MiB without a pause, limit 1 s: 0.85 x the threshold", label="fine", guest=_always(_hot(27, 300)),
        limit=1_000, seconds=60,
    ),
    "rate-rises": Plan(
        what="80 MiB in turn at 40 to 80 % of 32 MiB/s, 10 % more every 4 s", label="fine",
        guest={4 * step: (_hot(80, 32 * (0.4 + 0.1 * step)),) for step in range(5)}, seconds=90,
    ),
    "hot-cold": Plan(
        what="hot 5 MiB at 200 MiB/s, cold 70 MiB at random at 14 MiB/s", label="fine",
        guest=_always(_hot(5, 200), Pages(20, 70, 14, is_random=True)), seconds=90,
    ),
    "network-rises": Plan(
        what="50 MiB in turn at 14 MiB/s on a network of 8 MiB/s, and of 40 MiB/s after 18 s", label="calms",
        guest=_always(_hot(50, 14)), bandwidth=_FAST, network=lambda s: 8 if s < 18 else 40, seconds=90, calms=18,
    ),
    "after-25s": Plan(
        what="40 MiB without a pause for 25 s at 24 MiB/s, then calm", label="calms", bandwidth=24,
        guest={0: (_hot(40, 300),), 25: (_hot(40, 3),)}, seconds=90, calms=25,
    ),
}  # fmt: skip

PLANS: Final[Mapping[str, Plan]] = {
    f"{plan.label}-{name}": plan for group in (STUCK, FINE) for name, plan in group.items()
}
