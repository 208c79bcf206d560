"""Tests of `core.timeline`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qemu_migration_exporter.core.events import Anchored, Event, LinesLost, SignalEvent, Transferred
from qemu_migration_exporter.core.lines import Lines, PlacedLines
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.timeline.clock import Clock, ClockState
from qemu_migration_exporter.core.timeline.reconstructed import ReconstructedClock
from qemu_migration_exporter.core.timeline.reordering import ReorderingClock
from qemu_migration_exporter.core.timeline.stream import StreamClock

MS = 1_000_000
S = 1_000 * MS
ITERATE = SignalEvent(None, None, Signal.ITERATE)
OTHER = SignalEvent(None, None, Signal.OTHER)


def at(ns: int | None) -> SignalEvent:
    """Return an event of this time."""
    return SignalEvent(ns, None, Signal.OTHER)


def lines_of(*events: Event) -> Lines:
    """Return the lines of events, each with a text and a process of its own."""
    texts = [repr(event).encode() for event in events]
    return Lines([*events], texts, [len(text) for text in texts], [event.at_ns for event in events])


def rows(lines: PlacedLines) -> list[tuple[Event, int]]:
    """Return events with their times, whose texts and processes are still theirs."""
    assert lines_of(*lines.events)[1:3] == lines[1:3]
    return [*zip(lines.events, lines.times, strict=True)]


def placed(clock: Clock, events: Sequence[Event], arrival_ns: int = 99) -> list[tuple[Event, int]]:
    """Put events through a clock to its end; return them in their order, with their times."""
    return rows(clock.place(lines_of(*events), arrival_ns)) + rows(clock.close())


def window(time_spent_ms: int | None) -> Transferred:
    """Return the end of a bandwidth window this long."""
    return Transferred(None, None, 1, time_spent_ms, None, None)


@pytest.mark.parametrize(
    ("times", "expected", "jumps"),
    [
        ([5 * MS, 7 * MS], [5 * MS, 7 * MS], 0),
        ([None, 5 * MS], [99, 5 * MS], 0),
        ([5 * MS, None, 6 * MS], [5 * MS, 5 * MS, 6 * MS], 0),
        ([5 * MS, 4 * MS, 6 * MS], [5 * MS, 5 * MS, 6 * MS], 0),
        ([5 * MS, 3 * MS, 6 * MS], [5 * MS, 5 * MS, 6 * MS], 1),
        ([20 * S, 15 * S, 16 * S], [20 * S, 20 * S, 20 * S], 2),
        ([20 * S, 10 * S, 11 * S, 15 * S], [20 * S, 20 * S, 21 * S, 25 * S], 1),
        ([20 * S, 10 * S, None, 11 * S], [20 * S, 20 * S, 20 * S, 21 * S], 1),
        ([20 * S, 10 * S, 9 * S, 11 * S], [20 * S, 20 * S, 20 * S, 21 * S], 2),
        ([20 * S, 10 * S, 2 * S, 3 * S], [20 * S, 20 * S, 20 * S, 21 * S], 2),
        ([20 * S, 10 * S, 11 * S, 22 * S, 23 * S], [20 * S, 20 * S, 21 * S, 22 * S, 23 * S], 1),
        ([20 * S, 10 * S, 11 * S, 17 * S, 12 * S, 13 * S], [20 * S, 20 * S, 21 * S, 21 * S, 21 * S, 22 * S], 3),
        ([20 * S, 10 * S, 11 * S, 20 * S, 22 * S, 21 * S], [20 * S, 20 * S, 21 * S, 21 * S, 22 * S, 22 * S], 3),
    ],
    ids=[
        "in order",
        "no time yet",
        "no time",
        "threads overtake each other",
        "one is late",
        "two are 5 s late",
        "the clock was set back",
        "and then there is no time",
        "and then one is late",
        "and then again",
        "and then forward",
        "and then nearly forward, and back again",
        "and then nearly forward",
    ],
)
def test_probe_clock_never_goes_back(times: list[int | None], expected: list[int], jumps: int) -> None:
    """A line without time gets that of the line before it; a much older line is counted.

    After the host's clock was set back, time continues at the pace of the lines.
    """
    clock = StreamClock(ClockKind.PROBE)
    assert expected == [placed_ns for ns in times for placed_ns in clock.place(lines_of(at(ns)), 99).times]
    assert jumps == clock.jumps_back
    assert [] == rows(clock.close())

    together = StreamClock(ClockKind.PROBE)
    assert expected == together.place(lines_of(*map(at, times)), 99).times
    assert together.state() == clock.state()


def test_settled_clock_trusts_next_line() -> None:
    """Also if no line came between the two clocks."""
    clock = StreamClock(ClockKind.PROBE)
    placed(clock, [at(20 * S), at(10 * S)])
    clock.settle(11 * S)
    assert placed(clock, [at(11 * S)]) == [(at(11 * S), 11 * S)]

    clock.settle(1 * S)
    assert placed(clock, [at(2 * S)]) == [(at(2 * S), 2 * S)]

    clock.settle(1 * S)  # no more than lines may differ from this machine's clock
    assert placed(clock, [at(1 * S)]) == [(at(1 * S), 2 * S)]
    assert clock.jumps_back == 2


def test_settled_reordering_trusts_next_line() -> None:
    """Once it holds no line."""
    clock = ReorderingClock(monotonic=False)
    clock.place(lines_of(at(20 * S)), 0)
    clock.settle(10 * S)
    assert clock.tick(21 * S).times == [20 * S]

    clock.settle(10 * S)
    clock.place(lines_of(at(10 * S)), 0)
    assert clock.tick(11 * S).times == [10 * S]
    assert clock.jumps_back == 0


def test_settling_reconstructed_clock_is_noop() -> None:
    clock = ReconstructedClock(5 * MS)
    clock.settle(0)
    assert placed(clock, [window(2)]) == [(window(2), 7 * MS)]


def test_arrival_clock_ignores_line_time() -> None:
    clock = StreamClock(ClockKind.ARRIVAL)
    assert [(at(1), 99)] == rows(clock.place(lines_of(at(1)), 99))
    assert [(at(None), 99)] == rows(clock.place(lines_of(at(None)), 98))


@pytest.mark.parametrize(
    ("events", "expected_ms"),
    [
        ([OTHER, OTHER], [0, 0]),
        ([OTHER, window(100), OTHER], [0, 100, 100]),
        ([ITERATE, OTHER, ITERATE, OTHER, window(100)], [0, 50, 50, 100, 100]),
        ([ITERATE, window(100), ITERATE, ITERATE, window(60), OTHER], [0, 100, 100, 130, 160, 160]),
        ([ITERATE, window(None), ITERATE], [0, 0, 0]),
        ([ITERATE, window(0), OTHER], [0, 0, 0]),
    ],
    ids=["no window", "no slice", "two slices", "two windows", "a window without its length", "a window of no length"],
)
def test_time_spent_moves_reconstructed_clock(events: list[Event], expected_ms: list[int]) -> None:
    """The slices of a window are placed evenly inside it, once it is over."""
    clock = ReconstructedClock(7)
    assert [(event, 7 + ms * MS) for event, ms in zip(events, expected_ms, strict=True)] == placed(clock, events)


def test_long_chunk_keeps_slices_in_their_windows() -> None:
    """The bound is for lines without the end of their window, and not for a chunk."""
    before: list[Event] = [*[OTHER] * 6_000, window(100)]
    after: list[Event] = [ITERATE, OTHER, ITERATE, OTHER, window(100)]
    assert [100, 150, 150, 200, 200] == [at_ns // MS for _, at_ns in placed(ReconstructedClock(0), before + after)[-5:]]


def test_reconstructed_clock_bounds_lines() -> None:
    clock = ReconstructedClock(0)
    assert 10_001 == sum(len(clock.place(lines_of(OTHER), 0).times) for _ in range(10_001))
    assert [] == rows(clock.close())


# Lines of several CPUs

#: The wall's time when the monotonic clock of these tests began.
WALL = 1_700_000_000_000_000_000


def anchor(monotonic_ns: int, wall_ns: int) -> Anchored:
    """Return the line in which a probe prints its clock's time and the wall time."""
    return Anchored(monotonic_ns, None, wall_ns)


def times(clock: Clock, events: Sequence[Event], arrival_ns: int = 99) -> list[int]:
    """Return the times of events, in the order they came out."""
    return [at_ns for _, at_ns in placed(clock, events, arrival_ns)]


def test_lines_of_two_cpus_are_put_in_order() -> None:
    """Equal times keep the order of arrival."""
    clock = ReorderingClock(monotonic=False)
    one, two = SignalEvent(300 * MS, 1, Signal.ITERATE), SignalEvent(300 * MS, 2, Signal.ITERATE)
    events = [at(200 * MS), one, at(600 * MS), at(100 * MS), two, at(500 * MS)]
    assert [(at(100 * MS), 100 * MS), (at(200 * MS), 200 * MS), (one, 300 * MS), (two, 300 * MS)] == placed(
        clock, events
    )[:4]
    assert 0 == clock.jumps_back


def test_line_is_held_half_a_second() -> None:
    clock = ReorderingClock(monotonic=False)
    assert [] == rows(clock.place(lines_of(at(MS)), 99))
    assert [] == rows(clock.place(lines_of(at(500 * MS)), 99))
    assert [(at(MS), MS)] == rows(clock.place(lines_of(at(501 * MS)), 99))
    assert [(at(500 * MS), 500 * MS), (at(501 * MS), 501 * MS)] == rows(clock.close())
    assert [] == rows(clock.close())


@pytest.mark.parametrize(
    ("late_ms", "at_ms", "jumps"), [(101, 101, 0), (100, 100, 0), (99, 100, 0), (98, 100, 1), (1, 100, 1)]
)
def test_late_line_is_counted(late_ms: int, at_ms: int, jumps: int) -> None:
    """Its time is that of the last released line; less than a thread's jitter is not counted."""
    clock = ReorderingClock(monotonic=False)
    assert [100 * MS, at_ms * MS, 600 * MS] == times(clock, [at(100 * MS), at(600 * MS), at(late_ms * MS)])
    assert jumps == clock.jumps_back


def test_anchor_maps_monotonic_times() -> None:
    """It is no event, and the time of arrival does not matter."""
    clock = ReorderingClock(monotonic=True)
    events: list[Event] = [anchor(5 * MS, WALL + 5 * MS), at(8 * MS), at(7 * MS)]
    assert [(at(7 * MS), WALL + 7 * MS), (at(8 * MS), WALL + 8 * MS)] == placed(clock, events)


def test_first_arrival_replaces_anchor() -> None:
    clock = ReorderingClock(monotonic=True)
    assert [WALL - 2 * MS, WALL, WALL + 4 * MS] == times(clock, [at(7 * MS), at(11 * MS), at(5 * MS)], WALL)


def test_wall_times_need_no_anchor() -> None:
    """An anchor of another probe moves no time."""
    clock = ReorderingClock(monotonic=False)
    assert [WALL, WALL + MS] == times(clock, [at(WALL), anchor(5, WALL), at(WALL + MS)])


@pytest.mark.parametrize(
    ("second", "expected_ms", "jumps"),
    [
        (anchor(100 * MS, WALL + 700 * MS), [100, 200, 710, 720], 0),
        (anchor(0, WALL + 90_000 * MS), [100, 200, 90_010, 90_020], 0),
        (anchor(0, WALL + 170 * MS), [100, 200, 200, 200], 2),
        (anchor(300 * MS, WALL + 900 * MS), [100, 200, 910, 920], 0),
    ],
    ids=["the same clock", "the host started anew", "the wall was set back", "the wall was set forward"],
)
def test_new_anchor_begins_another_run(second: Anchored, expected_ms: list[int], jumps: int) -> None:
    """Lines held are released, the new anchor counts, and times never go back."""
    clock = ReorderingClock(monotonic=True)
    before: list[Event] = [anchor(0, WALL), at(200 * MS), at(100 * MS)]
    assert [] == [at_ns for event in before for at_ns in clock.place(lines_of(event), 99).times]
    released = clock.place(lines_of(second), 99).times
    after = times(clock, [at(second.at_ns + 20 * MS), at(second.at_ns + 10 * MS)])
    assert [WALL + ms * MS for ms in expected_ms] == released + after
    assert jumps == clock.jumps_back


def test_untimed_line_follows_newest() -> None:
    """As a probe's report of lost lines."""
    clock = ReorderingClock(monotonic=True)
    lost = LinesLost(None, None, 4)
    events: list[Event] = [anchor(0, WALL), lost, at(9 * MS), at(7 * MS), lost, at(8 * MS)]
    assert [
        (lost, WALL),
        (at(7 * MS), WALL + 7 * MS),
        (at(8 * MS), WALL + 8 * MS),
        (at(9 * MS), WALL + 9 * MS),
        (lost, WALL + 9 * MS),
    ] == placed(clock, events)


def test_reordering_clock_bounds_lines() -> None:
    clock = ReorderingClock(monotonic=False)
    assert 0 == sum(len(clock.place(lines_of(at(ns)), 99).times) for ns in range(10_000))
    assert [(at(0), 0)] == rows(clock.place(lines_of(at(10_000)), 99))
    assert 10_000 == len(clock.close().times)


@given(st.lists(st.one_of(st.none(), st.integers(0, 1_200), st.integers(5_000, 5_400)), max_size=80))
def test_lines_together_are_placed_as_alone(ms: list[int | None]) -> None:
    """Lines in order are added and released together, late lines one by one."""
    events: list[Event] = [
        anchor(0, WALL),
        *(at(each and each * MS) for each in sorted(ms, key=lambda it: (it or 0) // 90)),
    ]
    alone, together = ReorderingClock(monotonic=True), ReorderingClock(monotonic=True)
    one_by_one = [row for event in events for row in rows(alone.place(lines_of(event), 99))]
    assert one_by_one == rows(together.place(lines_of(*events), 99))
    assert alone.state() == together.state()
    assert rows(alone.close()) == rows(together.close())
    assert alone.jumps_back == together.jumps_back


CLOCKS: list[Callable[[], Clock]] = [
    lambda: StreamClock(ClockKind.PROBE),
    lambda: StreamClock(ClockKind.ARRIVAL),
    lambda: ReconstructedClock(0),
    lambda: ReorderingClock(monotonic=True),
]


@pytest.mark.parametrize("make", CLOCKS)
def test_clock_continues_from_empty_state_as_new(make: Callable[[], Clock]) -> None:
    """A state file keeps no field that has its default value."""
    fresh, restored = make(), make()
    restored.restore(ClockState(), lines_of())
    assert fresh.state() == restored.state()
    events: list[Event] = [LinesLost(None, None, 4), window(2), at(20 * S), at(10 * S), at(11 * S)]
    assert placed(fresh, events) == placed(restored, events)
    assert fresh.jumps_back == restored.jumps_back


@pytest.mark.parametrize(
    ("now_ms", "expected_ms"), [(501, []), (599, []), (600, [100]), (800, [100, 300]), (9_000, [100, 300, 400])]
)
def test_tick_releases_lines_after_half_a_second(now_ms: int, expected_ms: list[int]) -> None:
    """A migration's last lines are released by time, as no later line follows them."""
    clock = ReorderingClock(monotonic=False)
    assert [] == rows(clock.place(lines_of(at(300 * MS), at(100 * MS), at(400 * MS)), 0))
    assert [ms * MS for ms in expected_ms] == clock.tick(now_ms * MS).times


@pytest.mark.parametrize("make", CLOCKS)
def test_restored_clock_continues_in_its_state(make: Callable[[], Clock]) -> None:
    kept, restored = make(), make()
    kept.place(lines_of(at(20 * S), at(10 * S), at(11 * S), window(2)), 0)
    kept.tick(20 * S)
    held = lines_of(*(at(line.at_ns) for line in kept.state().held))
    restored.restore(kept.state(), held)
    after: list[Event] = [at(12 * S), window(2), at(13 * S)]
    assert [ns for _, ns in placed(kept, after)] == [ns for _, ns in placed(restored, after)]
    assert kept.jumps_back == restored.jumps_back


@pytest.mark.parametrize(("now_s", "expected_s"), [(15, 20), (14, 16)])
def test_clock_settles_beyond_five_seconds(now_s: int, expected_s: int) -> None:
    """A line's time may differ from this machine's clock by less."""
    clock = StreamClock(ClockKind.PROBE)
    placed(clock, [at(20 * S)])
    clock.settle(now_s * S)
    assert [(at(16 * S), expected_s * S)] == placed(clock, [at(16 * S)])
