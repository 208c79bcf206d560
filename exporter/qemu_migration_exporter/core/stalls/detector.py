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
from typing import Final

from qemu_migration_exporter.core.changes import Change, StallCleared, Stalled
from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.measures.precopy import Precopy
from qemu_migration_exporter.core.model import Stall, StallReason
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.bandwidth import set_by_operator
from qemu_migration_exporter.core.stalls.convergence import Convergence, Rules
from qemu_migration_exporter.core.stalls.evidence import Evidence
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimeouts, WaitTimer

#: Later than any time that a stream can give.
NEVER_NS: Final = 2**80

_MS_PER_SECOND: Final = 1_000

#: Stalls kept for the summary of one migration; later stalls are reported when they happen, and left out of it.
_MAX_STALLS: Final = 1_000

#: Rounds that overlap a pause, including the round in which the guest resumes, prove nothing.
_ROUNDS_AFTER_PAUSE: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StallPolicy:
    """Thresholds and timeouts of the detector."""

    rules: Rules = field(default_factory=Rules)
    limits: WaitTimeouts = field(default_factory=WaitTimeouts)


@dataclass(slots=True, kw_only=True)
class StallDetector(Evidence):
    """The stalls of one migration, found by boundaries and by silence.

    Every method that may begin or end a stall returns the changes. A checkpoint keeps the object as plain data.

    Attributes:
        next_check_ns: Before this time, `tick` changes nothing; 0 asks for a check at the next event.
        progress_ns: Time of the last progress.
        last_reported_ns: Time of the last change, which may be in the middle of a silence.
        rounds_to_skip: Rounds to come that a pause overlaps.
        count: The number of stalls so far.
    """

    trace_id: str
    progress_ns: int
    last_reported_ns: int
    waits: WaitTimer
    next_check_ns: int = NEVER_NS
    rounds_to_skip: int = 0
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

    def pending_seen(self, at_ns: int, pending: int, *, is_boundary: bool, numbers: Precopy) -> Sequence[StallCleared]:
        """Add pending bytes: in the bulk round every decrease is progress, later only a lower boundary."""
        number = numbers.rounds.number
        if number <= 1:
            self.progress_ns = at_ns
            self.follow_bulk(at_ns, pending)
            return ()
        if not is_boundary or self.is_paused:
            return ()
        threshold = numbers.threshold
        if self.waits.below_threshold_ns is not None or (threshold is not None and pending < threshold):
            self._check_threshold(at_ns, pending, threshold)
        if self.rounds_to_skip:
            self.rounds_to_skip -= 1
            return ()
        if self.convergence.boundary(at_ns, number, pending):
            self.progress_ns = at_ns
        return self._clear_if_converging(at_ns)

    def window_seen(self, at_ns: int, event: Transferred, numbers: Precopy, parameters: Parameters) -> Sequence[Change]:
        """Add a bandwidth window, and judge the boundary before it."""
        if event.transferred is not None and event.time_spent_ms:
            seconds = event.time_spent_ms / _MS_PER_SECOND
            self.bandwidth.window(event.transferred, seconds, max_bandwidth=parameters.max_bandwidth)
        if event.switchover_bandwidth is not None:
            self.switchover_bandwidth = set_by_operator(event)
        if event.threshold is not None and event.threshold > 0:
            self.convergence.window(at_ns, event.threshold)
        if not self.judges_rounds:
            return self._clear_rounds(at_ns)
        cleared = () if self.stall is None else self._clear_if_converging(at_ns)
        is_judged = not (self.convergence.is_judged or self.is_paused) and self.convergence.judge() is not None
        if not self.convergence.is_stalled:
            return cleared
        if self.stall is None:
            if (self.convergence.last_pending or 0) < (event.threshold or 0):
                return cleared  # QEMU stops the guest next
            since_ns = self.convergence.best_ns or at_ns
            reason = self.reason_of_rounds(numbers, parameters)
            begun = self._begin(reason, since_ns=since_ns, at_ns=at_ns, numbers=numbers, parameters=parameters)
            return [*cleared, begun]
        if is_judged and self.stall.reason in ROUND_REASONS:
            self._renew(self.stall, self.reason_of_rounds(numbers, parameters), numbers, parameters)
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

    def tick(self, now_ns: int, numbers: Precopy, parameters: Parameters) -> Sequence[Change]:
        """Begin or end the stall of a wait, as of `now_ns`."""
        changes = self._check_wait(now_ns, numbers, parameters)
        wait = self.waits.present
        is_waiting = self.stall is not None and self.stall.reason not in ROUND_REASONS
        self.next_check_ns = 0 if is_waiting else NEVER_NS if wait is None else wait.deadline_ns
        return changes

    def _check_wait(self, now_ns: int, numbers: Precopy, parameters: Parameters) -> Sequence[Change]:
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

    def _check_threshold(self, at_ns: int, pending: int, threshold: int | None) -> None:
        """Compare a boundary with the threshold: below it QEMU stops the guest, unless it waits for the destination."""
        if threshold is None or pending >= threshold:
            self.waits.above_threshold()
            return
        went_on = self.waits.goes_on_below
        self.waits.below_threshold(at_ns)
        if self.waits.goes_on_below and not went_on:
            self.next_check_ns = 0

    def _begin(
        self, reason: StallReason, *, since_ns: int, at_ns: int, numbers: Precopy, parameters: Parameters
    ) -> Stalled:
        self.count += 1
        self.stall = self.with_numbers(
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

    def _renew(self, stall: Stall, reason: StallReason, numbers: Precopy, parameters: Parameters) -> None:
        """Update the reason and the numbers of the stall in force."""
        self.stall = self.with_numbers(replace(stall, reason=reason), numbers, parameters)
        if self.stalls and self.stalls[-1].number == stall.number:
            self.stalls[-1] = self.stall

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
