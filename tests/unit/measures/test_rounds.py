"""Rounds, and how the bytes of a bandwidth window are shared among them."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.measures.rounds import Rounds
from qemu_migration_exporter.core.model import Round

BW = 1_000.0


def shares(rounds: list[Round]) -> list[tuple[int, int | None]]:
    """Write the rounds as number and bytes."""
    return [(each.number, each.transferred_bytes) for each in rounds]


def test_round_waits_for_window_and_count() -> None:
    """The window that reaches past its end gives the sent bytes, the sync that ended it the dirtied ones."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    assert rounds.pending(1_000)
    rounds.iterate()
    assert not rounds.pending(400)
    assert [] == rounds.begin(80, by_sync=True)
    assert [] == rounds.window(0, 100, 1_000, BW)
    expected = Round(
        number=1,
        start_ns=0,
        end_ns=80,
        iterations=1,
        transferred_bytes=800,
        pending_at_start_bytes=1_000,
        pending_at_end_bytes=400,
        dirtied_bytes=4_096,
        bandwidth_bytes_per_second=BW,
    )
    assert [expected] == rounds.sync_ended(4_096)


def test_sync_may_be_first() -> None:
    """It usually is: a window is 100 ms, a sync less."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.begin(80, by_sync=True)
    assert [] == rounds.sync_ended(4_096)
    assert [(1, 800)] == shares(rounds.window(0, 100, 1_000, BW))


def test_window_is_shared_by_time() -> None:
    """Also among several rounds, each as long as it lasted in the window."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    for start_ns in (50, 80):
        rounds.iterate()
        rounds.begin(start_ns, by_sync=False)
    rounds.iterate()
    assert [(1, 500), (2, 300)] == shares(rounds.window(0, 100, 1_000, BW))
    assert [(3, 200)] == shares(rounds.close())


def test_bytes_sent_stopped_are_no_rounds() -> None:
    """The window that spans the switchover counts its time in it, ended once or twice."""
    for again in (False, True):
        rounds = Rounds()
        rounds.begin(0, by_sync=False)
        rounds.iterate()
        rounds.end(40, by_sync=False)
        if again:
            rounds.end(70, by_sync=False)
        assert [(1, 400)] == shares(rounds.window(0, 100, 1_000, BW))


def test_setup_bytes_are_shared_by_time() -> None:
    """A window that began in setup counts from the first round, also if another round follows in it."""
    rounds = Rounds()
    rounds.begin(60, by_sync=False)
    rounds.iterate()
    rounds.begin(70, by_sync=False)
    rounds.iterate()
    assert [(1, 250)] == shares(rounds.window(0, 100, 1_000, BW))
    assert [(2, 750)] == shares(rounds.close())


def test_bytes_of_no_time_are_last_rounds() -> None:
    """The window ends in the nanosecond in which the round begins."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.begin(100, by_sync=False)
    rounds.iterate()
    rounds.window(100, 100, 1_000, BW)
    assert [(2, 1_000)] == shares(rounds.close())[-1:]


def test_setup_bytes_are_first_rounds() -> None:
    """The first window begins with the thread, before setup was complete."""
    rounds = Rounds()
    rounds.begin(60, by_sync=False)
    rounds.iterate()
    assert [] == rounds.window(0, 100, 1_000, BW)
    assert [(1, 1_000)] == shares(rounds.close())


def test_empty_window_is_last_rounds() -> None:
    """The clock may not move between lines of one chunk by arrival time."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.window(0, 0, 1_000, BW)
    assert [(1, 1_000)] == shares(rounds.close())


def test_rounds_without_slices_are_counted() -> None:
    """A trace without `savevm_state_iterate`: the sync before the switchover begins no round."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    assert [rounds.pending(100), rounds.pending(60)] == [True, False]
    assert rounds.open_is_row
    found = []
    for at_ns, pending in [(10, 50), (20, 30), (30, 9)]:
        found += rounds.begin(at_ns, by_sync=True)
        rounds.sync_ended(7)
        rounds.pending(pending)
        assert not rounds.open_is_row
    found += rounds.end(31, by_sync=False)
    found += rounds.window(0, 40, 1_000, BW)
    assert [(1, 100), (2, 50), (3, 30)] == [(each.number, each.pending_at_start_bytes) for each in found]


@pytest.mark.parametrize(("number", "is_round"), [(1, False), (2, True)])
def test_round_of_one_pending_value_is_no_bulk_round(number: int, *, is_round: bool) -> None:
    """Without `savevm_state_iterate`: all memory is not sent between two lines, what one round dirtied may be."""
    rounds = Rounds()
    for at_ns in range(number - 1):
        rounds.begin(at_ns, by_sync=True)
        rounds.pending(100)
        rounds.pending(60)
    rounds.begin(10, by_sync=True)
    rounds.pending(40)
    rounds.begin(20, by_sync=True)
    assert is_round == (number in [each.number for each in rounds.close()])


def test_empty_round_is_forgotten() -> None:
    """Its number goes to the next one."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    assert (1, False) == (rounds.number, rounds.open_is_row)
    assert [] == rounds.begin(10, by_sync=True)
    rounds.iterate()
    assert (1, True) == (rounds.number, rounds.open_is_row)
    assert [1] == [each.number for each in rounds.close()]


def test_last_numbers_may_be_missing() -> None:
    """A round that ended without its window has no bytes; the one that did not end has no end."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.begin(10, by_sync=True)
    rounds.iterate()
    first, second = rounds.close()
    assert (None, None, None) == (first.transferred_bytes, first.dirtied_bytes, first.bandwidth_bytes_per_second)
    assert (10, None) == (first.end_ns, second.end_ns)
    assert [] == rounds.close()


def test_outside_of_rounds_nothing_happens() -> None:
    """Pending, slices, windows and syncs before the first round belong to no round."""
    rounds = Rounds()
    rounds.iterate()
    assert not rounds.pending(1)
    assert (
        []
        == rounds.window(0, 100, 1_000, BW)
        == rounds.sync_ended(1)
        == rounds.end(100, by_sync=False)
        == rounds.close()
    )
    assert 0 == rounds.number


def test_bytes_of_setup_belong_to_first_round() -> None:
    """Also if that round ended inside of the first window, or if the window has no length."""
    for first_ns, window in ((50, (0, 100)), (10, (10, 10))):
        rounds = Rounds()
        rounds.begin(first_ns, by_sync=False)
        rounds.iterate()
        rounds.begin(first_ns, by_sync=False)
        rounds.iterate()
        ended = rounds.window(*window, 1_000, BW)
        assert 1_000 == sum(each.transferred_bytes or 0 for each in (*ended, *rounds.close()))


def test_bandwidth_is_of_last_inner_window() -> None:
    """Else of the one the round is inside of, but never of the one that only began in it."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.window(0, 100, 1_000, BW)
    rounds.begin(150, by_sync=False)
    rounds.iterate()
    (first,) = rounds.window(100, 200, 1_000, 2 * BW)
    (second,) = rounds.close()
    assert (BW, 2 * BW) == (first.bandwidth_bytes_per_second, second.bandwidth_bytes_per_second)


def test_dirty_rate_needs_length_and_count() -> None:
    """Bytes by seconds, or nothing."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.begin(500_000_000, by_sync=True)
    rounds.sync_ended(4_096)
    (ended,) = rounds.window(0, 500_000_000, 1, BW)
    rounds.iterate()
    (still_open,) = rounds.close()
    assert (8_192.0, None) == (ended.dirty_bytes_per_second, still_open.dirty_bytes_per_second)


def test_rounds_wait_for_a_window_in_limits() -> None:
    """Bandwidth windows may not be traced; a waiting round is returned with the numbers known so far."""
    rounds = Rounds()
    ended = []
    for at_ns in range(1_003):
        ended += rounds.begin(at_ns, by_sync=False)
        rounds.iterate()
    assert [(1, None), (2, None)] == shares(ended)
    assert 1_000 == len(rounds.waiting)


@pytest.mark.parametrize(
    ("starts_ns", "end_ns", "windows", "expected"),
    [
        ([0], None, [(0, 100, 1_000)], [1_000]),
        ([0, 250], None, [(0, 100, 1_000), (100, 200, 600), (200, 300, 400)], [1_800, 200]),
        ([0, 50, 250], None, [(0, 100, 1_000), (100, 200, 600), (200, 300, 400)], [500, 1_300, 200]),
        ([0, 120, 140], None, [(0, 100, 1_000), (100, 200, 1_000)], [1_200, 200, 600]),
        ([0, 150], 250, [(0, 100, 1_000), (100, 200, 600), (200, 300, 400)], [1_300, 500]),
        ([0], 150, [(0, 100, 1_000), (100, 200, 600), (200, 300, 400)], [1_300]),
        ([40, 90], None, [(0, 140, 1_000)], [500, 500]),
        ([0, 100], None, [(0, 100, 1_000), (100, 100, 10)], [1_000, 10]),
    ],
    ids=[
        "one round",
        "two rounds",
        "a round longer than a window",
        "two rounds end in a window",
        "the last round has ended",
        "windows follow the last round",
        "a window begins in setup",
        "a window of no length",
    ],
)
def test_windows_are_shared_among_rounds(
    starts_ns: list[int], end_ns: int | None, windows: list[tuple[int, int, int]], expected: list[int]
) -> None:
    """Each round gets the share of each window that its time has in it."""
    lines = [(at_ns, 1, None) for at_ns in starts_ns] + [(window[1], 2, window) for window in windows]
    rounds, found = Rounds(), []
    for at_ns, _, window in sorted(lines, key=lambda line: line[:2]):
        if window is None:
            found += rounds.begin(at_ns, by_sync=False)
            rounds.iterate()
            continue
        if end_ns is not None and rounds.current is not None and end_ns <= at_ns:
            found += rounds.end(end_ns, by_sync=False)
        found += rounds.window(*window, BW)
    assert expected == [size for _, size in shares([*found, *rounds.close()])]


@pytest.mark.parametrize(
    ("start_ns", "expected"),
    [(40, BW), (100, BW), (150, BW), (200, 2 * BW)],
    ids=["ended in a window", "ended with a window", "ended in a second window", "ended with a second window"],
)
def test_round_has_bandwidth_of_its_windows(start_ns: int, expected: float) -> None:
    """The bandwidth of the window that reaches past a round counts only if no other window ended in it."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    found: list[Round] = []
    for end_ns in (100, 200):
        if end_ns - 100 < start_ns <= end_ns:
            found += rounds.begin(start_ns, by_sync=False)
            rounds.iterate()
        found += rounds.window(end_ns - 100, end_ns, 1_000, BW * end_ns / 100)
    assert expected == found[0].bandwidth_bytes_per_second


def test_round_before_a_window_has_none_of_it() -> None:
    """A round may wait for the sync that ended it through further windows."""
    rounds = Rounds()
    rounds.begin(0, by_sync=False)
    rounds.iterate()
    rounds.begin(50, by_sync=True)
    rounds.iterate()
    assert [] == rounds.window(0, 100, 1_000, BW) == rounds.window(100, 200, 600, BW)
    assert [(1, 500), (2, 1_100)] == shares([*rounds.sync_ended(7), *rounds.close()])
