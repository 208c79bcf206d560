"""The interface of the clocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from qemu_migration_exporter.core.events import Line
from qemu_migration_exporter.core.model import ClockKind


@dataclass(slots=True)
class HeldLine:
    """A line that a clock holds back, as its raw text; `at_ns` is None on a clock that has not placed it yet."""

    text: bytes
    process: int | None = None
    at_ns: int | None = None


@dataclass(slots=True)
class ClockState:
    """The data of a clock, which is what a checkpoint keeps. A field that a clock does not have keeps its default.

    Attributes:
        now_ns: Of the reconstructed clock.
        offset_ns: Difference between the wall's time and the probe's.
        newest_ns: Time of the newest line.
        last_ns, set_back_ns, jumps_back: Of the order of lines.
        held: The lines held back, in their order.
    """

    now_ns: int = 0
    offset_ns: int | None = None
    newest_ns: int = 0
    last_ns: int | None = None
    set_back_ns: int = 0
    jumps_back: int = 0
    held: list[HeldLine] = field(default_factory=list)


class Clock(Protocol):
    """Times of the events of one stream. They never go back."""

    kind: ClockKind

    @property
    def jumps_back(self) -> int:
        """Number of lines that were older than a line before them."""
        ...

    def place(self, lines: Sequence[Line], arrival_ns: int) -> Sequence[tuple[Line, int]]:
        """Add lines that arrived at `arrival_ns`; return the lines whose time is certain now, in order."""
        ...

    def tick(self, now_ns: int) -> list[tuple[Line, int]]:
        """Return the lines that have been held back for long enough at `now_ns`."""
        ...

    def settle(self, now_ns: int) -> None:
        """Trust the time of the next line: while no migration is open, a clock that was set back does no harm."""
        ...

    def close(self) -> list[tuple[Line, int]]:
        """Return the lines still held back."""
        ...

    def state(self) -> ClockState:
        """Return the clock's data."""
        ...

    def restore(self, state: ClockState, held: Sequence[Line]) -> None:
        """Continue from kept data; `held` are its lines, parsed again."""
        ...
