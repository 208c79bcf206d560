"""The data of a stream at one place in its bytes: dataclasses of plain values, for a checkpoint.

A state shares its parts with the stream it came from, so it has to be serialised before the stream reads on.
Configuration (the vocabulary, the stall policy, the page size) is not part of it: a restored stream has its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.measures.guest import GuestRun
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.model import Side
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.timeline.clock import ClockState


class Withheld:
    """Changes of a machine that may turn out to be no migration.

    A class of its own, so that a checkpoint can write the type beside each change.
    """

    __slots__ = ("changes",)

    def __init__(self, changes: Iterable[Change] = ()) -> None:
        self.changes = list(changes)


@dataclass(slots=True)
class TrackerState:
    """The data of a tracker, which is what a checkpoint keeps.

    Attributes:
        machine: The open migration.
        is_started: `Started` was returned for it; before that its changes are in `withheld`.
        failed_trace_id, failed_side: Trace id and side of the last attempt, if that did not complete.
        began_by_active: The open migration's first event was the state `active`.
        ordinal: The number of migrations so far.
        states_enabled: A state was printed.
        announced: The side of the migration that a command has requested.
        is_other_use: The open machine is COLO, not a migration.
        guest: The guest's run state.
        uri: The destination in the command that requested the next migration.
        initiated: libvirt printed that it begins a live migration.
        function, frames: The last function probe, and the backtraces by function.
    """

    machine: Machine | None = None
    is_started: bool = False
    withheld: Withheld = field(default_factory=Withheld)
    failed_trace_id: str | None = None
    failed_side: Side | None = None
    began_by_active: bool = False
    ordinal: int = 0
    states_enabled: bool = False
    announced: Side | None = None
    parameters: Parameters = field(default_factory=Parameters)
    is_other_use: bool = False
    guest: GuestRun = field(default_factory=GuestRun)
    uri: str = ""
    initiated: bool = False
    function: str | None = None
    frames: dict[str, list[str]] = field(default_factory=dict)


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
