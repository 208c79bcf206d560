"""The QEMU processes of one stream, each with its tracker.

A log belongs to one virtual machine, and its lines carry no process ids. A probe of a host prints the lines of all
processes, each with its id, and anybody may invent ids: the number of processes is limited, and idle processes are
forgotten first. Silent processes are checked at intervals of the stream's own time, so that the changes do not depend
on the size of the chunks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.core.changes import Change, Surprised
from qemu_migration_exporter.core.events import GuestDescribed, LinesLost
from qemu_migration_exporter.core.lines import PlacedLines
from qemu_migration_exporter.core.model import Migration, SurpriseKind
from qemu_migration_exporter.core.tracking.snapshot import ProcessState, TrackerState
from qemu_migration_exporter.core.tracking.tracker import Tracker, lost

#: Returns the name and uuid of the virtual machine that a process runs; a field that is not known is None.
ProcessResolver = Callable[[int], tuple[str | None, str | None]]

#: Makes the tracker of a virtual machine with this name and uuid, from its kept state if there is one.
MakeTracker = Callable[[str, str | None, TrackerState | None], Tracker]

Releases = tuple[tuple[int, int], tuple[int, int]]

#: More than the number of QEMU processes on any host; idle processes are forgotten first.
MAX_PROCESSES: Final = 1_024

#: Interval, in the stream's own time, between checks of silent processes; an ended migration stays open 10 times that.
_TICK_NS: Final = 100_000_000

#: Processes checked per line: 63 lines that advance the time check a thousand processes.
_TICKED_A_LINE: Final = 16


@dataclass(slots=True)
class ProcessBudget:
    """Number of further processes that several streams may follow; a stream's own virtual machine does not count."""

    left: int


class Processes:
    """The trackers of a stream, by process; the process of a log without ids is None.

    Attributes:
        described: Name and uuid from the log's header, kept until its tracker is made.
    """

    def __init__(
        self, vm: str, make_tracker: MakeTracker, name_process: ProcessResolver | None, room: ProcessBudget
    ) -> None:
        self.described: list[GuestDescribed] = []
        self._vm = vm
        self._make_tracker = make_tracker
        self._name_process = name_process
        self._room = room
        self._trackers: dict[int | None, Tracker] = {}
        self._ticked_ns = 0
        self._crowded_ns = -1
        self._overdue = 0

    def __len__(self) -> int:
        """Count the processes followed, idle ones included; the process of a QEMU log does not count."""
        return len(self._trackers) - (None in self._trackers)

    @property
    def are_idle(self) -> bool:
        """True if no migration is open."""
        return all(tracker.is_idle for tracker in self._trackers.values())

    @property
    def open(self) -> dict[int, int]:
        """Processes with an open migration, each with its start."""
        opened = {process: tracker.open_since_ns for process, tracker in self._trackers.items()}
        return {process: ns for process, ns in opened.items() if process is not None and ns is not None}

    def running(self) -> list[Migration]:
        """Return the summaries of the open migrations so far."""
        return [migration for tracker in self._trackers.values() if (migration := tracker.running()) is not None]

    def apply(self, lines: PlacedLines, now_ns: int | None, releases: Releases) -> list[Change]:
        """Apply the lines of a log."""
        tracker = self._trackers.get(None) or self._tracker(None)
        assert tracker is not None  # noqa: S101 - the machine that a log is of is always followed
        tracker.releases = releases
        return tracker.apply(lines, now_ns)

    def apply_each(self, lines: PlacedLines, now_ns: int | None, releases: Releases) -> list[Change]:
        """Apply lines that carry process ids, in runs of one process up to the next tick."""
        changes: list[Change] = []
        start, is_one_run = 0, _is_one_run(lines)
        while start < len(lines.times):
            at_ns, process = lines.times[start], lines.processes[start]
            if at_ns - self._ticked_ns >= _TICK_NS:
                self._overdue += _TICKED_A_LINE
                if self._overdue >= len(self._trackers):
                    changes += self.tick(at_ns)
            event, end = lines.events[start], start + 1
            if type(event) is LinesLost:
                changes += self.lines_lost(event)
                start = end
                continue
            until = bisect_left(lines.times, self._ticked_ns + _TICK_NS, end)
            end = until if is_one_run else _end_of_run(lines, start, until)
            tracker = self._tracker(process)
            if tracker is None:
                changes += [Surprised(SurpriseKind.TOO_MANY_PROCESSES, f"process {process}")] * (end - start)
            else:
                tracker.releases = releases
                changes += tracker.apply(lines.between(start, end), now_ns)
            start = end
        return changes

    def tick(self, now_ns: int) -> list[Change]:
        """End migrations that time alone ends, also of silent processes, independently of how lines were chunked."""
        if now_ns - self._ticked_ns < _TICK_NS:
            return []
        self._ticked_ns, self._overdue = now_ns, 0
        return [change for tracker in self._trackers.values() for change in tracker.tick(now_ns)]

    def settle(self, now_ns: int) -> None:
        """Accept that the host's clock was set back."""
        self._ticked_ns = min(self._ticked_ns, now_ns)

    def lines_lost(self, event: LinesLost) -> list[Change]:
        """Mark the open migrations of all processes as partial: lines are missing."""
        for tracker in self._trackers.values():
            tracker.lines_lost()
        return [lost(event)]

    def end(self, process: int, at_ns: int) -> list[Change]:
        """End the open migration of a process that is gone."""
        tracker = self._trackers.get(process)
        return [] if tracker is None else tracker.replace_qemu(at_ns, f"process {process} is gone")

    def close(self) -> list[Change]:
        """End all open migrations at the end of the stream."""
        return [change for tracker in self._trackers.values() for change in tracker.close()]

    def forget_idle(self) -> None:
        """Drop the trackers of processes without an open migration."""
        self._trackers = {process: each for process, each in self._trackers.items() if not each.is_idle}

    def states(self) -> list[ProcessState]:
        """Return the data of all processes."""
        return [
            ProcessState(process=process, vm=tracker.vm, uuid=tracker.uuid, tracker=tracker.state)
            for process, tracker in self._trackers.items()
        ]

    def restore(self, states: Iterable[ProcessState]) -> list[Change]:
        """Continue from kept data; return which migrations are open."""
        self._trackers = {kept.process: self._make_tracker(kept.vm, kept.uuid, kept.tracker) for kept in states}
        return [change for tracker in self._trackers.values() for change in tracker.resume()]

    def _tracker(self, process: int | None) -> Tracker | None:
        """Return the tracker of a process, None if the budget of processes is spent."""
        tracker = self._trackers.get(process)
        if tracker is None and (process is None or (self._room.left > 0 and self._has_room())):
            self._room.left -= process is not None
            named, uuid = self._name_process(process) if self._name_process and process is not None else (None, None)
            vm = named or (self._vm if process is None else f"{self._vm}/{process}")
            tracker = self._trackers[process] = self._make_tracker(vm, uuid, None)
            described, self.described = self.described if process is None else [], []
            for event in described:
                tracker.describe(event)
        return tracker

    def _has_room(self) -> bool:
        # Idle processes are collected once a tick, so that a stream with a new process in every line stays cheap.
        if len(self._trackers) >= MAX_PROCESSES and self._crowded_ns != self._ticked_ns:
            self._crowded_ns = self._ticked_ns
            self.forget_idle()
        return len(self._trackers) < MAX_PROCESSES


def _is_one_run(lines: PlacedLines) -> bool:
    """Return whether all lines are events of one process."""
    return lines.processes.count(lines.processes[0]) == len(lines.processes) and LinesLost not in map(
        type, lines.events
    )


def _end_of_run(lines: PlacedLines, start: int, until: int) -> int:
    """Return the end of the events of one process from `start`, at most `until`."""
    end, process = start + 1, lines.processes[start]
    while end < until and lines.processes[end] == process and type(lines.events[end]) is not LinesLost:
        end += 1
    return end
