"""When events happened, by the clock their stream has."""

from __future__ import annotations

import pytest

from exporter.core.clock import ReconstructedClock, StreamClock
from exporter.core.events import Event, Mark, Marked, Transferred
from exporter.core.model import ClockKind

MS = 1_000_000
ITERATE = Marked(None, None, Mark.ITERATE)
OTHER = Marked(None, None, Mark.OTHER)


def at(ns: int | None) -> Marked:
    """Make an event of this time."""
    return Marked(ns, None, Mark.OTHER)


def window(time_spent_ms: int | None) -> Transferred:
    """Make the end of a bandwidth window this long."""
    return Transferred(None, None, 1, time_spent_ms, None, None, None)


@pytest.mark.parametrize(
    ("times", "expected", "jumps"),
    [
        ([5 * MS, 7 * MS], [5 * MS, 7 * MS], 0),
        ([None, 5 * MS], [99, 5 * MS], 0),
        ([5 * MS, None, 6 * MS], [5 * MS, 5 * MS, 6 * MS], 0),
        ([5 * MS, 4 * MS, 6 * MS], [5 * MS, 5 * MS, 6 * MS], 0),
        ([5 * MS, 3 * MS, 6 * MS], [5 * MS, 5 * MS, 6 * MS], 1),
    ],
    ids=["in order", "no time yet", "no time", "threads overtake each other", "the clock was set back"],
)
def test_a_probes_clock_never_goes_back(times: list[int | None], expected: list[int], jumps: int) -> None:
    """A line without time happened with the one before it; one that is much older is counted."""
    clock = StreamClock(ClockKind.PROBE)
    assert expected == [placed_ns for ns in times for _, placed_ns, _ in clock.place(at(ns), b"", 99)]
    assert jumps == clock.jumps_back
    assert [] == clock.close()


def test_an_arrival_is_when_a_line_came() -> None:
    """Whatever the line says."""
    clock = StreamClock(ClockKind.ARRIVAL)
    assert [(at(1), 99, b"line")] == clock.place(at(1), b"line", 99)
    assert [(at(None), 99, b"line")] == clock.place(at(None), b"line", 98)


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
def test_only_time_spent_moves_a_reconstructed_clock(events: list[Event], expected_ms: list[int]) -> None:
    """The slices of a window are placed evenly inside it, once it is over."""
    clock = ReconstructedClock(7)
    placed = [timed for event in events for timed in clock.place(event, b"", 99)] + clock.close()
    assert events == [event for event, _, _ in placed]
    assert [7 + ms * MS for ms in expected_ms] == [at_ns for _, at_ns, _ in placed]


def test_a_reconstructed_clock_does_not_wait_for_ever() -> None:
    """Where no window ever ends, events are given out all the same, and memory is bounded."""
    clock = ReconstructedClock(0)
    assert 10_001 == sum(len(clock.place(OTHER, b"", 0)) for _ in range(10_001))
    assert [] == clock.close()
