"""The clock of lines written by one process: the time in each line, or the time of its arrival."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.events import Line
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.timeline.clock import ClockState

#: A thread of QEMU reads the time before it takes the lock that orders the lines. Lines out of order by less are usual.
_THREAD_JITTER_NS: Final = 1_000_000

#: No line is late by more than this: the host's clock was set back.
_SET_BACK_NS: Final = 5_000_000_000


class StreamClock:
    """Times as the lines carry them, or as they arrive.

    After the host's clock was set back, time continues from its last value, and the distances between lines are kept.
    """

    def __init__(self, kind: ClockKind) -> None:
        self.kind = kind
        self.jumps_back = 0
        self._last_ns: int | None = None
        self._set_back_ns = 0

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Return all lines at once; an event without a time gets the time of the event before."""
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
        """Advance to `at_ns` and return it; for a time in the past, count it and return the last time."""
        last_ns = self._last_ns
        if last_ns is not None and at_ns <= last_ns:
            return self._continue(at_ns, last_ns)
        self._set_back_ns = 0
        self._last_ns = at_ns
        return at_ns

    def _continue(self, at_ns: int, last_ns: int) -> int:
        """Return the time of a line that is not newer than the line before it."""
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
        """Return no lines: none are held back."""
        return []

    def settle(self, now_ns: int) -> None:
        """Accept the next line's time as it is, if `now_ns` shows that the host's clock was set back."""
        if self._set_back_ns or (self._last_ns is not None and self._last_ns - now_ns > _SET_BACK_NS):
            self._set_back_ns = 0
            self._last_ns = None

    def close(self) -> list[tuple[Line, int]]:
        """Return no lines: none are held back."""
        return []

    def state(self) -> ClockState:
        """Return the clock's data."""
        return ClockState(last_ns=self._last_ns, set_back_ns=self._set_back_ns, jumps_back=self.jumps_back)

    def restore(self, state: ClockState, held: Sequence[Line] = ()) -> None:  # noqa: ARG002 - the protocol's signature
        """Continue from kept data."""
        self._last_ns, self._set_back_ns, self.jumps_back = state.last_ns, state.set_back_ns, state.jumps_back
