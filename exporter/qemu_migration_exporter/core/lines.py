"""Lines of a stream with their events, in columns: before and after a clock has placed them in time."""

from __future__ import annotations

from typing import NamedTuple

from qemu_migration_exporter.core.events import Event


class Lines(NamedTuple):
    """Events of some lines in the order of the stream, a list for each part: a tuple for each line costs twice as much.

    Attributes:
        texts: The raw lines.
        processes: The process of each line, None in a format without processes.
        times: The time in each line by the probe's clock, None in a line without.
    """

    events: list[Event]
    texts: list[bytes]
    processes: list[int | None]
    times: list[int | None]

    def extend(self, others: Lines) -> None:
        """Append other lines."""
        self.events.extend(others.events)
        self.texts.extend(others.texts)
        self.processes.extend(others.processes)
        self.times.extend(others.times)


class PlacedLines(NamedTuple):
    """Events in the order of their times, which are on the stream's clock and never go back."""

    events: list[Event]
    texts: list[bytes]
    processes: list[int | None]
    times: list[int]

    def extend(self, others: PlacedLines) -> None:
        """Append other lines."""
        self.events.extend(others.events)
        self.texts.extend(others.texts)
        self.processes.extend(others.processes)
        self.times.extend(others.times)

    def between(self, start: int, end: int) -> PlacedLines:
        """Return the lines from `start` up to `end`."""
        return PlacedLines(
            self.events[start:end], self.texts[start:end], self.processes[start:end], self.times[start:end]
        )
