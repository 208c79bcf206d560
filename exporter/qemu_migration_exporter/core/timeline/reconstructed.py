"""The clock of a recording without times, rebuilt from the length of the bandwidth windows.

    iterate  iterate  iterate  migrate_transferred time_spent=100     the three slices are placed 0, 33 and 66 ms into
    |--------|--------|--------|                                      the window, and its end 100 ms after its begin

Only `time_spent` of migrate_transferred moves this clock, so events wait for the end of their window.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Final

from qemu_migration_exporter.core.events import Line, Signal, SignalEvent, Transferred
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.timeline.clock import ClockState, HeldLine

#: Bounds memory: a window has a slice for each 50 to 100 ms, and the marks of a section in each slice.
_MAX_HELD_EVENTS: Final = 10_000

_NS_PER_MS: Final = 1_000_000


class ReconstructedClock:
    """Times of events placed evenly inside their bandwidth window."""

    kind = ClockKind.RECONSTRUCTED
    jumps_back = 0

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._held: list[Line] = []
        self._slice_ends: list[int] = []  # number of lines held up to and including each slice

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Add lines; return those of a window that is over."""
        iterate = Signal.ITERATE  # a member is slow to look up in its class, and this is compared for every line
        placed: list[tuple[Line, int]] = []
        for line in lines:
            self._held.append(line)
            event = line[0]
            if type(event) is SignalEvent:
                if event.mark is iterate:
                    self._slice_ends.append(len(self._held))
            elif type(event) is Transferred and event.time_spent_ms is not None:
                placed += self._release(event.time_spent_ms * _NS_PER_MS)
            if len(self._held) > _MAX_HELD_EVENTS:
                placed += self._release(0)
        return placed

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:  # noqa: ARG002 - the protocol's signature
        """Return no lines: only lines advance this clock."""
        return []

    def settle(self, now_ns: int) -> None:
        """Do nothing: this clock cannot be set."""

    def close(self) -> list[tuple[Line, int]]:
        """Return the lines whose window has no end."""
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

    def state(self) -> ClockState:
        """Return the clock's data."""
        return ClockState(now_ns=self._now_ns, held=[HeldLine(text, process) for _, text, process in self._held])

    def restore(self, state: ClockState, held: Sequence[Line]) -> None:
        """Continue from kept data."""
        self._now_ns = state.now_ns
        self.place(held, 0)
