"""The verdict on one migration: whether it is stalled, since when, why, and what would end that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from qemu_migration_exporter.core.changes import Change, StallCleared, Stalled
from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.model import Capabilities, Stall, StallReason, Verdict
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.bandwidth import Bandwidth
from qemu_migration_exporter.core.stalls.convergence import Convergence, Rules
from qemu_migration_exporter.core.stalls.eta import EtaEstimator
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimeouts, WaitTimer

#: Later than any time that a stream can give.
NEVER_NS: Final = 2**80

_MS_PER_SECOND: Final = 1_000

#: A guest that stalls and goes on all day is told so often; the rest is counted in nothing but the metrics' present.
_MAX_STALLS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StallPolicy:
    """What counts as stalled."""

    rules: Rules = field(default_factory=Rules)
    limits: WaitTimeouts = field(default_factory=WaitTimeouts)


class PrecopyNumbers(Protocol):
    """The numbers of a migration that the detector reads and does not keep."""

    @property
    def round(self) -> int: ...
    @property
    def threshold(self) -> int | None: ...
    @property
    def dirty_bytes_per_second(self) -> float | None: ...
    @property
    def downtime_limit_seconds(self) -> float | None: ...
    @property
    def may_postcopy(self) -> bool: ...


@dataclass(slots=True)
class StallDetector:
    """The stalls of one migration, found by its boundaries and by its silence.

    Every method that may begin or end a stall returns the changes. The object is plain data: a checkpoint keeps it.

    Attributes:
        next_check_ns: Before this time, `tick` changes nothing; 0 asks for a check at the next event.
        stalls: Those that are over, and the one in force.
        progress_ns: When the migration last got nearer to its end.
        last_reported_ns: Time of the last change, which may be in the middle of a silence.
    """

    trace_id: str
    progress_ns: int
    last_reported_ns: int
    convergence: Convergence
    waits: WaitTimer
    trend: EtaEstimator = field(default_factory=EtaEstimator)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    next_check_ns: int = NEVER_NS
    stalls: list[Stall] = field(default_factory=list)
    switchover_bandwidth: float | None = None
    is_throttled: bool = False
    is_throttled_max: bool = False
    rounds_are_over: bool = False
    stall: Stall | None = None
    count: int = 0

    @classmethod
    def begin(cls, trace_id: str, start_ns: int, policy: StallPolicy) -> StallDetector:
        """Make the detector of a migration that begins."""
        return cls(
            trace_id=trace_id,
            progress_ns=start_ns,
            last_reported_ns=start_ns,
            convergence=Convergence(policy.rules),
            waits=WaitTimer(policy.limits, start_ns),
        )

    def use(self, policy: StallPolicy) -> None:
        """Judge by this policy from now on."""
        self.convergence.rules, self.waits.limits = policy.rules, policy.limits

    # The rounds

    def pending_seen(
        self, at_ns: int, pending: int, *, is_boundary: bool, numbers: PrecopyNumbers
    ) -> Sequence[StallCleared]:
        """Add pending bytes: in the bulk round every byte less is progress, after that only a boundary can be."""
        number = numbers.round
        if number <= 1:
            self.progress_ns = at_ns
            return ()
        if not is_boundary:
            return ()
        self.trend.boundary(at_ns, pending)
        if not self.convergence.boundary(at_ns, number, pending):
            return ()
        self.progress_ns = at_ns
        return self._clear_rounds(at_ns)

    def window_seen(
        self, at_ns: int, event: Transferred, numbers: PrecopyNumbers, parameters: Parameters
    ) -> Sequence[Change]:
        """Add a bandwidth window, and judge the boundary before it."""
        if event.transferred is not None and event.time_spent_ms:
            self.bandwidth.window(event.transferred, event.time_spent_ms / _MS_PER_SECOND)
        if event.switchover_bandwidth is not None:
            self.switchover_bandwidth = float(event.switchover_bandwidth) * _MS_PER_SECOND
        convergence = self.convergence
        if event.threshold is not None and event.threshold > 0:
            convergence.window(at_ns, event.threshold)
        if self.stall is not None and self.stall.reason in ROUND_REASONS:
            if not convergence.fits:
                return ()
            convergence.restart(at_ns)
            return self._clear(at_ns)
        if not convergence.judge() or convergence.progress_ns is None:
            return ()
        since_ns = convergence.best_ns or at_ns
        cleared = self._clear(at_ns)
        reason = self._reason_of_rounds(parameters)
        return [*cleared, self._begin(reason, since_ns=since_ns, at_ns=at_ns, numbers=numbers, parameters=parameters)]

    def throttled(self, at_ns: int, *, steps: int, ratio: float | None, parameters: Parameters) -> None:
        """Add a step of auto-converge: their count, and how far the guest is slowed where QEMU prints that."""
        if self.is_throttled_max:
            return  # QEMU goes on to print what changes nothing any more
        reached = steps >= parameters.throttle_steps()
        if ratio is not None:
            reached = round(100 * ratio) >= parameters.throttle_max
        self.is_throttled, self.is_throttled_max = True, reached
        self.convergence.eased(at_ns, is_last=reached)

    def rounds_ended(self, at_ns: int) -> Sequence[StallCleared]:
        """End the rounds: the switchover comes next."""
        self.progress_ns = at_ns
        self.rounds_are_over = True
        return self._clear_rounds(at_ns)

    # Waits

    def tick(self, now_ns: int, numbers: PrecopyNumbers, parameters: Parameters) -> Sequence[Change]:
        """Begin or end the stall that a wait makes by `now_ns`."""
        changes = self._check_wait(now_ns, numbers, parameters)
        # Movement puts a deadline off and nothing brings it on, so none has to be looked at before it passes.
        wait = self.waits.present
        is_waiting = self.stall is not None and self.stall.reason not in ROUND_REASONS
        self.next_check_ns = 0 if is_waiting else NEVER_NS if wait is None else wait.deadline_ns
        return changes

    def _check_wait(self, now_ns: int, numbers: PrecopyNumbers, parameters: Parameters) -> Sequence[Change]:
        wait, stall = self.waits.present, self.stall
        if wait is None or now_ns < wait.deadline_ns:
            return self._clear(now_ns) if stall is not None and stall.reason not in ROUND_REASONS else ()
        if stall is not None and stall.reason is wait.reason:
            return ()
        cleared, at_ns = self._clear(wait.deadline_ns), wait.deadline_ns
        return [
            *cleared,
            self._begin(wait.reason, since_ns=wait.since_ns, at_ns=at_ns, numbers=numbers, parameters=parameters),
        ]

    # The verdict

    def verdict(
        self, now_ns: int, *, converged: bool, is_over: bool, numbers: PrecopyNumbers, parameters: Parameters
    ) -> Verdict:
        """Return the verdict at `now_ns`, or the last one once the migration is over.

        Args:
            now_ns: The present on the stream's clock.
            converged: The migration reached the switchover by itself.
            is_over: There is an outcome; what would have ended the last stall is still worth knowing then.
            numbers: Of the rounds.
            parameters: Of QMP.
        """
        stall, convergence = self.stall, self.convergence
        eta = None if stall is not None or self.rounds_are_over else self._eta(now_ns, numbers)
        last = self.stalls[-1] if is_over and self.stalls else None
        required_downtime, required_bandwidth = self._required(numbers)
        return Verdict(
            converging=False if stall is not None else True if converged or eta is not None else None,
            stalled_since_ns=None if stall is None else stall.since_ns,
            reason=stall.reason if stall is not None else last.reason if last is not None else None,
            best_pending_bytes=convergence.best_pending,
            best_round=convergence.best_round,
            eta_seconds=None if is_over else eta,
            required_downtime_seconds=required_downtime if last is None else last.required_downtime_seconds,
            required_bandwidth_bytes_per_second=(
                required_bandwidth if last is None else last.required_bandwidth_bytes_per_second
            ),
            bandwidth_bytes_per_second=(
                self.bandwidth.bytes_per_second if last is None else last.bandwidth_bytes_per_second
            ),
            capabilities=self._capabilities(numbers, parameters) if last is None else last.capabilities,
        )

    def _reason_of_rounds(self, parameters: Parameters) -> StallReason:
        if self.is_throttled_max:
            return StallReason.THROTTLED_MAX
        is_capped = self.bandwidth.is_capped(parameters.max_bandwidth)
        return StallReason.BANDWIDTH_CAP if is_capped else StallReason.DIRTY_RATE

    def _required(self, numbers: PrecopyNumbers) -> tuple[float | None, float | None]:
        """Return the downtime and the bandwidth that the last boundary's memory takes."""
        pending, limit = self.convergence.last_pending, numbers.downtime_limit_seconds
        # QEMU reckons with the bandwidth it was told to expect in the switchover, if it was (8.2 and later).
        bandwidth = self.switchover_bandwidth or self.bandwidth.bytes_per_second
        downtime = pending / bandwidth if pending is not None and bandwidth else None
        return downtime, pending / limit if pending is not None and limit else None

    def _eta(self, now_ns: int, numbers: PrecopyNumbers) -> tuple[float, float] | None:
        return self.trend.eta_seconds(now_ns, threshold=numbers.threshold, bandwidth=self.bandwidth.bytes_per_second)

    def _capabilities(self, numbers: PrecopyNumbers, parameters: Parameters) -> Capabilities:
        return Capabilities(
            postcopy=parameters.capabilities.get("postcopy-ram", numbers.may_postcopy),
            auto_converge=self.is_throttled or parameters.capabilities.get("auto-converge", False),
            max_bandwidth=parameters.max_bandwidth,
        )

    def _begin(
        self, reason: StallReason, *, since_ns: int, at_ns: int, numbers: PrecopyNumbers, parameters: Parameters
    ) -> Stalled:
        convergence = self.convergence
        required_downtime, required_bandwidth = self._required(numbers)
        self.count += 1
        self.stall = Stall(
            number=self.count,
            start_ns=at_ns,
            end_ns=None,
            since_ns=since_ns,
            reason=reason,
            round=numbers.round,
            pending_bytes=convergence.last_pending,
            best_pending_bytes=convergence.best_pending,
            best_round=convergence.best_round,
            bandwidth_bytes_per_second=self.bandwidth.bytes_per_second,
            dirty_bytes_per_second=numbers.dirty_bytes_per_second,
            downtime_limit_seconds=numbers.downtime_limit_seconds,
            required_downtime_seconds=required_downtime,
            required_bandwidth_bytes_per_second=required_bandwidth,
            capabilities=self._capabilities(numbers, parameters),
        )
        if len(self.stalls) < _MAX_STALLS:
            self.stalls.append(self.stall)
        self.last_reported_ns = at_ns
        return Stalled(self.trace_id, self.stall)

    def _clear_rounds(self, at_ns: int) -> Sequence[StallCleared]:
        return self._clear(at_ns) if self.stall is not None and self.stall.reason in ROUND_REASONS else ()

    def _clear(self, at_ns: int) -> Sequence[StallCleared]:
        stall, self.stall = self.stall, None
        if stall is None:
            return ()
        self.last_reported_ns = max(at_ns, stall.start_ns)
        stall = replace(stall, end_ns=self.last_reported_ns)
        if self.stalls and self.stalls[-1].number == stall.number:
            self.stalls[-1] = stall
        return [StallCleared(self.trace_id, stall)]
