"""When an event happened, on the stream's own clock, in nanoseconds since the Unix epoch.

No clock of this machine is read here: arrival times and the start of a recording are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import Final, Protocol

from qemu_migration_exporter.core.events import Anchored, Line, Signal, SignalEvent, Transferred
from qemu_migration_exporter.core.model import ClockKind

#: Threads take the time of a line before the lock that orders the lines; more than this is another matter.
_THREAD_JITTER_NS: Final = 1_000_000

#: Per-CPU buffers are emptied in turns: bpftrace every 100 ms, SystemTap every 200 ms. What is older than this is late.
_REORDERING_NS: Final = 500_000_000

#: A bandwidth window has a slice each 50 to 100 ms and a section's marks in each: a window is never this long, and no
#: probe makes more in half a second unless something is wrong.
_MAX_HELD_EVENTS: Final = 10_000

#: Further back than any line that is late: somebody has set the clock.
_SET_BACK_NS: Final = 5_000_000_000

_NS_PER_MS: Final = 1_000_000

#: Enumerations' members are slow to look up in their class, and this is asked of every line.
_ITERATE: Final = Signal.ITERATE


class Clock(Protocol):
    """Says when the events of one stream happened. Times never go back."""

    kind: ClockKind

    @property
    def jumps_back(self) -> int:
        """Lines that were older than one before them."""
        ...

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Take lines that came at `arrival_ns`; return the lines whose time is certain now, in order."""
        ...

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:
        """Return what need not wait any longer, now that it is so late."""
        ...

    def settle(self, now_ns: int) -> None:
        """Take the next line's time as it is: no migration is open, so a clock that was set back harms nobody."""
        ...

    def close(self) -> list[tuple[Line, int]]:
        """Return what is still held back."""
        ...


class StreamClock:
    """The times that lines carry, or that of their arrival.

    When somebody sets the clock back, time goes on from where it was, and lines stay as far apart as they are.
    """

    def __init__(self, kind: ClockKind) -> None:
        self.kind = kind
        self.jumps_back = 0
        self._last_ns: int | None = None
        self._set_back_ns = 0

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Give the lines at once; an event without a time happened with the one before it."""
        if self.kind is ClockKind.ARRIVAL:
            return [(line, self.advance(arrival_ns)) for line in lines]
        placed = []
        for line in lines:
            event_ns = line[0].at_ns
            if event_ns is None:
                event_ns = arrival_ns if self._last_ns is None else self._last_ns
            placed.append((line, self.advance(event_ns)))
        return placed

    def advance(self, at_ns: int) -> int:
        """Move to `at_ns`, or stay where that is in the past, and count it; return the time it is."""
        last_ns = self._last_ns
        if last_ns is not None and at_ns <= last_ns:
            return self._go_on(at_ns, last_ns)
        self._set_back_ns = 0
        self._last_ns = at_ns
        return at_ns

    def _go_on(self, at_ns: int, last_ns: int) -> int:
        """Find the time of a line that is not newer than the one before."""
        if last_ns == at_ns:
            return last_ns
        if last_ns - at_ns <= _SET_BACK_NS:
            self._set_back_ns = 0
            self.jumps_back += last_ns - at_ns > _THREAD_JITTER_NS
            return last_ns
        at_ns += self._set_back_ns
        if last_ns - at_ns > _SET_BACK_NS:
            self._set_back_ns += last_ns - at_ns
        self.jumps_back += last_ns - at_ns > _THREAD_JITTER_NS
        self._last_ns = max(at_ns, last_ns)
        return self._last_ns

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Hold nothing back."""
        return []

    def settle(self, now_ns: int) -> None:
        """Take the next line's time as it is, if the clock was set back, as far as can be seen from `now_ns`."""
        if self._set_back_ns or (self._last_ns is not None and self._last_ns - now_ns > _SET_BACK_NS):
            self._set_back_ns = 0
            self._last_ns = None

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

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Take the lines, and give those that none can come before any more, however many came at once."""
        placed: list[tuple[Line, int]] = []
        for line in lines:
            event = line[0]
            if type(event) is Anchored:
                placed += self._release(0)  # another run of the probe: its clock may have begun anew
                self._offset_ns = event.wall_ns - event.at_ns if self._monotonic else 0
                self._newest_ns = event.wall_ns
                continue
            at_ns = event.at_ns
            if at_ns is None:
                at_ns = self._newest_ns
            else:
                if self._offset_ns is None:
                    self._offset_ns = arrival_ns - at_ns
                at_ns += self._offset_ns
            self._newest_ns = max(self._newest_ns, at_ns)
            self._number += 1
            heappush(self._held, (at_ns, self._number, line))
            placed += self._release(_MAX_HELD_EVENTS, until_ns=self._newest_ns - _REORDERING_NS)
        return placed

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:
        """Give what no line can come before any more."""
        return self._release(_MAX_HELD_EVENTS, until_ns=now_ns - _REORDERING_NS)

    def settle(self, now_ns: int) -> None:
        """Take the next line's time as it is, unless some are held that it may have to be put among."""
        if not self._held:
            self._order.settle(now_ns)
            self._newest_ns = min(self._newest_ns, now_ns)

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

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Take the lines, and give those of a window once it is over."""
        placed: list[tuple[Line, int]] = []
        for line in lines:
            self._held.append(line)
            event = line[0]
            if type(event) is SignalEvent:
                if event.mark is _ITERATE:
                    self._slice_ends.append(len(self._held))
            elif type(event) is Transferred and event.time_spent_ms is not None:
                placed += self._release(event.time_spent_ms * _NS_PER_MS)
            if len(self._held) > _MAX_HELD_EVENTS:
                placed += self._release(0)
        return placed

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Wait for the window's end: time passes here only when a line says so."""
        return []

    def settle(self, now_ns: int) -> None:
        """Go on: nobody can set this clock."""

    def close(self) -> list[tuple[Line, int]]:
        """Give what no window will end any more."""
        return self._release(0)

    def _release(self, window_ns: int) -> list[tuple[Line, int]]:
        held, self._held = self._held, []
        ends, self._slice_ends = self._slice_ends, []
        released: list[tuple[Line, int]] = []
        at_ns = self._now_ns
        for passed, end in enumerate(ends, start=1):
            released += zip(held[len(released) : end], repeat(at_ns), strict=False)
            at_ns = self._now_ns + window_ns * passed // len(ends)
        released += zip(held[len(released) :], repeat(at_ns), strict=False)
        self._now_ns += window_ns
        if window_ns:
            released[-1] = (held[-1], self._now_ns)
        return released
