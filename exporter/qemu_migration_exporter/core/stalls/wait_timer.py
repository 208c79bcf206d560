"""Waits for the operator, the network or the destination, during which QEMU prints no boundary.

QEMU prints nothing in a wait, so callers pass the time. A wait becomes a stall at its deadline; a late check still
dates the stall to the deadline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from qemu_migration_exporter.core.model import PhaseName, StallReason
from qemu_migration_exporter.core.stalls.reasons import DEFAULT_TIMEOUTS, WAIT_BY_STATE

_NS: Final = 1_000_000_000

#: Phases in which bytes have to move.
_MOVING: Final = frozenset({PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY, PhaseName.POSTCOPY})

#: States in which the end is near, or was requested.
_ENDING: Final = frozenset({"cancelling", "failing"})


@dataclass(frozen=True, slots=True)
class WaitTimeouts:
    """Timeouts after which waits count as stalls.

    Attributes:
        seconds: Timeout in seconds by reason; a missing reason has its default.
    """

    seconds: Mapping[StallReason, float] = field(default_factory=lambda: dict(DEFAULT_TIMEOUTS))

    def limit_ns(self, reason: StallReason) -> int:
        """Return the timeout of a wait in nanoseconds."""
        return round(self.seconds.get(reason, DEFAULT_TIMEOUTS[reason]) * _NS)


class Wait(NamedTuple):
    """One wait.

    Attributes:
        since_ns: Start of the wait.
        deadline_ns: Time at which the wait becomes a stall.
    """

    reason: StallReason
    since_ns: int
    deadline_ns: int


@dataclass(slots=True)
class WaitTimer:
    """The present wait of a migration, as plain data.

    Attributes:
        moved_ns: Time of the last event that moves the migration forward. Nearly every event does, so only its time is
            kept, and deadlines are computed on demand.
        below_threshold_ns: Time since which all boundaries are below the threshold; None if the last is above it.
        goes_on_below: Several boundaries were below the threshold, so QEMU continues although it could stop the guest.
    """

    limits: WaitTimeouts
    moved_ns: int
    reason: StallReason | None = None
    since_ns: int = 0
    below_threshold_ns: int | None = None
    goes_on_below: bool = False

    def state_is(self, at_ns: int, *, state: str | None, phase: PhaseName | None, sends: bool) -> None:
        """Set QEMU's state and the phase from `at_ns` on.

        `sends` is True once an event proved that memory is sent; a stream with nothing but states is always silent.
        """
        reason = _reason(state, phase, sends=sends)
        if reason is not self.reason:
            self.reason, self.since_ns = reason, at_ns
        if phase is not PhaseName.ITERATE:
            self.above_threshold()

    def below_threshold(self, at_ns: int) -> None:
        """Add a boundary that is below the threshold."""
        self.goes_on_below = self.below_threshold_ns is not None
        if self.below_threshold_ns is None:
            self.below_threshold_ns = at_ns

    def above_threshold(self) -> None:
        """Add a boundary that is not below the threshold."""
        self.below_threshold_ns, self.goes_on_below = None, False

    @property
    def present(self) -> Wait | None:
        """The wait with the earliest deadline, if no further event comes."""
        reason, since_ns = self.reason, self.since_ns
        if reason is None:
            return None
        if reason is StallReason.NO_THROUGHPUT:
            since_ns = max(since_ns, self.moved_ns)
        wait = Wait(reason, since_ns, since_ns + self.limits.limit_ns(reason))
        if self.below_threshold_ns is None or not self.goes_on_below or reason is not StallReason.NO_THROUGHPUT:
            return wait
        deadline_ns = self.below_threshold_ns + self.limits.limit_ns(StallReason.SWITCHOVER_ACK)
        return min(
            wait, Wait(StallReason.SWITCHOVER_ACK, self.below_threshold_ns, deadline_ns), key=lambda it: it.deadline_ns
        )


def _reason(state: str | None, phase: PhaseName | None, *, sends: bool) -> StallReason | None:
    if state in _ENDING:
        return None
    waiting = WAIT_BY_STATE.get(state or "")
    if waiting is not None:
        return waiting
    if phase is PhaseName.SETUP:
        # If the mark of setup's end is not enabled, the state shows that setup is over.
        return StallReason.BLOCKED_SETUP if state in {None, "setup"} else None
    return StallReason.NO_THROUGHPUT if phase in _MOVING and sends else None
