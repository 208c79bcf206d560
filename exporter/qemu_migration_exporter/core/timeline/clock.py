"""The interface of the clocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from qemu_migration_exporter.core.events import Line
from qemu_migration_exporter.core.model import ClockKind


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
