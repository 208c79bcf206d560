"""The interface of the clocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from qemu_migration_exporter.core.lines import Lines, PlacedLines
from qemu_migration_exporter.core.model import ClockKind


@dataclass(slots=True)
class HeldLine:
    """A line that a clock holds back, as its raw text; `at_ns` is None on a clock that has not placed it yet."""

    text: bytes
    process: int | None = None
    at_ns: int | None = None


@dataclass(slots=True)
class ClockState:
    """The data of a clock, for the checkpoint. A field that a clock does not use keeps its default.

    Attributes:
        now_ns: The reconstructed clock's time.
        offset_ns: Difference between wall time and the probe's time.
        newest_ns: Time of the newest line.
        last_ns, set_back_ns, jumps_back: Time of the last line, and how far and how often lines went back in time.
        held: The lines held back, in order.
        kind: The clock's kind: a stream keeps its clock, also if a later line carries the first time.
    """

    now_ns: int = 0
    offset_ns: int | None = None
    newest_ns: int = 0
    last_ns: int | None = None
    set_back_ns: int = 0
    jumps_back: int = 0
    held: list[HeldLine] = field(default_factory=list)
    kind: ClockKind | None = None


def none() -> PlacedLines:
    """Return no lines."""
    return PlacedLines([], [], [], [])


class Clock(Protocol):
    """Times of the events of one stream. They never go back."""

    kind: ClockKind

    @property
    def jumps_back(self) -> int:
        """Number of lines that were older than a line before them."""
        ...

    def place(self, lines: Lines, arrival_ns: int) -> PlacedLines:
        """Add lines that arrived at `arrival_ns`; return the lines whose time is certain now, in order."""
        ...

    def tick(self, now_ns: int) -> PlacedLines:
        """Return the lines that were held back long enough, as of `now_ns`."""
        ...

    def settle(self, now_ns: int) -> None:
        """Accept the next line's time as it is: without an open migration, a clock that was set back does no harm."""
        ...

    def close(self) -> PlacedLines:
        """Return the lines still held back."""
        ...

    def state(self) -> ClockState:
        """Return the clock's data."""
        ...

    def restore(self, state: ClockState, held: Lines) -> None:
        """Continue from kept data; `held` are its lines, parsed again."""
        ...
