"""When an event happened, on the stream's own clock, in nanoseconds since the Unix epoch.

No clock of this machine is read here: arrival times and the start of a recording are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple, Protocol

from exporter.core.events import Anchored, Event, Mark, Marked, Transferred
from exporter.core.model import ClockKind

#: Threads take the time of a line before the lock that orders the lines; more than this is another matter.
_THREAD_JITTER_NS: Final = 1_000_000

#: Per-CPU buffers are emptied in turns: bpftrace every 100 ms, SystemTap every 200 ms. What is older than this is late.
_REORDERING_NS: Final = 500_000_000

#: A bandwidth window has a slice each 50 to 100 ms and a section's marks in each: a window is never this long, and no
#: probe makes more in half a second unless something is wrong.
_MAX_HELD_EVENTS: Final = 10_000

_NS_PER_MS: Final = 1_000_000

#: Enumerations' members are slow to look up in their class, and this is asked of every line.
_ITERATE: Final = Mark.ITERATE

_NOTHING: Final = ()


class Line(NamedTuple):
    """An event, the raw line that said it, and the process that spoke, where the format tells."""

    event: Event
    raw: bytes
    process: int | None = None


class Clock(Protocol):
    """Says when the events of one stream happened. Times never go back."""

    kind: ClockKind

    @property
    def jumps_back(self) -> int:
        """Lines that were older than one before them."""
        ...

    def place(self, line: Line, arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Take a line that came at `arrival_ns`; return the lines whose time is certain now, in order."""
        ...

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:
        """Return what need not wait any longer, now that it is so late."""
        ...

    def close(self) -> list[tuple[Line, int]]:
        """Return what is still held back."""
        ...


class StreamClock:
    """The times that lines carry, or that of their arrival."""

    def __init__(self, kind: ClockKind) -> None:
        self.kind = kind
        self.jumps_back = 0
        self._last_ns: int | None = None

    def place(self, line: Line, arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Give the line at once; an event without a time happened with the one before it."""
        event_ns = line.event.at_ns
        if self.kind is ClockKind.ARRIVAL or (event_ns is None and self._last_ns is None):
            at_ns = arrival_ns
        else:
            at_ns = event_ns if event_ns is not None else self._last_ns or 0
        return [(line, self.advance(at_ns))]

    def advance(self, at_ns: int) -> int:
        """Move to `at_ns`, or stay where that is in the past, and count it; return the time it is."""
        last_ns = self._last_ns
        if last_ns is not None and at_ns < last_ns:
            if last_ns - at_ns > _THREAD_JITTER_NS:
                self.jumps_back += 1
            return last_ns
        self._last_ns = at_ns
        return at_ns

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Hold nothing back."""
        return []

    def close(self) -> list[tuple[Line, int]]:
        """Hold nothing back."""
        return []


class OrderingClock:
    """The times of lines that several CPUs wrote, put in order; a monotonic clock is mapped to the wall's once.

    Args:
        monotonic: Whether the times count from the machine's start; they are mapped by the anchor that the probe
            prints, and without one by when the first line came.
    """

    kind = ClockKind.PROBE

    def __init__(self, *, monotonic: bool) -> None:
        self._monotonic = monotonic
        self._offset_ns: int | None = None if monotonic else 0
        self._held: list[tuple[int, int, Line]] = []
        self._number = 0
        self._newest_ns = 0
        self._order = StreamClock(ClockKind.PROBE)

    @property
    def jumps_back(self) -> int:
        """Lines that came too late to be put in order."""
        return self._order.jumps_back

    def place(self, line: Line, arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Take the line, and give those that none can come before any more."""
        if isinstance(line.event, Anchored):
            released = self._release(0)  # another run of the probe: its clock may have begun anew
            self._offset_ns = line.event.wall_ns - line.event.at_ns if self._monotonic else 0
            self._newest_ns = line.event.wall_ns
            return released
        at_ns = line.event.at_ns
        if at_ns is None:
            at_ns = self._newest_ns
        elif self._offset_ns is None:
            self._offset_ns = arrival_ns - at_ns
        at_ns += (self._offset_ns or 0) if line.event.at_ns is not None else 0
        self._newest_ns = max(self._newest_ns, at_ns)
        self._number += 1
        heappush(self._held, (at_ns, self._number, line))
        return self._release(_MAX_HELD_EVENTS, until_ns=self._newest_ns - _REORDERING_NS)

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:
        """Give what no line can come before any more."""
        return self._release(_MAX_HELD_EVENTS, until_ns=now_ns - _REORDERING_NS)

    def close(self) -> list[tuple[Line, int]]:
        """Give what is left."""
        return self._release(0)

    def _release(self, keep: int, until_ns: int = 0) -> list[tuple[Line, int]]:
        released = []
        while self._held and (len(self._held) > keep or self._held[0][0] <= until_ns):
            at_ns, _, line = heappop(self._held)
            released.append((line, self._order.advance(at_ns)))
        return released


class ReconstructedClock:
    """The clock of a recording without times: only `time_spent` of migrate_transferred moves it.

    The slices of a window are placed evenly inside it, so events wait for the end of their window.
    """

    kind = ClockKind.RECONSTRUCTED
    jumps_back = 0

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._held: list[Line] = []
        self._slice_ends: list[int] = []  # how many lines are held up to each slice, it included

    def place(self, line: Line, arrival_ns: int) -> Sequence[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Take the line, and give those of a window once it is over."""
        held = self._held
        held.append(line)
        event = line[0]
        if type(event) is Marked:
            if event.mark is _ITERATE:
                self._slice_ends.append(len(held))
        elif isinstance(event, Transferred) and event.time_spent_ms is not None:
            return self._release(event.time_spent_ms * _NS_PER_MS)
        return self._release(0) if len(held) > _MAX_HELD_EVENTS else _NOTHING

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Wait for the window's end: time passes here only when a line says so."""
        return []

    def close(self) -> list[tuple[Line, int]]:
        """Give what no window will end any more."""
        return self._release(0)

    def _release(self, window_ns: int) -> list[tuple[Line, int]]:
        held, self._held = self._held, []
        ends, self._slice_ends = self._slice_ends, []
        released: list[tuple[Line, int]] = []
        at_ns = self._now_ns
        for passed, end in enumerate(ends, start=1):
            released += [(line, at_ns) for line in held[len(released) : end]]
            at_ns = self._now_ns + window_ns * passed // len(ends)
        released += [(line, at_ns) for line in held[len(released) :]]
        self._now_ns += window_ns
        if window_ns:
            released[-1] = (held[-1], self._now_ns)
        return released
