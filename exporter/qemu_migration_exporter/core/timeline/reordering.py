"""The clock of lines that several CPUs write, each in its own buffer.

The buffers are emptied in turns, so a line may follow a later one. Lines wait in a heap for half a second of stream
time, then leave in the order of their times. A monotonic clock is mapped to wall time once, by the probe's anchor line.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

from qemu_migration_exporter.core.events import Anchored, Line
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.timeline.clock import ClockState, HeldLine
from qemu_migration_exporter.core.timeline.stream import StreamClock

#: bpftrace empties its buffers every 100 ms, SystemTap every 200 ms. A line older than this is late.
_REORDERING_NS: Final = 500_000_000

#: Bounds memory: a working probe prints fewer events in half a second.
_MAX_HELD_EVENTS: Final = 10_000


class ReorderingClock:
    """Clock that sorts lines by time.

    Args:
        monotonic: True if the times count from the boot of the host. They are mapped to wall time by the anchor that
            the probe prints, and without an anchor by the arrival of the first line.
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
        """Number of lines that came too late to be put in order."""
        return self._order.jumps_back

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Add lines; return the lines whose place in the order is certain now, for chunks of any size."""
        placed: list[tuple[Line, int]] = []
        for line in lines:
            event = line[0]
            if type(event) is Anchored:
                placed += self._release(0)  # another run of the probe, possibly after a reboot
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
            until_ns = self._newest_ns - _REORDERING_NS
            if self._held[0][0] <= until_ns or len(self._held) > _MAX_HELD_EVENTS:
                placed += self._release(_MAX_HELD_EVENTS, until_ns)
        return placed

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:
        """Return the lines whose place in the order is certain now."""
        return self._release(_MAX_HELD_EVENTS, until_ns=now_ns - _REORDERING_NS)

    def settle(self, now_ns: int) -> None:
        """Accept the next line's time as it is, unless lines are held back."""
        if not self._held:
            self._order.settle(now_ns)
            self._newest_ns = min(self._newest_ns, now_ns)

    def close(self) -> list[tuple[Line, int]]:
        """Return the lines still held back."""
        return self._release(0)

    def _release(self, keep: int, until_ns: int = 0) -> list[tuple[Line, int]]:
        released = []
        while self._held and (len(self._held) > keep or self._held[0][0] <= until_ns):
            at_ns, _, line = heappop(self._held)
            released.append((line, self._order.advance(at_ns)))
        return released

    def state(self) -> ClockState:
        """Return the clock's data."""
        state = self._order.state()
        state.offset_ns, state.newest_ns = self._offset_ns, self._newest_ns
        state.held = [HeldLine(text, process, at_ns) for at_ns, _, (_, text, process) in sorted(self._held)]
        return state

    def restore(self, state: ClockState, held: Sequence[Line]) -> None:
        """Continue from kept data."""
        self._order.restore(state)
        self._offset_ns, self._newest_ns = state.offset_ns, state.newest_ns
        # In order, so already a heap.
        self._held = [
            (kept.at_ns or 0, number, line) for number, (kept, line) in enumerate(zip(state.held, held, strict=True), 1)
        ]
        self._number = len(self._held)
