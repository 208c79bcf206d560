"""The records of stalls: the wait, the stall and the verdict of a migration.

Times and missing values are as in `qemu_migration_exporter.core.model`.
"""

from __future__ import annotations

from dataclasses import dataclass

from qemu_migration_exporter.core.terms import StallReason


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWait:
    """The wait in which a migration's stream ended.

    Attributes:
        state: QEMU's migration state, None if the stream has none.
        reason: The stall reason of this wait, None if there is none.
        since_ns: Start of the wait.
    """

    state: str | None
    reason: StallReason | None
    since_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Features of one migration that decide which advice QEMU would accept, if the trace shows them.

    Attributes:
        postcopy: Post-copy was enabled before the migration began; QEMU cannot start it otherwise.
        auto_converge: Auto-converge is enabled, or has throttled the guest.
        dirty_limit: The dirty limit is enabled (8.1 and later); QEMU refuses auto-converge beside it.
        max_bandwidth: The cap in bytes per second; None without a known cap.
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
    """A time in which the migration came no closer to its end, with the numbers of its last judgement.

    Attributes:
        number: 1 for the first of the migration.
        start_ns: Time at which the evidence was complete.
        end_ns: End of the stall; None for a stall in force, or in force until the migration ended.
        since_ns: Real beginning of the stall: the best boundary, or the beginning of the wait.
        reason: The cause by the numbers of its last judgement.
        round: The round in which the evidence was complete.
        pending_bytes: Pending at the last judged boundary.
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
    """The judgement on convergence: whether the migration is stalled, why, and the numbers behind that.

    Attributes:
        converging: None without evidence either way.
        stalled_since_ns: Real beginning of the stall in force: the best boundary, or the beginning of the wait.
        reason: Cause of the stall in force; once the migration is over, of the last stall.
        best_pending_bytes: The least memory pending just after a sync, the bulk round left out.
        best_round: The round that began at this boundary.
        eta_seconds: Lower and upper bound of the time to the end; None for never or unknown. In the bulk round it is
            the time at the present rate, and no evidence of convergence.
        best_case_seconds: Of a stall of the rounds, the time to the threshold at the most favourable rate that the
            boundaries allow; None for other stalls and where it is not known.
        required_downtime_seconds: Time to send the last boundary's memory at the present bandwidth; once the migration
            is over, the same for the last stall.
        required_bandwidth_bytes_per_second: Bandwidth that sends that memory within the downtime limit.
        bandwidth_bytes_per_second: Smoothed over some seconds, and the base of the required downtime.
        capabilities: Features that decide on the advice; see `qemu_migration_exporter.present.advice`.
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
