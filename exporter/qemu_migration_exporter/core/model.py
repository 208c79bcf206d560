"""The nouns: a migration, its phases, rounds, syncs and devices, as immutable records.

Times (`*_ns`) are nanoseconds since the Unix epoch on the stream's clock. What the stream does not give
is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    kind: Kind = Kind.LIVE


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
        threshold_bytes: The last threshold that QEMU printed before its end.
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
class OpenWait:
    """The wait in which a migration's stream ended.

    Attributes:
        state: QEMU's own word for the status, None where the stream gives none.
        reason: The wait's name; None for one that no stall reason names.
        since_ns: When it began.
    """

    state: str | None
    reason: StallReason | None
    since_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Features of one migration that decide which advice QEMU would accept, as far as the trace shows them.

    Attributes:
        postcopy: Post-copy was enabled before the migration began; QEMU cannot start it otherwise.
        auto_converge: Auto-converge is enabled, or has throttled the guest.
        dirty_limit: The dirty limit is enabled (8.1 and later); QEMU refuses auto-converge beside it.
        max_bandwidth: The cap that was set, in bytes per second; None without a cap, or where none is known.
        multifd: Memory is sent over several connections.
        switchover_bandwidth: avail-switchover-bandwidth in bytes per second; None if unset.
    """

    postcopy: bool = False
    auto_converge: bool = False
    dirty_limit: bool = False
    max_bandwidth: int | None = None
    multifd: bool = False
    switchover_bandwidth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A time in which the migration got no nearer to its end, with the numbers of its last judgement.

    Attributes:
        number: 1 for the first of the migration.
        start_ns: When the evidence was complete.
        end_ns: When it ended; None for the stall in force, or in force until the migration ended.
        since_ns: When it really began: the best boundary, or the beginning of the wait.
        reason: The cause by the numbers of its last judgement.
        round: The round in which the evidence was complete.
        pending_bytes: At the last boundary that was judged.
        best_pending_bytes, best_round, best_case_seconds: As in `Verdict`.
        bandwidth_bytes_per_second: Smoothed over some seconds.
        dirty_bytes_per_second: Of the last round that ended.
        downtime_limit_seconds: The limit in force.
        required_downtime_seconds, required_bandwidth_bytes_per_second, capabilities: As in `Verdict`.
    """

    number: int
    start_ns: int
    end_ns: int | None
    since_ns: int
    reason: StallReason
    round: int
    pending_bytes: int | None = None
    best_pending_bytes: int | None = None
    best_round: int | None = None
    best_case_seconds: float | None = None
    bandwidth_bytes_per_second: float | None = None
    dirty_bytes_per_second: float | None = None
    downtime_limit_seconds: float | None = None
    required_downtime_seconds: float | None = None
    required_bandwidth_bytes_per_second: float | None = None
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
        eta_seconds: At least and at most this long to the end; None for never or unknown. In the bulk round it is the
            time at the present rate, and no evidence of convergence.
        best_case_seconds: Of a stall of the rounds, the time to the threshold at the most favourable rate that the
            boundaries allow; None for other stalls and where it is not known.
        required_downtime_seconds: What the last boundary's memory takes at the present bandwidth; once the migration is
            over, what it took in the last stall.
        required_bandwidth_bytes_per_second: What would send it within the downtime limit.
        bandwidth_bytes_per_second: Smoothed over some seconds; the required downtime is reckoned with it.
        capabilities: Features that decide what would end the stall; see `qemu_migration_exporter.present.advice`.
    """

    converging: bool | None = None
    stalled_since_ns: int | None = None
    reason: StallReason | None = None
    best_pending_bytes: int | None = None
    best_round: int | None = None
    eta_seconds: tuple[float, float] | None = None
    best_case_seconds: float | None = None
    required_downtime_seconds: float | None = None
    required_bandwidth_bytes_per_second: float | None = None
    bandwidth_bytes_per_second: float | None = None
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
        paused_since_ns, pause_cause: Of the pause the guest is in, None while it runs.
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
    """A migration that ended, or whose stream did.

    Attributes:
        result_inferred: The outcome is not in the stream (QEMU's states are), it follows from other marks.
        partial: The beginning or the end is missing.
        outcome_ns: The terminal state, else the mark that ended it; None where the stream ended first.
        end_ns: The last mark that belongs to it, cleanup included.
        setup_ns, downtime_ns: Durations; None on a reconstructed clock.
        downtime_start_ns: When QEMU's own downtime began.
        downtime_parts: In their order, without gaps: they add up to the downtime. Empty if that is unknown.
        pauses: The times in which the guest did not run, the downtime included.
        blackout_ns: The sum of the pauses up to the outcome; None on a reconstructed clock.
        dirty_sync_count: QEMU's own number of bitmap syncs, which is not `Progress.bitmap_syncs` from 11.1 on.
        transferred_is_partial: QEMU printed no bandwidth window at the end, so `transferred_bytes` is too low.
        open_wait: What the migration waited for when the stream ended.
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
