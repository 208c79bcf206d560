"""Changes of migrations: the output of the core, and the only input of metrics, traces and reports.

The numbers of a running migration change with nearly every line, so they are no change: they are computed when they
are read, from `Stream.running`. Every change but `Surprised` carries the trace id of its migration.
"""

from __future__ import annotations

from dataclasses import dataclass

from qemu_migration_exporter.core.model import (
    Device,
    DowntimePart,
    Identity,
    Migration,
    Phase,
    Progress,
    Round,
    Stall,
    SurpriseKind,
    Sync,
)
from qemu_migration_exporter.core.records import record


@dataclass(frozen=True, slots=True)
class Started:
    """A migration began, or the stream was joined in its middle; `progress` has its first numbers."""

    identity: Identity
    progress: Progress


@dataclass(frozen=True, slots=True)
class Resumed:
    """A migration continues that an earlier run of this program reported up to this point.

    `rounds` are the rounds reported then.
    """

    identity: Identity
    progress: Progress
    rounds: tuple[Round, ...] = ()


@record(frozen=True, slots=True)
class PhaseEnded:
    """A phase of a migration ended."""

    trace_id: str
    phase: Phase


@record(frozen=True, slots=True)
class RoundEnded:
    """A round ended and all of its numbers are in."""

    trace_id: str
    round: Round


@record(frozen=True, slots=True)
class SyncFinished:
    """A bitmap sync ended, and its round is known."""

    trace_id: str
    sync: Sync


@record(frozen=True, slots=True)
class DeviceFinished:
    """A device's state was saved."""

    trace_id: str
    device: Device


@record(frozen=True, slots=True)
class DowntimePartEnded:
    """A part of the downtime other than a device ended."""

    trace_id: str
    part: DowntimePart


@dataclass(frozen=True, slots=True)
class PreSwitchoverEnded:
    """The wait for `migrate-continue`, with the guest stopped, ended."""

    trace_id: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Stalled:
    """A migration will not end by itself, or waits for too long."""

    trace_id: str
    stall: Stall


@dataclass(frozen=True, slots=True)
class StallCleared:
    """A stall is over, and the migration continues."""

    trace_id: str
    stall: Stall


@dataclass(frozen=True, slots=True)
class MigrationEnded:
    """A migration is over; this is its last change."""

    trace_id: str
    migration: Migration


@dataclass(frozen=True, slots=True)
class GuestGone:
    """QEMU ended after a migration that did not complete, and the guest ended with it."""

    trace_id: str


@dataclass(frozen=True, slots=True)
class Surprised:
    """A valid event that was not expected in the present state."""

    kind: SurpriseKind
    detail: str


Change = (
    Started
    | Resumed
    | PhaseEnded
    | RoundEnded
    | SyncFinished
    | DeviceFinished
    | DowntimePartEnded
    | PreSwitchoverEnded
    | Stalled
    | StallCleared
    | MigrationEnded
    | GuestGone
    | Surprised
)
