"""What events mean. Changes are all that sinks ever see of a stream.

Every change but `Surprised` names its migration by trace id.
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


@dataclass(frozen=True, slots=True)
class Started:
    """A migration began, or was joined half-way."""

    identity: Identity


@dataclass(frozen=True, slots=True)
class Resumed:
    """A migration that began before this program did goes on; its beginning, and all up to here, was told then.

    `rounds` are those that were told.
    """

    identity: Identity
    progress: Progress
    rounds: tuple[Round, ...] = ()


@dataclass(frozen=True, slots=True)
class Progressed:
    """The numbers of a running migration, once for each batch of lines that touched them."""

    trace_id: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class PhaseEnded:
    """A phase of a migration ended."""

    trace_id: str
    phase: Phase


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round ended and all of its numbers are in."""

    trace_id: str
    round: Round


@dataclass(frozen=True, slots=True)
class SyncFinished:
    """A bitmap sync ended and it is known to which round it belongs."""

    trace_id: str
    sync: Sync


@dataclass(frozen=True, slots=True)
class DeviceFinished:
    """A device's state was saved."""

    trace_id: str
    device: Device


@dataclass(frozen=True, slots=True)
class DowntimePartEnded:
    """A part of the downtime that is no device's ended."""

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
    """A stall is over, and the migration goes on."""

    trace_id: str
    stall: Stall


@dataclass(frozen=True, slots=True)
class MigrationEnded:
    """A migration is over and nothing more will be said of it."""

    trace_id: str
    migration: Migration


@dataclass(frozen=True, slots=True)
class GuestGone:
    """QEMU has ended, and with it the guest of a migration that did not complete."""

    trace_id: str


@dataclass(frozen=True, slots=True)
class Surprised:
    """An event parsed and was not expected."""

    kind: SurpriseKind
    detail: str


Change = (
    Started
    | Resumed
    | Progressed
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
