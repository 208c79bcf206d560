"""The rule of the verdict, boundary by boundary, and on the situations that once were judged wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qemu_migration_exporter.core.stalls.convergence import Convergence, Rules

MIB = 1 << 20
SECOND = 1_000_000_000

Boundaries = Iterable[tuple[float, float]]
Threshold = float | Callable[[float], float]


def every(seconds: float, *pending: float) -> Iterator[tuple[float, float]]:
    """Yield boundaries at equal distances, from 1 s on."""
    return ((1 + seconds * index, mib) for index, mib in enumerate(pending))


def noisy(share: float, *pending: float, seed: int = 1) -> list[float]:
    """Return sizes that vary by a share, at random."""
    random = Random(seed)  # noqa: S311 - a test's noise
    return [mib * random.uniform(1 - share, 1 + share) for mib in pending]


def verdicts(boundaries: Boundaries, threshold: Threshold, *, rules: Rules | None = None) -> list[tuple[float, bool]]:
    """Return the changes of the verdict; bandwidth windows of 100 ms carry the threshold in MiB."""
    convergence, now = Convergence(rules or Rules()), 0.0
    found: list[tuple[float, bool]] = []

    def windows(until_s: float) -> None:
        nonlocal now
        while now < until_s:
            value = threshold(now) if callable(threshold) else threshold
            if value:
                convergence.window(round(now * SECOND), round(value * MIB))
            convergence.judge()
            note()
            now += 0.1

    def note() -> None:
        if convergence.is_stalled != (found[-1][1] if found else False):
            found.append((now, convergence.is_stalled))

    for number, (at_s, mib) in enumerate(boundaries, start=2):
        windows(at_s)
        convergence.boundary(round(at_s * SECOND), number, round(mib * MIB))
        note()
        now = max(now, at_s)
    windows(now + 0.3)
    return found


def stalled_at(boundaries: Boundaries, threshold: Threshold, *, rules: Rules | None = None) -> float | None:
    """Return when the migration is first called stalled, in s."""
    return next((at_s for at_s, is_stalled in verdicts(boundaries, threshold, rules=rules) if is_stalled), None)


@pytest.mark.parametrize(
    ("what", "boundaries", "threshold", "expected"),
    [
        ("level at five times the threshold", every(1.2, *[47] * 9), 9.6, 5.8),
        ("the same in fast rounds", every(0.1, *[47] * 99), 9.6, 4.8),
        ("the same in slow rounds", every(6, *[96] * 9), 4.8, 13),
        ("level at twice the threshold", every(1, *[20] * 30), 10, 5),
        ("level at 1.46 times", every(0.2, *[14.6] * 300), 10, 4.8),
        ("level at 1.25 times", every(0.1, *[12.5] * 300), 10, 8.3),
        ("dead level and silent at 1.15 times", every(0.09, *[11.5] * 316), 10, 19.6),
        ("level at 1.08 times", every(0.1, *[10.8] * 420), 10, None),
        ("varying by a tenth", every(2, *[40, 44] * 30), 9.6, 15),
        ("two boundaries", every(100, 47, 47), 9.6, None),
        ("first a fall, then level", every(1.2, 51, *[47] * 9), 9.6, 7.0),
        ("one earlier lower boundary", every(1.2, 20, *[47] * 9), 9.6, 7.0),
        ("busy 12 s after the start", every(0.9, *[9.8] * 12, *[64] * 20), 9.6, 13.7),
        ("noise of 30 % far above", every(1.2, *noisy(0.3, *[60] * 40)), 9.6, 20),
        ("noise of 10 % far above", every(1.2, *noisy(0.1, *[60] * 40)), 9.6, 20),
        ("few, long rounds", every(27, 109, 102, 101), 1.2, 55),
        ("one long, level round", every(18, 70, 70.1), 1.2, 19),
        ("one long, falling round", every(18, 70, 68), 1.2, None),
        ("one long, rising round", every(19, 66, 96), 1.9, None),
        ("few, long rounds that wander", every(10, 60, 70, 62, 66, 61, 68), 9.6, 51),
        ("shrinking by a fifth each time", every(1.5, *[90 * 0.8**n for n in range(11)]), 9.6, None),
        ("shrinking by a twentieth", every(1.5, *[90 * 0.95**n for n in range(45)]), 9.6, None),
        ("shrinking by a tenth in long rounds", every(30, *[900 * 0.9**n for n in range(44)]), 9.6, None),
        ("shrinking by a thousandth", every(1.5, *[47 * 0.999**n for n in range(9)]), 9.6, 5.5),
        ("creeping by 1 MiB every 4 s", every(0.6, *[30 - (n * 0.6) // 4 for n in range(60)]), 10, None),
        ("steps of 6 % every 4.8 s", every(0.2, *[18.2 * (1 - 0.06 * ((n + 6) // 24)) for n in range(210)]), 10, None),
        ("steps, and then no more", every(0.2, *[18.2 * (1 - 0.06 * min(3, (n + 6) // 24)) for n in range(210)]), 10, 21.6),
        ("a rise on the way down", every(1, *[28 * 0.85**n for n in range(12)], *[5 + 0.3 * n for n in range(6)], 5, 4, 3, 2), 2.4, None),
        ("a rise that goes on", every(1, *[28 * 0.85**n for n in range(12)], *[5 + 0.3 * n for n in range(12)]), 2.4, 20),
        ("a network that nearly carries it at times", every(1, *[21.6] * 16), lambda s: 20.4 if s % 6 < 1 else 11, None),
        ("hovering near the threshold", every(1, *[10.1, 10.9, 10.5] * 13, 9.9), 10, None),
        ("low points near the threshold", every(1, *[40, 40, 40, 25, 14] * 8), 10, None),
        ("a saw-tooth that gets lower", every(5, *[x for n in range(9) for x in (60, 40 - 3 * n)]), 9.6, None),
        ("below the threshold", every(1, *[9] * 99), 9.6, None),
        ("no threshold known", every(2, *[47] * 99), 0, 37),
        ("a dip of 10 s", every(1, *[30 * 0.9**n for n in range(8)], *[16] * 10, 12, 9), lambda s: 1 if 9 <= s < 19 else 10, None),
        ("a bandwidth that stays low", [(1 + 4 * n, 11) for n in range(20)], lambda s: 3 if s > 6 else 10.5, 33),
        ("one window of a large threshold", every(1.2, *[47] * 9), lambda s: 90 if 4 <= s < 4.1 else 9.6, 5.8),
    ],
)  # fmt: skip
def test_verdict_comes_at(what: str, boundaries: Boundaries, threshold: Threshold, expected: float | None) -> None:
    """Boundaries and thresholds in MiB; the first time in s at which the migration is stalled."""
    found = stalled_at(boundaries, threshold)
    if expected is None or found is None:
        assert found == expected, what
    elif what.startswith("noise"):
        assert found <= expected, what
    else:
        assert found == pytest.approx(expected, abs=0.31), what


def test_threshold_spike_hides_no_stall() -> None:
    """XBZRLE: few bytes in much time, and now and then a window with many."""
    assert len(verdicts(every(1, *[47] * 40), lambda s: 60 if 20 <= s < 20.1 else 0.5)) == 1


def test_stall_ends_with_progress() -> None:
    changes = verdicts(every(1, *[47] * 10, *[47 * 0.8**n for n in range(1, 7)]), 9.6)
    assert [is_stalled for _, is_stalled in changes] == [True, False]
    assert changes[1][0] == pytest.approx(11, abs=0.2)


def test_raised_threshold_ends_stall() -> None:
    changes = verdicts(every(1, *[47] * 20), lambda s: 9.6 if s < 15 else 200)
    assert [is_stalled for _, is_stalled in changes] == [True, False]
    assert changes[1][0] == pytest.approx(15.6, abs=0.3), "smoothed over 2 s"


def test_boundary_needs_a_later_window() -> None:
    """The threshold before it is stale: seven equal boundaries in 115 ms may be followed by the end."""
    convergence = Convergence(Rules(look_back_seconds=0))
    convergence.window(0, 9 * MIB)
    for index in range(7):
        convergence.boundary(index * SECOND, index + 2, 47 * MIB)
    convergence.window(8 * SECOND, 700 * MIB)

    assert (convergence.judge(), convergence.fits) == (False, True)
    assert convergence.judge() is None, "it was judged"


@pytest.mark.parametrize(("is_last", "expected"), [(False, None), (True, 8)])
def test_auto_converge_steps_are_awaited(*, is_last: bool, expected: int | None) -> None:
    """Level boundaries from before the last step count again one round after it."""
    convergence, found = Convergence(Rules()), None
    convergence.window(0, 10 * MIB)
    for second in range(60):
        if second == 7:
            convergence.eased(second * SECOND, is_last=is_last)
        convergence.boundary(second * SECOND, second + 2, 47 * MIB)
        convergence.window(second * SECOND + 1, 10 * MIB)
        if convergence.judge() and found is None and second >= 7:
            found = second
    assert found == expected


def test_helpful_throttle_is_no_stall() -> None:
    """Each step lets the guest write less; the last one makes it fit."""
    convergence, found = Convergence(Rules()), []
    convergence.window(0, 10 * MIB)
    for second in range(30):
        if second % 3 == 0:
            convergence.eased(second * SECOND, is_last=second >= 24)
        convergence.boundary(second * SECOND, second + 2, round(47 * 0.93**second * MIB))
        convergence.window(second * SECOND + 1, 10 * MIB)
        found.append(convergence.judge())
    assert not any(found)


def test_best_boundary_has_least_pending() -> None:
    """The first of equal ones."""
    convergence = Convergence(Rules())
    progress = [
        convergence.boundary(second * SECOND, number, pending)
        for second, number, pending in [(1, 2, 50), (2, 3, 60), (3, 4, 40), (4, 5, 40), (5, 6, 39)]
    ]
    assert progress == [True, False, True, False, False], "4 % or more"
    assert (convergence.best_pending, convergence.best_round) == (39, 6)
    assert (convergence.best_ns, convergence.progress_ns) == (5 * SECOND, 3 * SECOND)


def test_no_boundary_means_no_verdict() -> None:
    """The bulk round proves nothing, nor does a step of auto-converge in it."""
    convergence = Convergence(Rules())
    convergence.eased(SECOND, is_last=False)
    convergence.window(SECOND, 9)
    assert (convergence.judge(), convergence.fits, convergence.best_case_seconds) == (None, False, None)


def best_case(boundaries: Boundaries, threshold: float) -> float:
    """Return the best case after the last boundary, in s."""
    convergence = Convergence()
    for number, (at_s, mib) in enumerate(boundaries, start=2):
        convergence.window(round((at_s - 0.1) * SECOND), round(threshold * MIB))
        convergence.boundary(round(at_s * SECOND), number, round(mib * MIB))
        convergence.window(round(at_s * SECOND), round(threshold * MIB))
        convergence.judge()
    assert convergence.best_case_seconds is not None
    return convergence.best_case_seconds


def test_steady_fall_best_case_is_its_end() -> None:
    """1 MiB every 10 s, 30 MiB above the threshold: 300 s."""
    assert best_case(every(5, *[60 - 0.5 * n for n in range(9)]), 26) == pytest.approx(300, rel=0.01)


def test_level_best_case_is_random_walk() -> None:
    """The look-back times the square of the distance over 6 %."""
    assert best_case(every(1, *[20] * 11), 10) == pytest.approx(10 * (math.log(2) / 0.06) ** 2, rel=0.01)


def test_noise_best_case_is_below_mean() -> None:
    assert 20 < best_case(every(1, *noisy(0.1, *[60] * 20)), 10) < 10_000


@pytest.mark.parametrize(
    ("pending", "threshold", "expected"),
    [(None, 10, False), (9, 10, False), (10, 0, False), (10.9, 10, True), (11.1, 10, False), (47, 10, False)],
)
def test_near_is_beyond_proof(*, pending: float | None, threshold: float, expected: bool) -> None:
    """40 s of level boundaries prove that pending does not wander by 10 % in 100 s, and not less."""
    convergence = Convergence()
    if pending is not None:
        convergence.boundary(0, 2, round(pending * MIB))
    convergence.window(0, round(threshold * MIB))
    assert convergence.is_near is expected


def test_dip_is_below_half_of_best() -> None:
    convergence = Convergence()
    assert not convergence.is_dip
    convergence.window(0, 10 * MIB)
    assert not convergence.is_dip
    convergence.window(9 * SECOND, 4 * MIB)
    assert convergence.is_dip


def test_progress_time_begins_with_boundary() -> None:
    convergence = Convergence()
    assert convergence.seconds_since_progress(5 * SECOND) == 0
    convergence.boundary(5 * SECOND, 2, MIB)
    assert convergence.seconds_since_progress(7 * SECOND) == 2


@pytest.mark.parametrize(("pending", "high_seconds"), [(96, 0), (104, 0), (105, 1)])
def test_new_high_is_more_than_four_percent_above(pending: int, high_seconds: float) -> None:
    """The guest has become busier since, and boundaries before it are no low points."""
    convergence = Convergence()
    convergence.boundary(0, 2, 100)
    convergence.boundary(SECOND, 3, pending)
    assert convergence.high_seconds == high_seconds


def test_boundary_time_is_of_the_last() -> None:
    """0 before the first one; a replay may read a time from before the last."""
    convergence = Convergence()
    assert convergence.seconds_since_boundary(5 * SECOND) == 0
    for second in (5, 7):
        convergence.boundary(second * SECOND, second, MIB)
    assert [convergence.seconds_since_boundary(second * SECOND) for second in (6, 7, 10)] == [0, 0, 3]


def test_restart_keeps_best_boundary() -> None:
    convergence = Convergence()
    for second in range(8):
        convergence.window(second * SECOND, 10 * MIB)
        convergence.boundary(second * SECOND + 1, second + 2, 47 * MIB)
        convergence.window(second * SECOND + 2, 10 * MIB)
        convergence.judge()
    assert convergence.is_stalled
    convergence.restart()
    assert (convergence.high, convergence.high_seconds) == (0, 0)
    assert (convergence.longest_pause, convergence.reference) == (0, 0)
    assert (convergence.is_stalled, convergence.judge(), convergence.best_round) == (False, None, 2)


def test_kept_boundaries_are_bounded() -> None:
    """Fast rounds: one boundary between two windows is kept, and no more than 512 of these."""
    convergence = Convergence()
    for index in range(8_000):
        convergence.boundary(index * SECOND // 1_000, index + 2, 47 * MIB)
        if index % 10 == 0:
            convergence.window(index * SECOND // 1_000, 9 * MIB)
            convergence.judge()
    assert len(convergence.boundaries) <= 512


@given(
    ratio=st.floats(0.2, 0.94),
    first=st.floats(10.5, 10_000),
    round_s=st.floats(0.05, 100),
    noise=st.lists(st.floats(-0.005, 0.005), min_size=200, max_size=200),
)
def test_five_percent_fall_is_never_stalled(ratio: float, first: float, round_s: float, noise: list[float]) -> None:
    """A round takes as long as what is pending in it, as in QEMU."""
    pending, at_s = first, 1.0
    boundaries = []
    for share in noise:
        if pending < 10:
            break
        boundaries.append((at_s, pending * (1 + share)))
        at_s += max(0.01, round_s * pending / first)
        pending *= ratio

    assert stalled_at(boundaries, 10) is None


@given(
    times=st.floats(1.3, 1_000),
    round_s=st.floats(0.05, 5),
    noise=st.lists(st.floats(-0.01, 0.01), min_size=9, max_size=9),
)
def test_constant_working_set_stalls(times: float, round_s: float, noise: list[float]) -> None:
    """To a hundredth above the threshold: after 10 s and five rounds at the latest."""
    count = round(20 / round_s) + 7
    boundaries = [(1 + round_s * index, 10 * times * (1 + noise[index % len(noise)])) for index in range(count)]

    found = stalled_at(boundaries, 10)

    assert found is not None
    assert found <= 1 + 10 + 5 * round_s + 0.2
