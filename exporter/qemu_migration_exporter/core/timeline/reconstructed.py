"""The clock of a recording without times, rebuilt from the length of the bandwidth windows.

    iterate  iterate  iterate  migrate_transferred time_spent=100     the three slices are placed 0, 33 and 66 ms into
    |--------|--------|--------|                                      the window, and its end 100 ms after its begin

Only `time_spent` of migrate_transferred moves this clock, so events wait for the end of their window.
"""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.events import SignalEvent, Transferred
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
        self._slice_ends: list[int] = []  # number of lines held up to and including each slice

    def place(self, lines: Lines, arrival_ns: int) -> PlacedLines:  # noqa: ARG002 - the protocol's signature
        """Add lines; return those of a window that is over."""
        iterate = Signal.ITERATE  # a member is slow to look up in its class, and this is compared for every line
        placed, start, held = none(), 0, len(self._held.events)
        for end, event in enumerate(lines.events, start=1):
            window_ns = None
            if type(event) is SignalEvent:
                if event.mark is iterate:
                    self._slice_ends.append(held + end - start)
            elif type(event) is Transferred and event.time_spent_ms is not None:
                window_ns = event.time_spent_ms * _NS_PER_MS
            if window_ns is not None or held + end - start > _MAX_HELD_EVENTS:
                self._hold(lines, start, end)
                start, held = end, 0
                placed.extend(self._release(window_ns or 0))
        self._hold(lines, start, len(lines.events))
        return placed

    def tick(self, now_ns: int) -> PlacedLines:  # noqa: ARG002 - the protocol's signature
        """Return no lines: only lines advance this clock."""
        return none()

    def settle(self, now_ns: int) -> None:
        """Do nothing: this clock cannot be set."""

    def close(self) -> PlacedLines:
        """Return the lines whose window has no end."""
        return self._release(0)

    def _hold(self, lines: Lines, start: int, end: int) -> None:
        """Hold lines back until the end of their window."""
        held = self._held
        held.events.extend(lines.events[start:end])
        held.texts.extend(lines.texts[start:end])
        held.processes.extend(lines.processes[start:end])

    def _release(self, window_ns: int) -> PlacedLines:
        released, self._held = self._held, none()
        ends, self._slice_ends = self._slice_ends, []
        times, at_ns, number = released.times, self._now_ns, len(released.events)
        for passed, end in enumerate(ends, start=1):
            times += [at_ns] * (end - len(times))
            at_ns = self._now_ns + window_ns * passed // len(ends)
        times += [at_ns] * (number - len(times))
        self._now_ns += window_ns
        if window_ns:
            times[-1] = self._now_ns
        return released

    def state(self) -> ClockState:
        """Return the clock's data."""
        held = zip(self._held.texts, self._held.processes, strict=True)
        return ClockState(now_ns=self._now_ns, held=[HeldLine(text, process) for text, process in held])

    def restore(self, state: ClockState, held: Lines) -> None:
        """Continue from kept data."""
        self._now_ns = state.now_ns
        self.place(held, 0)
