"""The clock of a recording without times, rebuilt from the length of the bandwidth windows.

    iterate  iterate  iterate  migrate_transferred time_spent=100     the three slices are placed 0, 33 and 66 ms into
    |--------|--------|--------|                                      the window, and its end 100 ms after its begin

Only `time_spent` of migrate_transferred moves this clock, so events wait for the end of their window.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final

from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.lines import Lines, PlacedLines
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.timeline.clock import ClockState, HeldLine, none

#: Bounds memory: a window has a slice for each 50 to 100 ms, and the marks of a section in each slice.
_MAX_HELD_EVENTS: Final = 10_000

_NS_PER_MS: Final = 1_000_000


class ReconstructedClock:
    """Times of events placed evenly inside their bandwidth window."""

    kind = ClockKind.RECONSTRUCTED
    jumps_back = 0

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._held = none()
        self._slice_ends: list[int] = []  # number of lines of the window up to and including each slice

    def place(self, lines: Lines, arrival_ns: int) -> PlacedLines:  # noqa: ARG002 - the protocol's signature
        """Add lines; return those of a window that is over."""
        held, first, times = self._held, len(self._held.events), list[int]()
        held.events.extend(lines.events)
        held.texts.extend(lines.texts)
        held.processes.extend(lines.processes)
        iterate = Signal.ITERATE  # a member is slow to look up in its class, and this is compared for every line
        for at in self._marks(first):
            event = held.events[at]
            if event[-1] is iterate:
                self._slice_ends.append(at + 1 - len(times))
            if type(event) is Transferred and event.time_spent_ms is not None:
                self._end_window(times, at + 1, event.time_spent_ms * _NS_PER_MS)
            elif at - len(times) >= _MAX_HELD_EVENTS:
                self._end_window(times, at + 1, 0)
        return self._release(times)

    def tick(self, now_ns: int) -> PlacedLines:  # noqa: ARG002 - the protocol's signature
        """Return no lines: only lines advance this clock."""
        return none()

    def settle(self, now_ns: int) -> None:
        """Do nothing: this clock cannot be set."""

    def close(self) -> PlacedLines:
        """Return the lines whose window has no end."""
        times = list[int]()
        self._end_window(times, len(self._held.events), 0)
        return self._release(times)

    def _marks(self, first: int) -> Iterable[int]:
        """Return the places of slices and windows; of all events if too many are held."""
        events, iterate = self._held.events, Signal.ITERATE
        if len(events) > _MAX_HELD_EVENTS:
            return range(first, len(events))
        new = enumerate(islice(events, first, None), first)
        return [at for at, event in new if event[-1] is iterate or type(event) is Transferred]

    def _end_window(self, times: list[int], end: int, window_ns: int) -> None:
        """Add the times of the events up to `end`, which are those of a window."""
        ends, self._slice_ends = self._slice_ends, []
        begin, at_ns = len(times), self._now_ns
        for passed, slice_end in enumerate(ends, start=1):
            times += [at_ns] * (begin + slice_end - len(times))
            at_ns = self._now_ns + window_ns * passed // len(ends)
        times += [at_ns] * (end - len(times))
        self._now_ns += window_ns
        if window_ns:
            times[-1] = self._now_ns

    def _release(self, times: list[int]) -> PlacedLines:
        """Return the first held events, which have these times."""
        released, number = self._held.between(0, len(times)), len(times)
        for column in self._held:
            del column[:number]
        return released._replace(times=times)

    def state(self) -> ClockState:
        """Return the clock's data."""
        held = zip(self._held.texts, self._held.processes, strict=True)
        lines = [HeldLine(text, process) for text, process in held]
        return ClockState(now_ns=self._now_ns, held=lines, kind=self.kind)

    def restore(self, state: ClockState, held: Lines) -> None:
        """Continue from kept data."""
        self._now_ns = state.now_ns
        self.place(held, 0)
