"""The verdict on one migration: whether it is stalled, since when, why, and what would end that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from qemu_migration_exporter.core.changes import Change, StallCleared, Stalled
from qemu_migration_exporter.core.events import Transferred
from qemu_migration_exporter.core.model import Capabilities, PhaseName, Stall, StallReason, Verdict
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.bandwidth import Bandwidth
from qemu_migration_exporter.core.stalls.convergence import Convergence, Rules
from qemu_migration_exporter.core.stalls.eta import EtaEstimator
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.core.stalls.wait_timer import Wait, WaitTimeouts, WaitTimer
from qemu_migration_exporter.core.tracking.precopy import Precopy

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


class StallDetector:
    """StallDetector one migration.

    Attributes:
        due_ns: Before this time, a tick changes nothing.
        stalls: Those that are over, and the one that holds.
        progress_ns: When the migration last got nearer to its end.
        told_ns: When something of it was last told, which may be in the middle of a silence.
    """

    def __init__(
        self,
        trace_id: str,
        vm: str,
        start_ns: int,
        emit: Callable[[Change], None],
        *,
        iteration: Precopy,
        waits: WaitTimer,
        parameters: Parameters,
        rules: Rules,
    ) -> None:
        self.due_ns = NEVER_NS
        self.stalls: list[Stall] = []
        self.progress_ns = self.told_ns = start_ns
        self._trace_id = trace_id
        self._vm = vm
        self._emit = emit
        self._iteration = iteration
        self._parameters = parameters
        self._convergence = Convergence(rules)
        self._trend = EtaEstimator()
        self._waits = waits
        self._bandwidth = Bandwidth()
        self._switchover_bandwidth: float | None = None
        self._is_throttled = self._is_throttled_max = False
        self._rounds_are_over = False
        self._stall: Stall | None = None
        self._number = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out whom to tell: that is no state."""
        return {name: value for name, value in self.__dict__.items() if name != "_emit"}

    def tell(self, emit: Callable[[Change], None]) -> None:
        """Tell changes to `emit` from now on."""
        self._emit = emit

    # The rounds

    def pending_seen(self, at_ns: int, pending: int, *, is_boundary: bool) -> None:
        """Note pending bytes: in the bulk round every byte less is progress, after that only a boundary can be."""
        number = self._iteration.round
        if number <= 1:
            self.progress_ns = at_ns
            return
        if not is_boundary:
            return
        self._trend.boundary(at_ns, pending)
        if self._convergence.boundary(at_ns, number, pending):
            self.progress_ns = at_ns
            self._clear_rounds(at_ns)

    def window_seen(self, at_ns: int, event: Transferred) -> None:
        """Note the end of a bandwidth window, and judge the boundary before it."""
        if event.transferred is not None and event.time_spent_ms:
            self._bandwidth.window(event.transferred, event.time_spent_ms / _MS_PER_SECOND)
        if event.switchover_bandwidth is not None:
            self._switchover_bandwidth = float(event.switchover_bandwidth) * _MS_PER_SECOND
        if event.threshold is not None and event.threshold > 0:
            self._convergence.window(at_ns, event.threshold)
        if self._stall is not None and self._stall.reason in ROUND_REASONS:
            if self._convergence.fits:
                self._convergence.restart(at_ns)
                self._clear(at_ns)
        elif self._convergence.judge() and self._convergence.progress_ns is not None:
            since_ns = self._convergence.best_ns
            self._clear(at_ns)
            self._begin(self._reason_of_rounds(), since_ns=since_ns or at_ns, at_ns=at_ns)

    def throttled(self, at_ns: int, *, steps: int, ratio: float | None) -> None:
        """Note a step of auto-converge: the count of them, and how far the guest is slowed where that is printed."""
        if self._is_throttled_max:
            return  # QEMU goes on to print what changes nothing any more
        reached = steps >= self._parameters.throttle_steps()
        if ratio is not None:
            reached = round(100 * ratio) >= self._parameters.throttle_max
        self._is_throttled, self._is_throttled_max = True, reached
        self._convergence.eased(at_ns, is_last=reached)

    def rounds_ended(self, at_ns: int) -> None:
        """Note that the rounds are over: what comes is the switchover."""
        self.progress_ns = at_ns
        self._rounds_are_over = True
        self._clear_rounds(at_ns)

    # What is silent

    def stands(self, at_ns: int, *, state: str | None, phase: PhaseName | None, sends: bool) -> None:
        """Note where the migration stands after an event, see `WaitTimer.stands`."""
        self._waits.stands(at_ns, state=state, phase=phase, sends=sends)
        self.tick(at_ns)

    def tick(self, now_ns: int) -> bool:
        """Let time pass; say whether that changed anything."""
        changed = self._wait_is(self._waits.present, now_ns)
        self._note_due()
        return changed

    def _wait_is(self, wait: Wait | None, now_ns: int) -> bool:
        stall = self._stall
        if wait is None or now_ns < wait.deadline_ns:
            waited = stall is not None and stall.reason not in ROUND_REASONS
            if waited:
                self._clear(now_ns)
            return waited
        if stall is not None and stall.reason is wait.reason:
            return False
        self._clear(wait.deadline_ns)
        self._begin(wait.reason, since_ns=wait.since_ns, at_ns=wait.deadline_ns)
        return True

    def _note_due(self) -> None:
        """Reckon when to look at the time again. What moves meanwhile puts a deadline off, and nothing brings it on."""
        wait = self._waits.present
        is_waiting = self._stall is not None and self._stall.reason not in ROUND_REASONS
        self.due_ns = 0 if is_waiting else NEVER_NS if wait is None else wait.deadline_ns

    # What it comes to

    def verdict(self, now_ns: int, *, converged: bool, is_over: bool) -> Verdict:
        """Say how it stands, or stood when all was over.

        Args:
            now_ns: When it stands so.
            converged: It came to the switchover by itself.
            is_over: There is an outcome. What would have ended the last stall is still worth knowing then.
        """
        stall, convergence = self._stall, self._convergence
        eta = None if stall is not None or self._rounds_are_over else self._eta(now_ns)
        last = self.stalls[-1] if is_over and self.stalls else None
        required_downtime, required_bandwidth = self._required()
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
            capabilities=self._capabilities() if last is None else last.capabilities,
        )

    def _reason_of_rounds(self) -> StallReason:
        if self._is_throttled_max:
            return StallReason.THROTTLED_MAX
        is_capped = self._bandwidth.is_capped(self._parameters.max_bandwidth)
        return StallReason.BANDWIDTH_CAP if is_capped else StallReason.DIRTY_RATE

    def _required(self) -> tuple[float | None, float | None]:
        """Return the downtime and the bandwidth that the last boundary's memory takes."""
        pending, limit = self._convergence.last_pending, self._iteration.downtime_limit_seconds
        # QEMU reckons with the bandwidth it was told to expect in the switchover, if it was (8.2 and later).
        bandwidth = self._switchover_bandwidth or self._bandwidth.bytes_per_second
        downtime = pending / bandwidth if pending is not None and bandwidth else None
        return downtime, pending / limit if pending is not None and limit else None

    def _eta(self, now_ns: int) -> tuple[float, float] | None:
        return self._trend.eta_seconds(
            now_ns, threshold=self._iteration.threshold, bandwidth=self._bandwidth.bytes_per_second
        )

    def _capabilities(self) -> Capabilities:
        parameters = self._parameters
        return Capabilities(
            postcopy=parameters.capabilities.get("postcopy-ram", self._iteration.may_postcopy),
            auto_converge=self._is_throttled or parameters.capabilities.get("auto-converge", False),
            max_bandwidth=parameters.max_bandwidth,
        )

    def _begin(self, reason: StallReason, *, since_ns: int, at_ns: int) -> None:
        iteration, convergence = self._iteration, self._convergence
        required_downtime, required_bandwidth = self._required()
        self._number += 1
        self._stall = Stall(
            number=self._number,
            start_ns=at_ns,
            end_ns=None,
            since_ns=since_ns,
            reason=reason,
            round=iteration.round,
            pending_bytes=convergence.last_pending,
            best_pending_bytes=convergence.best_pending,
            best_round=convergence.best_round,
            bandwidth_bytes_per_second=self._bandwidth.bytes_per_second,
            dirty_bytes_per_second=iteration.dirty_bytes_per_second,
            downtime_limit_seconds=iteration.downtime_limit_seconds,
            required_downtime_seconds=required_downtime,
            required_bandwidth_bytes_per_second=required_bandwidth,
            capabilities=self._capabilities(),
        )
        if len(self.stalls) < _MAX_STALLS:
            self.stalls.append(self._stall)
        self.told_ns = at_ns
        self._emit(Stalled(self._trace_id, self._stall))

    def _clear_rounds(self, at_ns: int) -> None:
        if self._stall is not None and self._stall.reason in ROUND_REASONS:
            self._clear(at_ns)

    def _clear(self, at_ns: int) -> None:
        stall, self._stall = self._stall, None
        if stall is None:
            return
        self.told_ns = max(at_ns, stall.start_ns)
        stall = replace(stall, end_ns=self.told_ns)
        if self.stalls and self.stalls[-1].number == stall.number:
            self.stalls[-1] = stall
        self._emit(StallCleared(self._trace_id, stall))
