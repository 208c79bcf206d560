"""The nouns: a migration, its phases, rounds, syncs and devices, as immutable records.

Times (`*_ns`) are nanoseconds since the Unix epoch on the stream's clock. What the stream does not give
is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    """Which end of a migration a QEMU is."""

    SOURCE = "source"
    DESTINATION = "destination"


class Result(StrEnum):
    """How a migration ended; `unknown` where the stream ended first."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Mode(StrEnum):
    """Whether the guest was moved before all of its memory was there."""

    PRECOPY = "precopy"
    POSTCOPY = "postcopy"


class PhaseName(StrEnum):
    """The phases of an outgoing migration, in their order."""

    SETUP = "setup"
    ITERATE = "iterate"
    COMPLETE_PRECOPY = "complete_precopy"
    POSTCOPY = "postcopy"
    CLEANUP = "cleanup"


class DowntimePartName(StrEnum):
    """What the downtime is spent on beside the devices, in its order."""

    #: The CPUs are paused and the disks flushed.
    STOP = "stop"
    #: RAM is sent for the last time, the final bitmap sync included.
    RAM = "ram"


class ClockKind(StrEnum):
    """Where a stream's times come from."""

    #: The probe lines carry them.
    PROBE = "probe"
    #: When a line reached us (live streams without times).
    ARRIVAL = "arrival"
    #: Only `time_spent` of migrate_transferred moves the clock (recordings without times).
    RECONSTRUCTED = "reconstructed"


class StallReason(StrEnum):
    """Why a migration does not get on; a bounded set."""

    DIRTY_RATE = "dirty_rate"
    BANDWIDTH_CAP = "bandwidth_cap"
    NO_THROUGHPUT = "no_throughput"
    THROTTLED_MAX = "throttled_max"
    BLOCKED_SETUP = "blocked_setup"
    BLOCKED_WAIT_UNPLUG = "blocked_wait_unplug"
    BLOCKED_PRE_SWITCHOVER = "blocked_pre_switchover"
    POSTCOPY_PAUSED = "postcopy_paused"


class SurpriseKind(StrEnum):
    """What parsed and was not expected."""

    #: A state QEMU's own transitions do not lead to, or one this program does not know.
    UNEXPECTED_STATE = "unexpected_state"
    UNKNOWN_STATE = "unknown_state"
    #: A migration began while the one before had not ended.
    RESTARTED = "restarted"
    #: An end without its beginning, or the other way round: a line is missing.
    UNPAIRED = "unpaired"
    #: The same line twice.
    DUPLICATE = "duplicate"
    #: A line is older than the one before it.
    CLOCK_BACKWARD = "clock_backward"
    #: Another stream has a virtual machine of this name.
    DUPLICATE_VM = "duplicate_vm"
    #: The probe says that it dropped lines.
    LINES_LOST = "lines_lost"
    #: More processes speak in the stream than are followed.
    TOO_MANY_PROCESSES = "too_many_processes"
    #: Bytes of the stream were thrown away before they were read.
    BYTES_LOST = "bytes_lost"
    #: The stream's bytes are damaged, as a compressed file that is cut.
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells one migration from another.

    Attributes:
        trace_id: 32 hexadecimal digits, see `qemu_migration_exporter.core.tracking.trace_ids`.
        side: None where nothing in the stream tells.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A phase; `end_ns` is None while, or where, it did not end."""

    name: PhaseName
    start_ns: int
    end_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sync:
    """One synchronisation of the dirty bitmap.

    Attributes:
        number: 1 for the first of the migration, as QEMU's dirty-sync-count.
        end_ns: None where the end was not seen.
        dirtied_bytes: Newly dirty memory this sync found.
        phase: The phase it took place in, None for one that is inside of none.
        round: The round it began or was in the middle of, None outside of rounds.
    """

    number: int
    start_ns: int
    end_ns: int | None
    dirtied_bytes: int | None
    phase: PhaseName | None
    round: int | None
    stacktrace: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One pass over the dirty bitmap.

    Attributes:
        number: 1 is the bulk round, which sends all memory once.
        end_ns: None for the round that was not over when the stream ended.
        iterations: Slices (`savevm_state_iterate`) in it, at least 1.
        transferred_bytes: Its share, by time, of the bandwidth windows.
        pending_at_start_bytes: Just after the sync that began it: comparable between rounds.
        pending_at_end_bytes: The last one QEMU printed in it, after the one at its start.
        dirtied_bytes: What the sync that ended it found dirtied in it.
        bandwidth_bytes_per_second: Of the last bandwidth window that ended in it, else of the one it is inside of.
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

    @property
    def dirty_bytes_per_second(self) -> float | None:
        """How fast the guest dirtied memory in it."""
        if self.dirtied_bytes is None or self.end_ns is None or self.end_ns <= self.start_ns:
            return None
        return self.dirtied_bytes * 1e9 / (self.end_ns - self.start_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device's section, saved while the guest was stopped.

    Attributes:
        number: 1 for the first of the migration.
        name: Its idstr, which is unique in a virtual machine together with `instance`.
        instance: The instance id (since 8.2).
        duration_ns: By QEMU's own clock where it prints that (since 8.2), else between its section's marks.
    """

    number: int
    name: str | None
    vmsd_name: str | None
    instance: int | None
    start_ns: int
    duration_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DowntimePart:
    """What else took part of the downtime."""

    name: DowntimePartName
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Features of one migration that decide which advice QEMU would accept, as far as the trace shows them.

    Attributes:
        postcopy: Post-copy was enabled before the migration began; QEMU cannot start it otherwise.
        auto_converge: Auto-converge is enabled, or has throttled the guest.
        dirty_limit: The dirty limit is enabled (8.1 and later); QEMU refuses auto-converge beside it.
        max_bandwidth: The cap that was set, in bytes per second; None without a cap, or where none is known.
    """

    postcopy: bool = False
    auto_converge: bool = False
    dirty_limit: bool = False
    max_bandwidth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A time in which the migration did not get nearer to its end, with what was known when it turned out.

    Attributes:
        number: 1 for the first of the migration.
        start_ns: When that turned out.
        end_ns: When it was over; None where it holds, or held until the migration ended.
        since_ns: When it really began: the best boundary, or what it waits for.
        round: The round that ran.
        pending_bytes: At the last boundary.
        best_pending_bytes, best_round: As in `Verdict`.
        bandwidth_bytes_per_second: Smoothed over some seconds.
        dirty_bytes_per_second: Of the last round that ended.
        downtime_limit_seconds: The limit that was in force.
        required_downtime_seconds, required_bandwidth_bytes_per_second, capabilities: As in `Verdict`.
    """

    number: int
    start_ns: int
    end_ns: int | None
    since_ns: int
    reason: StallReason
    round: int
    pending_bytes: int | None
    best_pending_bytes: int | None
    best_round: int | None
    bandwidth_bytes_per_second: float | None
    dirty_bytes_per_second: float | None
    downtime_limit_seconds: float | None
    required_downtime_seconds: float | None
    required_bandwidth_bytes_per_second: float | None
    capabilities: Capabilities = Capabilities()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the boundaries between rounds say about convergence.

    Attributes:
        converging: None where there is no evidence either way.
        stalled_since_ns: Of a stall that holds, the best boundary when it turned out, or the beginning of the wait.
        reason: Of the stall that holds; once the migration is over, of its last one.
        best_pending_bytes: The least memory pending just after a sync, the bulk round left out.
        best_round: The round that boundary began.
        eta_seconds: At least and at most this long to the end; None for never or unknown.
        required_downtime_seconds: What the last boundary's memory takes at the present bandwidth; once the migration is
            over, what it took in the last stall.
        required_bandwidth_bytes_per_second: What would send it within the downtime limit.
        capabilities: Features that decide what would end the stall; see `qemu_migration_exporter.present.advice`.
    """

    converging: bool | None = None
    stalled_since_ns: int | None = None
    reason: StallReason | None = None
    best_pending_bytes: int | None = None
    best_round: int | None = None
    eta_seconds: tuple[float, float] | None = None
    required_downtime_seconds: float | None = None
    required_bandwidth_bytes_per_second: float | None = None
    capabilities: Capabilities = Capabilities()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The numbers of a migration at one moment; counts are of this migration alone.

    Attributes:
        phase: None before the first phase.
        state: QEMU's own word for the status.
        downtime_limit_seconds: From the bandwidth windows, else from the QMP command that set it.
        transferred_bytes: Sum of the bandwidth windows, None before the first.
        postcopy_requests: None in post-copy where the event is not enabled.
        last_progress_ns: When it last got nearer to its end.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A migration that ended, or whose stream did.

    Attributes:
        result_inferred: The outcome is not in the stream (QEMU's states are), it follows from other marks.
        partial: The beginning or the end is missing.
        outcome_ns: The terminal state, else the mark that ended it; None where the stream ended first.
        end_ns: The last mark that belongs to it, cleanup included.
        setup_ns, downtime_ns: Durations; None on a reconstructed clock.
        downtime_start_ns: When QEMU's own downtime began.
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

    @property
    def timed(self) -> bool:
        """Whether durations other than the iterate phase's mean anything."""
        return self.identity.clock is not ClockKind.RECONSTRUCTED

    def is_bulk(self, row: Round) -> bool:
        """Say whether this round sent all memory once; where the beginning is missing, the first one seen did not."""
        return row.number == 1 and not self.identity.partial

    @property
    def duration_ns(self) -> int | None:
        """From the `setup` state to the outcome, as QEMU's total-time; on a reconstructed clock the iterate phase's."""
        return None if self.outcome_ns is None else self.outcome_ns - self.identity.start_ns
