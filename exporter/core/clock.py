"""When an event happened, on the stream's own clock, in nanoseconds since the Unix epoch.

No clock of this machine is read here: arrival times and the start of a recording are given.
"""

from __future__ import annotations

from typing import Final

from exporter.core.events import Event, Mark, Marked, Transferred
from exporter.core.model import ClockKind

#: Threads take the time of a line before the lock that orders the lines; more than this is another matter.
_THREAD_JITTER_NS: Final = 1_000_000

#: A bandwidth window has a slice each 50 to 100 ms and a section's marks in each: a window is never this long.
_MAX_HELD_EVENTS: Final = 10_000

_NS_PER_MS: Final = 1_000_000

Timed = tuple[Event, int, bytes]


class StreamClock:
    """The times of lines that carry one, or that of their arrival. Never goes back."""

    def __init__(self, kind: ClockKind) -> None:
        self.kind = kind
        self.jumps_back = 0
        self._last_ns: int | None = None

    def place(self, event: Event, line: bytes, arrival_ns: int) -> list[Timed]:
        """Say when the event happened; an event without a time happened with the one before it."""
        if self.kind is ClockKind.ARRIVAL or (event.at_ns is None and self._last_ns is None):
            at_ns = arrival_ns
        else:
            at_ns = event.at_ns if event.at_ns is not None else self._last_ns or 0
        last_ns = self._last_ns
        if last_ns is not None and at_ns < last_ns:
            if last_ns - at_ns > _THREAD_JITTER_NS:
                self.jumps_back += 1
            at_ns = last_ns
        self._last_ns = at_ns
        return [(event, at_ns, line)]

    def close(self) -> list[Timed]:
        """Nothing is held back."""
        return []


class ReconstructedClock:
    """The clock of a recording without times: only `time_spent` of migrate_transferred moves it.

    The slices of a window are placed evenly inside it, so events wait for the end of their window.
    """

    kind = ClockKind.RECONSTRUCTED
    jumps_back = 0

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._held: list[tuple[Event, bytes]] = []

    def place(self, event: Event, line: bytes, arrival_ns: int) -> list[Timed]:  # noqa: ARG002 - one signature
        """Say when the events of a window happened, once it is over."""
        self._held.append((event, line))
        if isinstance(event, Transferred) and event.time_spent_ms is not None:
            return self._release(event.time_spent_ms * _NS_PER_MS)
        return self._release(0) if len(self._held) > _MAX_HELD_EVENTS else []

    def close(self) -> list[Timed]:
        """Give out what no window will end any more."""
        return self._release(0)

    def _release(self, window_ns: int) -> list[Timed]:
        held, self._held = self._held, []
        slices = sum(1 for event, _ in held if _is_slice(event))
        if slices == 0 and window_ns:
            slices = 1
        placed: list[Timed] = []
        passed = 0
        at_ns = self._now_ns
        for event, line in held:
            placed.append((event, at_ns, line))
            if _is_slice(event):
                passed += 1
                at_ns = self._now_ns + window_ns * passed // slices
        self._now_ns += window_ns
        if window_ns and placed:
            event, _, line = placed[-1]
            placed[-1] = (event, self._now_ns, line)
        return placed


def _is_slice(event: Event) -> bool:
    return isinstance(event, Marked) and event.mark is Mark.ITERATE
