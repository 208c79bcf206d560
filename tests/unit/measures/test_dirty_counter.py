"""Newly dirtied pages, out of QEMU's counter."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.measures.dirty_counter import DirtyPageCounter

MS = 1_000_000


#: The time of the first sync: QEMU's clock counts from 1970.
START_NS = 1_700_000_000_000 * MS


def follow(
    period: DirtyPageCounter, syncs: list[tuple[int, int | None]], *, cumulative: bool = True
) -> list[int | None]:
    """Feed a period with syncs, each its end in ms and its pages."""
    return [period.newly_dirtied(pages, START_NS + end_ms * MS, cumulative=cumulative) for end_ms, pages in syncs]


@pytest.mark.parametrize(
    ("syncs", "expected"),
    [
        ([(100, 0), (500, 300), (900, 1000)], [0, 300, 700]),
        ([(100, 0), (1_001, 300), (1_500, 50)], [0, 300, 50]),
        ([(100, 0), (1_001, 300), (1_500, 350)], [0, 300, 350]),
        ([(100, 0), (1_000, 300), (1_500, 350)], [0, 300, 50]),
        ([(100, 0), (2_000, 10_995), (2_400, 10_995), (2_900, 20_811)], [0, 10_995, 10_995, 9_816]),
        ([(100, 0), (600, 500), (1_001, 900), (1_100, 1_000)], [0, 500, 400, 100]),
        ([(100, 0), (600, 500), (1_001, 900), (1_100, 80)], [0, 500, 400, 80]),
        ([(100, 0), (600, 500), (1_002, 900), (1_100, 1_000)], [0, 500, 400, 1_000]),
        ([(100, 0), (900, 300), (990, 200), (1_400, 260)], [0, 300, 200, 60]),
        ([(100, 0), (500, None), (900, 300)], [0, None, 300]),
    ],
    ids=[
        "one period",
        "a period a second long",
        "the same, and then more pages",
        "exactly a second resets nothing",
        "7.2, from a recording",
        "a second as far as we can tell, and not for QEMU",
        "a second as far as we can tell, and for QEMU too",
        "more than a second for both",
        "it fell early",
        "no argument",
    ],
)
def test_counter_is_differenced_in_period(syncs: list[tuple[int, int | None]], expected: list[int | None]) -> None:
    """It is reset by a sync that ends more than a second after the last reset, and its fall proves a reset."""
    period = DirtyPageCounter()
    period.begin(START_NS)
    assert expected == follow(period, syncs)


def test_before_2_9_value_is_per_sync() -> None:
    """There is no period to difference in."""
    assert [1000, 200, None] == follow(DirtyPageCounter(), [(100, 1000), (200, 200), (300, None)], cumulative=False)


def test_period_is_unknown_until_counter_falls() -> None:
    """No value is guessed before that."""
    assert [None, None, 100, 150] == follow(DirtyPageCounter(), [(100, 700), (200, 900), (300, 100), (400, 250)])
