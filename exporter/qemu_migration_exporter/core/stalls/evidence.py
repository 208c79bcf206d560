"""The evidence about one migration's convergence, and the numbers that follow from it when they are read.

The detector adds evidence at boundaries and windows. Nothing here begins or ends a stall: the verdict, the ETA and the
requirements are computed from the evidence of the moment, and no result is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from qemu_migration_exporter.core.measures.precopy import Precopy
from qemu_migration_exporter.core.model import Capabilities, Stall, StallReason, Verdict
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.bandwidth import Bandwidth
from qemu_migration_exporter.core.stalls.convergence import Convergence
from qemu_migration_exporter.core.stalls.eta import Interval, eta_by_chance, eta_of_bulk, eta_of_rounds
from qemu_migration_exporter.core.stalls.ewma import Ewma
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS

_NS: Final = 1e9

#: Smoothing of the rate at which pending falls in the bulk round: longer than a run of zero pages.
_BULK_SMOOTHING_SECONDS: Final = 5.0

#: Boundaries used for an estimate; few, because every read of the numbers computes an estimate.
_ETA_BOUNDARIES: Final = 64

#: Share of a boundary's pending bytes. If less was newly dirtied, the rest is not memory.
_STATE_SHARE: Final = 0.1


@dataclass(slots=True, kw_only=True)
class Evidence:
    """The evidence about one migration.

    Attributes:
        switchover_bandwidth: avail-switchover-bandwidth in bytes per second, None if unset.
        is_throttled, is_throttled_max: Auto-converge has throttled the guest, and cannot throttle it more.
        rounds_are_over: The switchover came.
        judges_rounds: The job is a live migration; another job has no downtime to fit into.
        is_paused: The guest is paused for another reason than the downtime.
        bulk_rate, bulk_pending, bulk_ns: The rate at which pending falls in the bulk round, and its last value.
        stall: The stall in force.
        stalls: The stalls that are over, and the stall in force.
    """

    convergence: Convergence
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    switchover_bandwidth: float | None = None
    is_throttled: bool = False
    is_throttled_max: bool = False
    rounds_are_over: bool = False
    judges_rounds: bool = True
    is_paused: bool = False
    bulk_rate: Ewma = field(default_factory=lambda: Ewma(_BULK_SMOOTHING_SECONDS))
    bulk_pending: int | None = None
    bulk_ns: int = 0
    stall: Stall | None = None
    stalls: list[Stall] = field(default_factory=list)

    def verdict(
        self, now_ns: int, *, converged: bool, is_over: bool, numbers: Precopy, parameters: Parameters
    ) -> Verdict:
        """Return the verdict at `now_ns`, or the last verdict once the migration is over.

        Args:
            now_ns: The present on the stream's clock.
            converged: The migration reached the switchover by itself.
            is_over: True after the outcome; the verdict then has the requirements of the last stall.
            numbers: The numbers of the rounds.
            parameters: The parameters set by QMP.
        """
        stall, convergence = self.stall, self.convergence
        last = self.stalls[-1] if is_over and self.stalls else stall
        if is_over and last is not None:
            required = last.required_downtime_seconds, last.required_bandwidth_bytes_per_second
            bandwidth, capabilities = last.bandwidth_bytes_per_second, last.capabilities
        else:
            required = self._required(numbers, None if stall is None else stall.reason)
            bandwidth, capabilities = self.bandwidth.bytes_per_second, self._capabilities(numbers, parameters)
        eta = None if stall is not None or is_over or self.rounds_are_over else self._eta(now_ns, numbers)
        shrinks = eta is not None and numbers.round > 1 and not convergence.is_near and self.judges_rounds
        return Verdict(
            converging=False if stall is not None else True if converged or shrinks else None,
            stalled_since_ns=None if stall is None else stall.since_ns,
            reason=None if last is None else last.reason,
            best_pending_bytes=convergence.best_pending,
            best_round=convergence.best_round,
            eta_seconds=eta,
            best_case_seconds=None if stall is None else stall.best_case_seconds,
            required_downtime_seconds=required[0],
            required_bandwidth_bytes_per_second=required[1],
            bandwidth_bytes_per_second=bandwidth,
            capabilities=capabilities,
        )

    def with_numbers(self, stall: Stall, numbers: Precopy, parameters: Parameters) -> Stall:
        """Return a stall with the present numbers."""
        convergence = self.convergence
        required_downtime, required_bandwidth = self._required(numbers, stall.reason)
        return replace(
            stall,
            pending_bytes=convergence.last_pending,
            best_pending_bytes=convergence.best_pending,
            best_round=convergence.best_round,
            best_case_seconds=convergence.best_case_seconds if stall.reason in ROUND_REASONS else None,
            bandwidth_bytes_per_second=self.bandwidth.bytes_per_second,
            dirty_bytes_per_second=numbers.dirty_bytes_per_second,
            downtime_limit_seconds=numbers.downtime_limit_seconds,
            required_downtime_seconds=required_downtime,
            required_bandwidth_bytes_per_second=required_bandwidth,
            capabilities=self._capabilities(numbers, parameters),
        )

    def reason_of_rounds(self, numbers: Precopy, parameters: Parameters) -> StallReason:
        """Return the cause of a stall of the rounds."""
        pending, dirtied = self.convergence.last_pending, numbers.last_dirtied_bytes
        if pending is not None and dirtied is not None:
            memory = max(dirtied, numbers.last_transferred_bytes or 0)
            if memory < _STATE_SHARE * pending:
                return StallReason.DEVICE_STATE
        if self.is_throttled_max:
            return StallReason.THROTTLED_MAX
        is_capped = self.bandwidth.is_capped(parameters.max_bandwidth)
        return StallReason.BANDWIDTH_CAP if is_capped else StallReason.DIRTY_RATE

    def follow_bulk(self, at_ns: int, pending: int) -> None:
        """Update the rate at which pending falls in the bulk round, where zero pages are sent almost for free."""
        if self.bulk_pending is not None and at_ns > self.bulk_ns:
            elapsed = (at_ns - self.bulk_ns) / _NS
            self.bulk_rate.update(max(0, self.bulk_pending - pending) / elapsed, elapsed)
        self.bulk_pending, self.bulk_ns = pending, at_ns

    def _required(self, numbers: Precopy, reason: StallReason | None) -> tuple[float | None, float | None]:
        """Return the downtime and the bandwidth that the pending bytes of the last boundary take.

        QEMU computes with avail-switchover-bandwidth if that is set (8.2 and later). If almost nothing is sent before
        the switchover, as with device state, the present bandwidth is no evidence, and the best bandwidth is used.
        """
        pending, limit = self.convergence.last_pending, numbers.downtime_limit_seconds
        seen = self.bandwidth.best if reason is StallReason.DEVICE_STATE else self.bandwidth.bytes_per_second
        bandwidth = self.switchover_bandwidth or seen
        downtime = pending / bandwidth if pending is not None and bandwidth else None
        return downtime, pending / limit if pending is not None and limit else None

    def _eta(self, now_ns: int, numbers: Precopy) -> Interval | None:
        if self.is_paused:
            return None
        if numbers.round <= 1:
            return None if self.bulk_pending is None else eta_of_bulk(self.bulk_pending, self.bulk_rate.value)
        convergence = self.convergence
        if convergence.is_near:
            return eta_by_chance(convergence.seconds_since_progress(now_ns))
        return eta_of_rounds(
            convergence.boundaries[-_ETA_BOUNDARIES:],
            threshold=convergence.smoothed.value or 0.0,
            bandwidth=self.bandwidth.bytes_per_second or 0.0,
            dirty_rate=numbers.dirty_bytes_per_second,
            is_dip=convergence.is_dip,
            elapsed=convergence.seconds_since_boundary(now_ns),
        )

    def _capabilities(self, numbers: Precopy, parameters: Parameters) -> Capabilities:
        switched = parameters.capabilities
        return Capabilities(
            postcopy=switched.get("postcopy-ram", numbers.may_postcopy),
            auto_converge=self.is_throttled or switched.get("auto-converge", False),
            dirty_limit=switched.get("dirty-limit", False),
            max_bandwidth=parameters.max_bandwidth,
            multifd=switched.get("multifd", False),
            switchover_bandwidth=None if self.switchover_bandwidth is None else round(self.switchover_bandwidth),
        )
