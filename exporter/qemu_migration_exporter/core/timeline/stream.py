"""The clock of lines written by one process: the time in each line, or the time of its arrival."""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.lines import Lines, PlacedLines
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.timeline.clock import ClockState, none

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

    def place(self, lines: Lines, arrival_ns: int) -> PlacedLines:
        """Return all lines at once; an event without a time gets the time of the event before."""
        if self.kind is ClockKind.ARRIVAL:
            times = self.advance_all([arrival_ns] * len(lines.times))
        else:
            raw = lines.times
            if None in raw:
                times = [self._advance_if_timed(at_ns, arrival_ns) for at_ns in raw]
            else:
                times = self.advance_all(raw)  # type: ignore[arg-type]  # no None
        return PlacedLines(lines.events, lines.texts, lines.processes, times)

    def advance_all(self, times: list[int]) -> list[int]:
        """Advance to each of these times; times in order are returned as they are."""
        if times and (self._last_ns is None or times[0] > self._last_ns) and times == sorted(times):
            self._set_back_ns, self._last_ns = 0, times[-1]
            return times
        return [self.advance(at_ns) for at_ns in times]

    def _advance_if_timed(self, at_ns: int | None, arrival_ns: int) -> int:
        if at_ns is None:
            at_ns = arrival_ns if self._last_ns is None else self._last_ns
        return self.advance(at_ns)

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

    def tick(self, now_ns: int) -> PlacedLines:  # noqa: ARG002 - the protocol's signature
        """Return no lines: none are held back."""
        return none()

    def settle(self, now_ns: int) -> None:
        """Accept the next line's time as it is, if `now_ns` shows that the host's clock was set back."""
        if self._set_back_ns or (self._last_ns is not None and self._last_ns - now_ns > _SET_BACK_NS):
            self._last_ns = None  # the next line ends the set-back too

    def close(self) -> PlacedLines:
        """Return no lines: none are held back."""
        return none()

    def state(self) -> ClockState:
        """Return the clock's data."""
        return ClockState(
            last_ns=self._last_ns, set_back_ns=self._set_back_ns, jumps_back=self.jumps_back, kind=self.kind
        )

    def restore(self, state: ClockState, held: Lines | None = None) -> None:  # noqa: ARG002 - the protocol's signature
        """Continue from kept data."""
        self._last_ns, self._set_back_ns, self.jumps_back = state.last_ns, state.set_back_ns, state.jumps_back
