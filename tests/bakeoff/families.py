"""Families of drawn migrations: guests and networks of one kind each, with numbers drawn at random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from tests.bakeoff.record import LIFT, Pages

Network = Callable[[float], float]

#: First page that is written again and again, in MiB; where the last may be; the time until which guests change, in s.
_FIRST, _LAST, _UNTIL = 8, 98, 200

#: Rate without a pause, in MiB/s: more than the network carries and as much as the emulation can write.
_UNPACED: Final = 400

#: A cap that never binds; a network has its own bandwidth.
UNCAPPED: Final = 2_048


def between(random: Random, low: float, high: float, digits: int = 1) -> float:
    """Draw a number, as likely between 1 and 2 as between 2 and 4."""
    return round(math.exp(random.uniform(math.log(low), math.log(high))), digits)


def _hot(size: float, rate: float, **kinds: bool) -> Pages:
    return Pages(_FIRST, size, rate, **kinds)


class Numbers:
    """The common numbers of one migration: bandwidth, limit and the threshold that they make."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.bandwidth = between(random, 4, 80, 0)
        self.limit = random.choice([100, 300, 300, 300, 300, 500, 1_000, 2_000])
        self.threshold = self.bandwidth * self.limit / 1_000
        if self.threshold > 40:
            self.limit, self.threshold = 300, self.bandwidth * 0.3

    def size(self, low: float, high: float) -> float:
        """Draw a size in thresholds that fits into the guest."""
        return min(_LAST - _FIRST, max(0.5, round(self.threshold * between(self.random, low, high, 2), 1)))

    def seconds(self, low: float, high: float) -> float:
        return between(self.random, low, high)

    def is_random(self) -> bool:
        return self.random.random() < 0.5


def _flips(seconds: float, *bandwidths: float) -> Network:
    return lambda second: bandwidths[int(second / seconds) % len(bandwidths)]


def _level(of: Numbers) -> dict[str, Any]:
    size = of.size(1.12, 2) if of.random.random() < 0.5 else of.size(1.5, 12)
    return {"what": f"{size} MiB without a pause", "guest": {0: (_hot(size, _UNPACED),)}}


def _fits(of: Numbers) -> dict[str, Any]:
    size = of.size(0.2, 0.93)
    return {"what": f"{size} MiB without a pause", "guest": {0: (_hot(size, _UNPACED),)}}


def _paced(of: Numbers, size: int, shares: tuple[float, float]) -> dict[str, Any]:
    """Return a guest that dirties at a share of the bandwidth."""
    share, is_random = round(of.random.uniform(*shares), 2), of.is_random()
    rate = round(share * of.bandwidth, 1)
    return {
        "what": f"{size} MiB {'at random' if is_random else 'in turn'} at {rate} MiB/s",
        "guest": {0: (_hot(size, rate, is_random=is_random),)},
    }


def _rate(of: Numbers) -> dict[str, Any]:
    return _paced(of, of.random.randint(20, 90), (0.3, 1.7))


def _shrinks(of: Numbers) -> dict[str, Any]:
    return _paced(of, of.random.randint(30, 90), (0.6, 0.96))


def _hot_cold(of: Numbers) -> dict[str, Any]:
    hot, cold = of.size(0.3, 3), of.random.randint(20, 60)
    rate = round(of.bandwidth * of.random.uniform(0.1, 0.9), 1)
    hot = min(hot, _LAST - _FIRST - cold)
    return {
        "what": f"hot {hot} MiB without a pause, cold {cold} MiB at random at {rate} MiB/s",
        "guest": {0: (_hot(hot, _UNPACED), Pages(_FIRST + hot, cold, rate, is_random=True))},
    }


def _noisy_rate(of: Numbers) -> dict[str, Any]:
    size, step = of.random.randint(30, 90), of.seconds(0.4, 3)
    low, high = (round(of.bandwidth * of.random.uniform(*bounds), 1) for bounds in [(0.2, 0.9), (1, 4)])
    noise = Random(of.random.random())  # noqa: S311 - a guest's noise
    return {
        "what": f"{size} MiB at random at {low} to {high} MiB/s, another rate every {step} s",
        "guest": {
            index * step: (_hot(size, noise.uniform(low, high), is_random=True),) for index in range(int(_UNTIL / step))
        },
    }


def _alternates(of: Numbers) -> dict[str, Any]:
    large, small, step = of.size(2, 10), of.size(0.7, 4), of.seconds(1.5, 7)
    return {
        "what": f"{large} and {small} MiB without a pause, {step} s at a time",
        "guest": {index * step: (_hot((large, small)[index % 2], _UNPACED),) for index in range(int(_UNTIL / step))},
    }


def _bursts(of: Numbers) -> dict[str, Any]:
    size, busy, calm = of.size(1.5, 8), of.seconds(0.5, 3), of.seconds(1, 8)
    rate = round(of.bandwidth * of.random.uniform(0.02, 0.6), 1)
    changes: dict[float, tuple[Pages, ...]] = {}
    for index in range(int(_UNTIL / (busy + calm))):
        at_s = index * (busy + calm)
        changes |= {at_s: (_hot(size, _UNPACED),), at_s + busy: (_hot(size, rate),)}
    return {"what": f"{size} MiB without a pause for {busy} s, at {rate} MiB/s for {calm} s, in turn", "guest": changes}


def _gets_busy(of: Numbers) -> dict[str, Any]:
    size, at_s = of.size(1.5, 8), of.seconds(6, 25)
    rate = round(of.bandwidth * of.random.uniform(0.5, 0.97), 1)
    return {
        "what": f"{size} MiB at {rate} MiB/s, without a pause after {at_s} s",
        "guest": {0: (_hot(size, rate),), at_s: (_hot(size, _UNPACED),)},
    }


def _calms(of: Numbers) -> dict[str, Any]:
    size, at_s = of.size(1.3, 8), of.seconds(6, 40)
    rate = round(of.bandwidth * of.random.uniform(0.02, 0.5), 1)
    return {
        "what": f"{size} MiB without a pause, at {rate} MiB/s after {at_s} s",
        "guest": {0: (_hot(size, _UNPACED),), at_s: (_hot(size, rate),)},
        "calms": at_s,
    }


def _creeps(of: Numbers) -> dict[str, Any]:
    size, step = of.size(2, 6), of.seconds(1, 4)
    less = max(0.3, round(size * of.random.uniform(0.04, 0.12), 1))
    sizes = [size - less * index for index in range(int(size / less)) if size - less * index > 0.3 * of.threshold]
    return {
        "what": f"{size} MiB without a pause, {less} MiB less every {step} s",
        "guest": {index * step: (_hot(round(each, 1), _UNPACED),) for index, each in enumerate(sizes)},
    }


def _grows(of: Numbers) -> dict[str, Any]:
    size, step = of.size(1.2, 3), of.seconds(1, 5)
    more = round(size * of.random.uniform(0.04, 0.15), 1)
    sizes = [min(_LAST - _FIRST, size + more * index) for index in range(20)]
    return {
        "what": f"{size} MiB without a pause, {more} MiB more every {step} s",
        "guest": {index * step: (_hot(round(each, 1), _UNPACED),) for index, each in enumerate(sizes)},
    }


def _moves(of: Numbers) -> dict[str, Any]:
    size, step = min(20.0, of.size(0.3, 2)), of.seconds(0.5, 3)
    places = int((_LAST - _FIRST) / size)
    return {
        "what": f"{size} MiB without a pause, other {size} MiB every {step} s",
        "guest": {
            index * step: (Pages(_FIRST + size * (index % places), size, _UNPACED),)
            for index in range(int(_UNTIL / step))
        },
    }


def _dips(of: Numbers) -> dict[str, Any]:
    size, share, is_random = of.random.randint(30, 90), round(of.random.uniform(0.3, 0.9), 2), of.is_random()
    usual, to = of.bandwidth, round(of.bandwidth * of.random.uniform(0.05, 0.55), 1)
    begin, length = of.seconds(3, 14), of.seconds(3, 18)
    spans = [(begin, begin + length)]
    if of.random.random() < 0.4:
        again = spans[0][1] + of.seconds(2, 8)
        spans.append((again, again + of.seconds(2, 8)))
    rate = round(usual * share, 1)
    said = " and ".join(f"from {low:.1f} to {high:.1f} s" for low, high in spans)
    return {
        "what": f"{size} MiB {'at random' if is_random else 'in turn'} at {rate} MiB/s on a network of {usual:.0f} MiB/s,"
        f" of {to} MiB/s {said}",
        "guest": {0: (_hot(size, rate, is_random=is_random),)},
        "network": lambda second: to if any(low <= second < high for low, high in spans) else usual,
    }


def _flipping(of: Numbers) -> dict[str, Any]:
    high, low = of.bandwidth, round(of.bandwidth * of.random.uniform(0.2, 0.8), 1)
    step = of.seconds(1, 8)
    if of.random.random() < 0.5:
        size, rate = of.size(0.4, 6), float(_UNPACED)
    else:
        size, rate = of.random.randint(20, 80), round((high + low) / 2 * of.random.uniform(0.4, 0.95), 1)
    return {
        "what": f"{size} MiB in turn at {rate} MiB/s on a network of {high:.0f} and {low} MiB/s, {step} s at a time",
        "guest": {0: (_hot(size, rate),)},
        "network": _flips(step, high, low),
    }


def _noisy_network(of: Numbers) -> dict[str, Any]:
    high, low = of.bandwidth, round(of.bandwidth * of.random.uniform(0.2, 0.8), 1)
    step, seed = of.seconds(0.3, 2), of.random.randrange(1_000)
    if of.random.random() < 0.5:
        size, rate = of.size(0.4, 6), float(_UNPACED)
    else:
        size, rate = of.random.randint(20, 80), round((high + low) / 2 * of.random.uniform(0.4, 0.95), 1)
    return {
        "what": f"{size} MiB in turn at {rate} MiB/s on a network of {low} to {high:.0f} MiB/s, another every {step} s",
        "guest": {0: (_hot(size, rate),)},
        "network": lambda second: Random(seed * 1_000 + int(second / step)).uniform(low, high),  # noqa: S311
    }


def _sinks(of: Numbers) -> dict[str, Any]:
    size, at_s = of.random.randint(20, 80), of.seconds(4, 14)
    low = round(of.bandwidth * of.random.uniform(0.15, 0.6), 1)
    rate = round(of.bandwidth * of.random.uniform(0.5, 0.9), 1)
    usual = of.bandwidth
    return {
        "what": f"{size} MiB in turn at {rate} MiB/s on a network of {usual:.0f} MiB/s, of {low} MiB/s after {at_s} s",
        "guest": {0: (_hot(size, rate),)},
        "network": lambda second: usual if second < at_s else low,
    }


def _rises(of: Numbers) -> dict[str, Any]:
    size, at_s = of.random.randint(20, 60), of.seconds(10, 30)
    low = max(2.0, round(of.bandwidth * of.random.uniform(0.2, 0.6), 1))
    rate = round(of.random.uniform(1.1, 1.5) * low, 1)
    usual = of.bandwidth
    return {
        "what": f"{size} MiB in turn at {rate} MiB/s on a network of {low} MiB/s, of {usual:.0f} MiB/s after {at_s} s",
        "guest": {0: (_hot(size, rate),)},
        "network": lambda second: low if second < at_s else usual,
        "calms": at_s,
    }


def _helped(of: Numbers) -> dict[str, Any]:
    size, kind = of.size(1.3, 8), of.random.choice(["lifted", "post-copy", "limit raised"])
    ends = {
        "lifted": LIFT,
        "post-copy": ("migrate-start-postcopy", {}),
        "limit raised": ("migrate-set-parameters", {"downtime-limit": 100_000}),
    }
    return {
        "what": f"{size} MiB without a pause, helped: {kind}",
        "guest": {0: (_hot(size, _UNPACED),)},
        "capabilities": ("postcopy-ram",) if kind == "post-copy" else (),
        "end": ends[kind],
    }


def _multifd(of: Numbers) -> dict[str, Any]:
    return (_level if of.random.random() < 0.5 else _shrinks)(of) | {"capabilities": ("multifd",)}


def _xbzrle(of: Numbers) -> dict[str, Any]:
    return (_level if of.random.random() < 0.5 else _rate)(of) | {
        "capabilities": ("xbzrle",),
        "parameters": {"xbzrle-cache-size": 1 << 27},
    }


def _auto_converge(of: Numbers) -> dict[str, Any]:
    size, is_elastic = of.random.randint(15, 60), of.random.random() < 0.7
    rate = round(of.bandwidth * of.random.uniform(1.1, 3), 1)
    first, more = of.random.choice([10, 20, 30]), of.random.choice([10, 20, 30])
    return {
        "what": f"auto-converge by {first} and {more} %, {size} MiB in turn at {rate} MiB/s,"
        f" {'slower when throttled' if is_elastic else 'of a guest that catches up'}",
        "guest": {0: (_hot(size, rate, is_elastic=is_elastic),)},
        "capabilities": ("auto-converge",),
        "parameters": {"cpu-throttle-initial": first, "cpu-throttle-increment": more},
    }


#: The families, in the order in which they are drawn in turn.
FAMILIES: Final[Sequence[Callable[[Numbers], dict[str, Any]]]] = (
    _level, _rate, _shrinks, _hot_cold, _noisy_rate, _fits, _bursts, _gets_busy, _dips, _flipping, _noisy_network,
    _creeps, _grows, _moves, _sinks, _rises, _helped, _multifd, _xbzrle, _auto_converge, _alternates, _calms, _level,
    _shrinks, _dips,
)  # fmt: skip
