"""The records of the model: a migration, its phases, rounds, syncs and devices.

Times (`*_ns`) are nanoseconds since the Unix epoch on the stream's clock. A value that the stream does not give
is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from qemu_migration_exporter.core.records import record
from qemu_migration_exporter.core.terms import (
    ClockKind,
    DowntimePartName,
    Kind,
    Mode,
    PauseCause,
    PhaseName,
    Result,
    Side,
    StallReason,
    SurpriseKind,
)
from qemu_migration_exporter.core.verdicts import Capabilities, OpenWait, Stall, Verdict

__all__ = [
    "Capabilities",
    "ClockKind",
    "Device",
    "DowntimePart",
    "DowntimePartName",
    "Identity",
    "Kind",
    "Migration",
    "Mode",
    "OpenWait",
    "Pause",
    "PauseCause",
    "Phase",
    "PhaseName",
    "Progress",
    "Result",
    "Round",
    "Side",
    "Stall",
    "StallReason",
    "SurpriseKind",
    "Sync",
    "Verdict",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The key of one migration.

    Attributes:
        trace_id: 32 hexadecimal digits, see `qemu_migration_exporter.core.tracking.trace_ids`.
        side: None if no event in the stream shows it.
        partial: The stream was joined after the migration's beginning.
        stacktrace: The backtrace of the probe that began it, if one was printed.
        retry_of: The trace id of the attempt before, of the same virtual machine in the same stream, if that did not
            complete.
    """

    trace_id: str
    vm: str
    uuid: str | None
    stream: str
    side: Side | None
    clock: ClockKind
    start_ns: int
    partial: bool = False
    stacktrace: tuple[str, ...] = ()
    retry_of: str | None = None
    kind: Kind = Kind.LIVE


@record(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase; `end_ns` is None if its end is not in the stream."""

    name: PhaseName
    start_ns: int
    end_ns: int | None


@record(frozen=True, slots=True, kw_only=True)
class Sync:
    """One synchronisation of the dirty bitmap.

    Attributes:
        number: 1 for the first of the migration, as QEMU's dirty-sync-count.
        end_ns: None if the end is not in the stream.
        dirtied_bytes: Memory that became dirty since the sync before.
        phase: The phase at the sync's start, None between phases.
        round: The round that the sync began or interrupted, None outside of rounds.
    """

    number: int
    start_ns: int
    end_ns: int | None
    dirtied_bytes: int | None
    phase: PhaseName | None
    round: int | None
    stacktrace: tuple[str, ...] = ()


@record(frozen=True, slots=True, kw_only=True)
class Round:
    """One pass over the dirty bitmap.

    Attributes:
        number: 1 is the bulk round, which sends all memory once.
        end_ns: None if the stream ended during the round.
        iterations: Slices (`savevm_state_iterate`) in it, at least 1.
        transferred_bytes: Its share, by time, of the bandwidth windows.
        pending_at_start_bytes: Pending just after the sync that began the round: comparable between rounds.
        pending_at_end_bytes: The last pending bytes that QEMU printed in the round, if it printed any after its start.
        dirtied_bytes: Memory dirtied during the round, as found by the sync that ended it.
        bandwidth_bytes_per_second: From the last bandwidth window that ended in the round, else from the window around
            the round.
        threshold_bytes: The last threshold that QEMU printed before the round's end.
    """

    number: int
    start_ns: int
    end_ns: int | None
    iterations: int
    transferred_bytes: int | None
    pending_at_start_bytes: int | None
    pending_at_end_bytes: int | None
    dirtied_bytes: int | None
    bandwidth_bytes_per_second: float | None
    threshold_bytes: int | None = None

    @property
    def dirty_bytes_per_second(self) -> float | None:
        """The rate at which the guest dirtied memory during the round."""
        if self.dirtied_bytes is None or self.end_ns is None or self.end_ns <= self.start_ns:
            return None
        return self.dirtied_bytes * 1e9 / (self.end_ns - self.start_ns)


@record(frozen=True, slots=True, kw_only=True)
class Device:
    """A device whose state was saved while the guest was stopped.

    Attributes:
        number: 1 for the first of the migration.
        name: The device's idstr, which is unique in a virtual machine together with `instance`.
        instance: The instance id (since 8.2).
        duration_ns: By QEMU's own clock if QEMU prints it (since 8.2), else between the section's marks.
    """

    number: int
    name: str | None
    vmsd_name: str | None
    instance: int | None
    start_ns: int
    duration_ns: int | None


@record(frozen=True, slots=True, kw_only=True)
class DowntimePart:
    """A part of the downtime; `device` is the device's idstr in a part named `device`."""

    name: DowntimePartName
    start_ns: int
    end_ns: int
    device: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A time in which the guest did not run; `end_ns` is None if it did not run again in the stream."""

    start_ns: int
    end_ns: int | None
    by: PauseCause


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The numbers of a migration at one moment; counts are of this migration alone.

    Attributes:
        phase: None before the first phase.
        state: QEMU's migration state.
        downtime_limit_seconds: From the bandwidth windows, else from the QMP command that set it.
        transferred_bytes: Sum of the bandwidth windows, None before the first.
        postcopy_requests: None in post-copy if the event is not enabled.
        last_progress_ns: Time of the last progress.
        paused_since_ns, pause_cause: Start and cause of the guest's present pause, None while the guest runs.
    """

    phase: PhaseName | None
    state: str | None
    mode: Mode
    round: int
    pending_bytes: int | None
    threshold_bytes: int | None
    ram_bytes: int | None
    bandwidth_bytes_per_second: float | None
    dirty_bytes_per_second: float | None
    downtime_limit_seconds: float | None
    throttle_ratio: float | None
    transferred_bytes: int | None
    bitmap_syncs: int
    iterations: int
    throttles: int
    postcopy_requests: int | None
    last_progress_ns: int
    verdict: Verdict
    paused_since_ns: int | None = None
    pause_cause: PauseCause | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """The summary of a migration that ended, or whose stream ended.

    Attributes:
        result_inferred: The stream has no terminal state, and the result follows from other marks.
        partial: The beginning or the end is missing.
        outcome_ns: Time of the terminal state, else of the mark that ended the migration; None if the stream ended
            first.
        end_ns: Time of the migration's last mark, cleanup included.
        setup_ns, downtime_ns: Durations; None on a reconstructed clock.
        downtime_start_ns: Start of QEMU's own downtime.
        downtime_is_partial: No mark from before the stop of the guest is enabled, so the downtime is too short.
        downtime_parts: In order and without gaps: they add up to the downtime. Empty if the downtime is unknown.
        pauses: The times in which the guest did not run, including the downtime.
        blackout_ns: The sum of the pauses up to the outcome; None on a reconstructed clock.
        dirty_sync_count: QEMU's own number of bitmap syncs, which is not `Progress.bitmap_syncs` from 11.1 on.
        transferred_is_partial: QEMU printed no bandwidth window at the end, so `transferred_bytes` is too low.
        open_wait: The wait in which the stream ended.
        is_guest_lost: Post-copy ended while part of the guest's memory was only on the source: it cannot run on.
    """

    identity: Identity
    result: Result
    result_inferred: bool
    partial: bool
    error: str | None
    outcome_ns: int | None
    end_ns: int
    setup_ns: int | None
    downtime_ns: int | None
    downtime_start_ns: int | None
    progress: Progress
    rounds: tuple[Round, ...]
    phases: tuple[Phase, ...]
    devices: tuple[Device, ...]
    stalls: tuple[Stall, ...]
    downtime_parts: tuple[DowntimePart, ...] = ()
    pauses: tuple[Pause, ...] = ()
    blackout_ns: int | None = None
    dirty_sync_count: int | None = None
    transferred_is_partial: bool = False
    open_wait: OpenWait | None = None
    is_guest_lost: bool = False
    downtime_is_partial: bool = False

    @property
    def timed(self) -> bool:
        """True if the clock measures durations; a reconstructed clock only measures the iterate phase."""
        return self.identity.clock is not ClockKind.RECONSTRUCTED

    @property
    def is_joined(self) -> bool:
        """True if the beginning is missing, so that times and counts start later than the migration."""
        return self.identity.partial and (not self.phases or self.phases[0].name is not PhaseName.SETUP)

    @property
    def duration_ns(self) -> int | None:
        """The time from `setup` to the outcome, as QEMU's total-time; on a reconstructed clock the iterate phase."""
        return None if self.outcome_ns is None else self.outcome_ns - self.identity.start_ns
