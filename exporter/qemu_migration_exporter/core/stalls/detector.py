"""The verdict on one migration: whether it is stalled, since when, why, and which numbers would end the stall.

    boundary, window ──> Convergence ──> stall of the rounds ─┐
                                                              ├─> at most one stall in force ──> changes
    state, phase, time ──> WaitTimer ──> stall of a wait ─────┘

Two kinds of evidence make a stall (`reasons` has the table). Rounds are judged when a bandwidth window ends. A wait
becomes a stall at its deadline, and replaces a stall of the rounds, because then nothing moves at all.

Time is checked lazily. `next_check_ns` is the time of the next deadline: before it, `tick` changes nothing and need
not be called. Progress only postpones a deadline, so the deadline is computed at a check and not at every event.
`next_check_ns` is NEVER_NS without a wait, and 0 while a wait is stalled, so that the next event can end the stall.

While a stall lasts, its reason, bandwidth and requirements are updated at every judged boundary; its end keeps the last
values. While the guest is paused for another reason than the downtime, no round is judged, because a guest that does
not run dirties no memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from qemu_migration_exporter.core.changes import Change, StallCleared, Stalled
from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.model import Capabilities, Stall, StallReason, Verdict
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.bandwidth import Bandwidth, set_by_operator
from qemu_migration_exporter.core.stalls.convergence import Convergence, Rules
from qemu_migration_exporter.core.stalls.eta import Interval, eta_by_chance, eta_of_bulk, eta_of_rounds
from qemu_migration_exporter.core.stalls.ewma import Ewma
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimeouts, WaitTimer

#: Later than any time that a stream can give.
NEVER_NS: Final = 2**80

_MS_PER_SECOND: Final = 1_000

_NS: Final = 1e9

#: Stalls kept for the summary of one migration; later stalls are reported when they happen, and left out of it.
_MAX_STALLS: Final = 1_000

#: Smoothing of the rate at which pending falls in the bulk round: longer than a run of zero pages.
_BULK_SMOOTHING_SECONDS: Final = 5.0

#: Boundaries used for an estimate; few, because every read of the numbers computes an estimate.
_ETA_BOUNDARIES: Final = 64

#: Share of a boundary's pending bytes. If less was newly dirtied, the rest is not memory.
_STATE_SHARE: Final = 0.1

#: Rounds that overlap a pause, including the round in which the guest resumes, prove nothing.
_ROUNDS_AFTER_PAUSE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StallPolicy:
    """Thresholds and timeouts of the detector."""

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
    def last_transferred_bytes(self) -> int | None: ...
    @property
    def last_dirtied_bytes(self) -> int | None: ...
    @property
    def downtime_limit_seconds(self) -> float | None: ...
    @property
    def may_postcopy(self) -> bool: ...


@dataclass(slots=True)
class StallDetector:
    """The stalls of one migration, found by boundaries and by silence.

    Every method that may begin or end a stall returns the changes. A checkpoint keeps the object as plain data.

    Attributes:
        next_check_ns: Before this time, `tick` changes nothing; 0 asks for a check at the next event.
        stalls: The stalls that are over, and the stall in force.
        progress_ns: Time of the last progress.
        last_reported_ns: Time of the last change, which may be in the middle of a silence.
    """

    trace_id: str
    progress_ns: int
    last_reported_ns: int
    convergence: Convergence
    waits: WaitTimer
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    next_check_ns: int = NEVER_NS
    stalls: list[Stall] = field(default_factory=list)
    switchover_bandwidth: float | None = None
    is_throttled: bool = False
    is_throttled_max: bool = False
    rounds_are_over: bool = False
    is_paused: bool = False
    rounds_to_skip: int = 0
    bulk_rate: Ewma = field(default_factory=lambda: Ewma(_BULK_SMOOTHING_SECONDS))
    bulk_pending: int | None = None
    bulk_ns: int = 0
    stall: Stall | None = None
    count: int = 0

    @classmethod
    def begin(cls, trace_id: str, start_ns: int, policy: StallPolicy) -> StallDetector:
        """Return the detector of a new migration."""
        return cls(
            trace_id=trace_id,
            progress_ns=start_ns,
            last_reported_ns=start_ns,
            convergence=Convergence(policy.rules),
            waits=WaitTimer(policy.limits, start_ns),
        )

    def use(self, policy: StallPolicy) -> None:
        """Replace the policy."""
        self.convergence.rules, self.waits.limits = policy.rules, policy.limits

    # The rounds

    def pending_seen(
        self, at_ns: int, pending: int, *, is_boundary: bool, numbers: PrecopyNumbers
    ) -> Sequence[StallCleared]:
        """Add pending bytes: in the bulk round every decrease is progress, later only a lower boundary."""
        number = numbers.round
        if number <= 1:
            self.progress_ns = at_ns
            self._follow_bulk(at_ns, pending)
            return ()
        if not is_boundary or self.is_paused:
            return ()
        self._check_threshold(at_ns, pending, numbers.threshold)
        if self.rounds_to_skip:
            self.rounds_to_skip -= 1
            return ()
        if self.convergence.boundary(at_ns, number, pending):
            self.progress_ns = at_ns
        return self._clear_if_converging(at_ns)

    def window_seen(
        self, at_ns: int, event: Transferred, numbers: PrecopyNumbers, parameters: Parameters
    ) -> Sequence[Change]:
        """Add a bandwidth window, and judge the boundary before it."""
        if event.transferred is not None and event.time_spent_ms:
            seconds = event.time_spent_ms / _MS_PER_SECOND
            self.bandwidth.window(event.transferred, seconds, max_bandwidth=parameters.max_bandwidth)
        if event.switchover_bandwidth is not None:
            self.switchover_bandwidth = set_by_operator(event)
        if event.threshold is not None and event.threshold > 0:
            self.convergence.window(at_ns, event.threshold)
        cleared = self._clear_if_converging(at_ns)
        is_judged = not self.is_paused and self.convergence.judge() is not None
        if not self.convergence.is_stalled:
            return cleared
        reason = self._reason_of_rounds(numbers, parameters)
        if self.stall is None:
            if (self.convergence.last_pending or 0) < (event.threshold or 0):
                return cleared  # QEMU stops the guest next
            since_ns = self.convergence.best_ns or at_ns
            begun = self._begin(reason, since_ns=since_ns, at_ns=at_ns, numbers=numbers, parameters=parameters)
            return [*cleared, begun]
        if is_judged and self.stall.reason in ROUND_REASONS:
            self._renew(self.stall, reason, numbers, parameters)
        return cleared

    def throttled(self, at_ns: int, *, steps: int, ratio: float | None, parameters: Parameters) -> None:
        """Add a step of auto-converge: the number of steps, and the throttle's percentage if QEMU prints it."""
        if self.is_throttled_max:
            return  # QEMU continues to print steps at the greatest throttle
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

    # Pauses

    def paused(self, at_ns: int) -> Sequence[StallCleared]:
        """End a stall of the rounds: the guest was paused, and dirties nothing."""
        self.is_paused = True
        self.convergence.restart()
        return self._clear_rounds(at_ns)

    def resumed(self, _at_ns: int) -> None:
        """Judge again from the next round that the guest runs through."""
        self.is_paused, self.rounds_to_skip = False, _ROUNDS_AFTER_PAUSE

    # Waits

    def tick(self, now_ns: int, numbers: PrecopyNumbers, parameters: Parameters) -> Sequence[Change]:
        """Begin or end the stall of a wait, as of `now_ns`."""
        changes = self._check_wait(now_ns, numbers, parameters)
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
        shrinks = eta is not None and numbers.round > 1 and not convergence.is_near
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

    def _follow_bulk(self, at_ns: int, pending: int) -> None:
        """Update the rate at which pending falls in the bulk round, where zero pages are sent almost for free."""
        if self.bulk_pending is not None and at_ns > self.bulk_ns:
            elapsed = (at_ns - self.bulk_ns) / _NS
            self.bulk_rate.update(max(0, self.bulk_pending - pending) / elapsed, elapsed)
        self.bulk_pending, self.bulk_ns = pending, at_ns

    def _check_threshold(self, at_ns: int, pending: int, threshold: int | None) -> None:
        """Compare a boundary with the threshold: below it QEMU stops the guest, unless it waits for the destination."""
        if threshold is None or pending >= threshold:
            self.waits.above_threshold()
            return
        went_on = self.waits.goes_on_below
        self.waits.below_threshold(at_ns)
        if self.waits.goes_on_below and not went_on:
            self.next_check_ns = 0

    def _reason_of_rounds(self, numbers: PrecopyNumbers, parameters: Parameters) -> StallReason:
        pending, dirtied = self.convergence.last_pending, numbers.last_dirtied_bytes
        if pending is not None and dirtied is not None:
            memory = max(dirtied, numbers.last_transferred_bytes or 0)
            if memory < _STATE_SHARE * pending:
                return StallReason.DEVICE_STATE
        if self.is_throttled_max:
            return StallReason.THROTTLED_MAX
        is_capped = self.bandwidth.is_capped(parameters.max_bandwidth)
        return StallReason.BANDWIDTH_CAP if is_capped else StallReason.DIRTY_RATE

    def _required(self, numbers: PrecopyNumbers, reason: StallReason | None) -> tuple[float | None, float | None]:
        """Return the downtime and the bandwidth that the pending bytes of the last boundary take.

        QEMU computes with avail-switchover-bandwidth if that is set (8.2 and later). If almost nothing is sent before
        the switchover, as with device state, the present bandwidth is no evidence, and the best bandwidth is used.
        """
        pending, limit = self.convergence.last_pending, numbers.downtime_limit_seconds
        seen = self.bandwidth.best if reason is StallReason.DEVICE_STATE else self.bandwidth.bytes_per_second
        bandwidth = self.switchover_bandwidth or seen
        downtime = pending / bandwidth if pending is not None and bandwidth else None
        return downtime, pending / limit if pending is not None and limit else None

    def _eta(self, now_ns: int, numbers: PrecopyNumbers) -> Interval | None:
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

    def _capabilities(self, numbers: PrecopyNumbers, parameters: Parameters) -> Capabilities:
        switched = parameters.capabilities
        return Capabilities(
            postcopy=switched.get("postcopy-ram", numbers.may_postcopy),
            auto_converge=self.is_throttled or switched.get("auto-converge", False),
            dirty_limit=switched.get("dirty-limit", False),
            max_bandwidth=parameters.max_bandwidth,
            multifd=switched.get("multifd", False),
            switchover_bandwidth=None if self.switchover_bandwidth is None else round(self.switchover_bandwidth),
        )

    def _begin(
        self, reason: StallReason, *, since_ns: int, at_ns: int, numbers: PrecopyNumbers, parameters: Parameters
    ) -> Stalled:
        self.count += 1
        self.stall = self._with_numbers(
            Stall(
                number=self.count, start_ns=at_ns, end_ns=None, since_ns=since_ns, reason=reason, round=numbers.round
            ),
            numbers,
            parameters,
        )
        if len(self.stalls) < _MAX_STALLS:
            self.stalls.append(self.stall)
        self.last_reported_ns = at_ns
        return Stalled(self.trace_id, self.stall)

    def _renew(self, stall: Stall, reason: StallReason, numbers: PrecopyNumbers, parameters: Parameters) -> None:
        """Update the reason and the numbers of the stall in force."""
        self.stall = self._with_numbers(replace(stall, reason=reason), numbers, parameters)
        if self.stalls and self.stalls[-1].number == stall.number:
            self.stalls[-1] = self.stall

    def _with_numbers(self, stall: Stall, numbers: PrecopyNumbers, parameters: Parameters) -> Stall:
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

    def _clear_if_converging(self, at_ns: int) -> Sequence[StallCleared]:
        return () if self.convergence.is_stalled else self._clear_rounds(at_ns)

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
