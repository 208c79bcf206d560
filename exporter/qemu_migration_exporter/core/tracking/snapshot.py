"""The data of a stream at one place in its bytes: dataclasses of plain values, for a checkpoint.

A state shares its parts with the stream it came from, so it has to be serialised before the stream reads on.
Configuration (the vocabulary, the stall policy, the page size) is not part of it: a restored stream has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qemu_migration_exporter.core.timeline.clock import ClockState
from qemu_migration_exporter.core.tracking.tracker import TrackerState


@dataclass(slots=True, kw_only=True)
class ProcessState:
    """One process of a stream; `process` is None if the log carries no process ids."""

    process: int | None
    vm: str
    uuid: str | None
    tracker: TrackerState


@dataclass(slots=True, kw_only=True)
class StreamState:
    """One stream.

    Attributes:
        tail: The beginning of a line that is not complete.
        releases: The first and last QEMU release the lines can be of.
        clock: None before the first event.
        last_line: The last line that was an event, to find duplicates.
        last_event_ns: Time of the last event.
        envelopes: Samples of the text around each event.
    """

    format_name: str | None
    tail: bytes
    releases: tuple[tuple[int, int], tuple[int, int]]
    clock: ClockState | None
    processes: list[ProcessState] = field(default_factory=list)
    last_line: bytes | None
    last_event_ns: int | None
    envelopes: tuple[bytes, ...] = ()
