"""Waits, which no boundary can show: for somebody, for the network, or for the destination.

A wait is silent, so time has to be passed in. It becomes a stall at its deadline, whenever the passing of the deadline
is noticed.
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

#: States in which an end is near, or was asked for.
_ENDING: Final = frozenset({"cancelling", "failing"})


@dataclass(frozen=True, slots=True)
class WaitTimeouts:
    """How long each wait may last before it counts as a stall, in seconds.

    Attributes:
        seconds: By reason; a reason that is missing has its default.
    """

    seconds: Mapping[StallReason, float] = field(default_factory=lambda: dict(DEFAULT_TIMEOUTS))

    def limit_ns(self, reason: StallReason) -> int:
        """Return the timeout of a wait in nanoseconds."""
        return round(self.seconds.get(reason, DEFAULT_TIMEOUTS[reason]) * _NS)


class Wait(NamedTuple):
    """One wait.

    Attributes:
        since_ns: Its beginning.
        deadline_ns: When it becomes a stall.
    """

    reason: StallReason
    since_ns: int
    deadline_ns: int


@dataclass(slots=True)
class WaitTimer:
    """The wait a migration is in, as plain data.

    Attributes:
        moved_ns: Time of the last event that brings the migration on. Nearly every event does, so it is only noted
            here, and a deadline is computed when asked for.
        below_threshold_ns: Time of the first of the last boundaries that are below the threshold; None after one that
            is not.
        goes_on_below: There was more than one of them, so QEMU goes on although it could stop the guest.
    """

    limits: WaitTimeouts
    moved_ns: int
    reason: StallReason | None = None
    since_ns: int = 0
    below_threshold_ns: int | None = None
    goes_on_below: bool = False

    def stands(self, at_ns: int, *, state: str | None, phase: PhaseName | None, sends: bool) -> None:
        """Set QEMU's state and the phase from now on.

        A migration `sends` if it was ever seen to; a stream of nothing but states is silent for another reason.
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
        """The wait that becomes a stall first, if nothing more happens."""
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
        # If the mark of setup's end is not enabled, the state tells that setup is over.
        return StallReason.BLOCKED_SETUP if state in {None, "setup"} else None
    return StallReason.NO_THROUGHPUT if phase in _MOVING and sends else None
