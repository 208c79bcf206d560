"""Contents of a state file, as values; `checkpoint` reads and writes them.

A module of its own, because a daemon without a state file needs no JSON: msgspec and the types of all states take
1 MiB of memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qemu_migration_exporter.core.tracking.snapshot import StreamState
from qemu_migration_exporter.core.tracking.stream import Counts
from qemu_migration_exporter.sources import Position
from qemu_migration_exporter.tracing.export.sender import SpanBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamCheckpoint:
    """One stream: the position in its file, its state there, and its processes by number with their starts."""

    position: Position
    state: StreamState
    counts: Counts = field(default_factory=Counts)
    processes: Mapping[int, int] = field(default_factory=dict)
    boot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Contents of a state file.

    Attributes:
        saved_ns: Wall time of the save, None without a usable file.
        sources: The files and patterns that were followed: a matching file without a stream appeared later.
        streams: By the name of the file.
        reading: Files that were being read for the first time, with no migration reported yet.
        counters: Counters of the metrics, see `MetricsSink.snapshot`.
    """

    saved_ns: int | None = None
    sources: frozenset[str] = frozenset()
    streams: Mapping[str, StreamCheckpoint] = field(default_factory=dict)
    spans: tuple[SpanBatch, ...] = ()
    reading: frozenset[str] = frozenset()
    counters: Mapping[str, Any] = field(default_factory=dict)
