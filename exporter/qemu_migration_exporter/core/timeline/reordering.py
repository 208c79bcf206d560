"""The clock of lines that several CPUs write, each in its own buffer.

The buffers are emptied in turns, so a line may follow a later one. Lines are held in the order of their times for half
a second of stream time. Lines that come in order, as those of one CPU do, are added and released together. A monotonic
clock is mapped to wall time once, by the probe's anchor line.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from qemu_migration_exporter.core.events import Anchored, Event
from qemu_migration_exporter.core.lines import Lines, PlacedLines
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.timeline.clock import ClockState, HeldLine, none
from qemu_migration_exporter.core.timeline.stream import StreamClock

#: bpftrace empties its buffers every 100 ms, SystemTap every 200 ms. A line older than this is late.
_REORDERING_NS: Final = 500_000_000

#: Lines that are added together if they come in order; late lines come a few in hundreds.
_TOGETHER: Final = 32

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
        self._held = none()
        self._newest_ns = 0
        self._order = StreamClock(ClockKind.PROBE)

    @property
    def jumps_back(self) -> int:
        """Number of lines that came too late to be put in order."""
        return self._order.jumps_back

    def place(self, lines: Lines, arrival_ns: int) -> PlacedLines:
        """Add lines; return the lines whose place in the order is certain now, for chunks of any size."""
        placed = none()
        for start in range(0, len(lines.times), _TOGETHER):
            end = start + _TOGETHER
            times = self._in_order(lines.events[start:end], lines.times[start:end])
            if times is not None:
                held = PlacedLines(lines.events[start:end], lines.texts[start:end], lines.processes[start:end], times)
                self._held.extend(held)
                self._newest_ns = times[-1]
                continue
            for at, event in enumerate(lines.events[start:end], start):
                if type(event) is Anchored:
                    placed.extend(self._release(len(self._held.times)))  # another run, possibly after a reboot
                    self._offset_ns = event.wall_ns - event.at_ns if self._monotonic else 0
                    self._newest_ns = event.wall_ns
                else:
                    self._add(lines, at, arrival_ns, placed)
        placed.extend(self._release(self._certain()))
        return placed

    def _in_order(self, events: list[Event], raw_times: list[int | None]) -> list[int] | None:
        """Return the times of lines that follow all others in order; None if a line is late or is no event."""
        offset_ns = self._offset_ns
        if offset_ns is None or Anchored in map(type, events):
            return None
        times = [at_ns + offset_ns for at_ns in raw_times if at_ns is not None]
        follow = len(times) == len(raw_times) and times[0] >= self._newest_ns and times == sorted(times)
        return times if follow else None

    def _add(self, lines: Lines, at: int, arrival_ns: int, placed: PlacedLines) -> None:
        """Insert one line by its time; equal times keep the order of arrival."""
        at_ns = lines.times[at]
        if at_ns is None:
            at_ns = self._newest_ns
        else:
            if self._offset_ns is None:
                self._offset_ns = arrival_ns - at_ns
            at_ns += self._offset_ns
        held = self._held
        if at_ns < self._newest_ns:
            placed.extend(self._release(self._certain()))  # what was certain before a late line comes before it
        place = bisect_right(held.times, at_ns)
        held.events.insert(place, lines.events[at])
        held.texts.insert(place, lines.texts[at])
        held.processes.insert(place, lines.processes[at])
        held.times.insert(place, at_ns)
        self._newest_ns = max(self._newest_ns, at_ns)

    def tick(self, now_ns: int) -> PlacedLines:
        """Return the lines whose place in the order is certain now."""
        return self._release(bisect_right(self._held.times, now_ns - _REORDERING_NS))

    def settle(self, now_ns: int) -> None:
        """Accept the next line's time as it is, unless lines are held back."""
        if not self._held.times:
            self._order.settle(now_ns)
            self._newest_ns = min(self._newest_ns, now_ns)

    def close(self) -> PlacedLines:
        """Return the lines still held back."""
        return self._release(len(self._held.times))

    def _certain(self) -> int:
        """Return the number of held lines whose place in the order is certain."""
        times = self._held.times
        return max(bisect_right(times, self._newest_ns - _REORDERING_NS), len(times) - _MAX_HELD_EVENTS)

    def _release(self, number: int) -> PlacedLines:
        """Return the first held lines."""
        if not number:
            return none()
        released = self._held.between(0, number)
        for column in self._held:
            del column[:number]
        return released._replace(times=self._order.advance_all(released.times))

    def state(self) -> ClockState:
        """Return the clock's data."""
        state = self._order.state()
        state.offset_ns, state.newest_ns = self._offset_ns, self._newest_ns
        held = zip(self._held.texts, self._held.processes, self._held.times, strict=True)
        state.held = [HeldLine(text, process, at_ns) for text, process, at_ns in held]
        return state

    def restore(self, state: ClockState, held: Lines) -> None:
        """Continue from kept data."""
        self._order.restore(state)
        self._offset_ns, self._newest_ns = state.offset_ns, state.newest_ns
        times = [kept.at_ns or 0 for kept in state.held]  # in order, as they were held
        self._held = PlacedLines(held.events, held.texts, held.processes, times)
