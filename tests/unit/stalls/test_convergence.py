"""The rule of the verdict, boundary by boundary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qemu_migration_exporter.core.stalls.convergence import Convergence, Rules

MIB = 1 << 20
SECOND = 1_000_000_000

Boundaries = Iterable[tuple[float, float]]


def every(seconds: float, *pending: float) -> Iterator[tuple[float, float]]:
    """Give boundaries at equal distances, from 1 s on."""
    return ((1 + seconds * index, each) for index, each in enumerate(pending))


def turns_out(boundaries: Boundaries, threshold: float, *, rules: Rules | None = None) -> float | None:
    """Return the time of the boundary by which it is stalled, in s; each is followed by a window of this threshold."""
    convergence = Convergence(rules or Rules())
    convergence.window(0, round(threshold * MIB))
    for number, (at_s, pending) in enumerate(boundaries, start=2):
        convergence.boundary(round(at_s * SECOND), number, round(pending * MIB))
        convergence.window(round((at_s + 0.05) * SECOND), round(threshold * MIB))
        if convergence.judge():
            return at_s
    return None


@pytest.mark.parametrize(
    ("what", "boundaries", "threshold", "expected"),
    [
        ("47 MiB again and again, at five times the threshold", every(1.2, *[47] * 9), 9.6, 5.8),
        ("the same in fast rounds: it is time that counts", every(0.1, *[47] * 99), 9.6, 5.0),
        ("and in slow ones: three boundaries, whatever the time", every(6, *[96] * 9), 4.8, 13),
        ("at twice the threshold it takes 21 s", every(1, *[20] * 30), 10, 22),
        ("at three times, 5.25 s", every(1, *[30] * 30), 10, 7),
        ("at 1.25 times, as long as without being level", every(1, *[12.5] * 90), 10, 41),
        ("nearer than that, a minute", every(1, *[11.5] * 90), 10, 61),
        ("varying by a tenth, 40 s", every(2, *[40, 44] * 30), 9.6, 41),
        ("two boundaries are too few, however long", every(100, 47, 47), 9.6, None),
        ("the first fell, the others are level", every(1.2, 51, *[47] * 9), 9.6, 7.0),
        ("shrinking by a fifth each time", every(1.5, *[90 * 0.8**n for n in range(11)]), 9.6, None),
        ("shrinking by a hundredth", every(1.5, *[47 * 0.99**n for n in range(150)]), 9.6, None),
        ("falling by a thousandth is level", every(1.5, *[47 * 0.999**n for n in range(9)]), 9.6, 5.5),
        ("hovering near the threshold for 40 s, then fitting", every(1, *[10.1, 10.9, 10.5] * 13, 9.9), 10, None),
        (
            "a saw-tooth whose low points get lower",
            every(5, *[x for n in range(9) for x in (60, 40 - 3 * n)]),
            9.6,
            None,
        ),
        ("a saw-tooth whose low points do not", every(5, *[60, 20] * 9), 9.6, 46),
        ("a guest that is busy again after it was calm", every(1, 40, 40, 30, 20, 12, *[40] * 20, 9), 9.6, None),
        ("below the threshold", every(1, *[9] * 99), 9.6, None),
        ("no threshold known: as long as near it", every(2, *[47] * 99), 0, 61),
        ("one better boundary starts the clock again", every(2, *[47] * 2, 44, *[44] * 9), 9.6, 9),
    ],
)
def test_when_it_turns_out(what: str, boundaries: Boundaries, threshold: float, expected: float | None) -> None:
    """Boundaries in MiB against a threshold in MiB; the time in s by which they are stalled."""
    assert turns_out(boundaries, threshold) == (None if expected is None else pytest.approx(expected, abs=0.11)), what


def test_a_boundary_is_judged_once_a_window_has_ended_after_it() -> None:
    """The threshold before it is a stale one: seven equal boundaries in 115 ms may be followed by the end."""
    convergence = Convergence(Rules(least_seconds=0, boundaries=2))
    convergence.window(0, 9 * MIB)
    for index in range(7):
        convergence.boundary(index * SECOND, index + 2, 47 * MIB)
    convergence.window(8 * SECOND, 700 * MIB)

    assert (convergence.judge(), convergence.fits) == (False, True)
    assert convergence.judge() is None, "it was judged"


def test_a_dip_of_the_bandwidth_is_no_reason() -> None:
    """8 MiB fit into 10; for ten seconds only 1 MiB would, and the rounds are level all that time."""
    convergence = Convergence(Rules())
    told = []
    for second in range(30):
        threshold = 1 if 10 <= second < 20 else 10
        convergence.window(second * SECOND, threshold * MIB)
        if 10 <= second < 20:
            convergence.boundary(second * SECOND, second, 8 * MIB)
            convergence.window(second * SECOND + SECOND // 2, threshold * MIB)
        told.append(convergence.judge())
    assert not any(told)


def test_steps_of_auto_converge_start_the_clock_again() -> None:
    """As long as there are steps left nothing is said early; at the last one the rule is the same as ever."""
    told = {}
    for is_last in (False, True):
        convergence = Convergence(Rules())
        convergence.window(0, 10 * MIB)
        for second in range(60):
            if second == 3:
                convergence.eased(second * SECOND, is_last=is_last)
            convergence.boundary(second * SECOND, second + 2, 47 * MIB)
            convergence.window(second * SECOND + 1, 10 * MIB)
            if convergence.judge():
                told[is_last] = second
                break
    assert told == {False: 43, True: 7}


def test_the_best_boundary_is_the_least_pending() -> None:
    """Of equal ones the first."""
    convergence = Convergence(Rules())
    progress = [
        convergence.boundary(second * SECOND, number, pending)
        for second, number, pending in [(1, 2, 50), (2, 3, 60), (3, 4, 40), (4, 5, 40), (5, 6, 39)]
    ]
    assert [True, False, True, False, False] == progress, "4 % or more"
    assert (39, 6, 5 * SECOND, 3 * SECOND) == (
        convergence.best_pending,
        convergence.best_round,
        convergence.best_ns,
        convergence.progress_ns,
    )


def test_without_a_boundary_there_is_nothing_to_judge() -> None:
    """The bulk round says nothing; a step of auto-converge in it neither."""
    convergence = Convergence(Rules())
    convergence.eased(SECOND, is_last=False)
    convergence.window(SECOND, 9)
    assert (convergence.judge(), convergence.fits) == (None, False)


@given(
    ratio=st.floats(0.2, 0.94),
    first=st.floats(10.5, 10_000),
    round_s=st.floats(0.01, 100),
    noise=st.lists(st.floats(-0.005, 0.005), min_size=200, max_size=200),
)
def test_what_shrinks_by_a_twentieth_is_never_stalled(
    ratio: float, first: float, round_s: float, noise: list[float]
) -> None:
    """Whatever its size and however long its rounds, if it is no longer than a minute's worth of noise near its end."""
    pending, at_s = first, 1.0
    boundaries = []
    for each in noise:
        if pending < 10:
            break
        boundaries.append((at_s, pending * (1 + each)))
        at_s += round_s
        pending *= ratio

    assert turns_out(boundaries, 10) is None


@given(
    times=st.floats(1.3, 1_000),
    round_s=st.floats(0.01, 5),
    noise=st.lists(st.floats(-0.01, 0.01), min_size=9, max_size=9),
)
def test_what_stays_where_it_is_is_always_found(times: float, round_s: float, noise: list[float]) -> None:
    """A constant working set above the threshold, to a hundredth: in 40 s and three rounds more at the latest."""
    count = round(45 / round_s) + 3
    boundaries = [(1 + round_s * index, 10 * times * (1 + noise[index % len(noise)])) for index in range(count)]

    found = turns_out(boundaries, 10)

    assert found is not None
    assert found <= 1 + 40 + 3 * round_s
