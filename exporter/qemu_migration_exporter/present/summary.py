"""What was read of one stream, as reports tell it."""

from __future__ import annotations

from dataclasses import dataclass

from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.tracking.stream import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """A stream that was read to its end.

    Attributes:
        name: What the stream is called, a file's path as it was given.
        format: None where no line told.
    """

    name: str
    format: str | None
    clock: ClockKind
    counts: Counts
