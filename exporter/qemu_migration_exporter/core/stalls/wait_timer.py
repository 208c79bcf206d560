"""What no boundary can show: a migration that waits, for somebody or for its network.

Silence is what gives it away, so time has to be passed in; a deadline that has passed is the same whenever that is
noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from qemu_migration_exporter.core.model import PhaseName, StallReason

_NS: Final = 1_000_000_000

#: QEMU's states in which it waits for somebody. Until post-copy runs again its guest may stand still.
_WAITING: Final[Mapping[str, StallReason]] = {
    "wait-unplug": StallReason.BLOCKED_WAIT_UNPLUG,
    "pre-switchover": StallReason.BLOCKED_PRE_SWITCHOVER,
    "postcopy-paused": StallReason.POSTCOPY_PAUSED,
    "postcopy-recover-setup": StallReason.POSTCOPY_PAUSED,
    "postcopy-recover": StallReason.POSTCOPY_PAUSED,
}

#: The field of `WaitTimeouts` that limits each wait.
_LIMITS: Final[Mapping[StallReason, str]] = {
    StallReason.NO_THROUGHPUT: "no_throughput",
    StallReason.BLOCKED_SETUP: "setup",
    StallReason.BLOCKED_WAIT_UNPLUG: "wait_unplug",
    StallReason.BLOCKED_PRE_SWITCHOVER: "pre_switchover",
    StallReason.POSTCOPY_PAUSED: "postcopy_paused",
}

#: Where bytes have to move.
_MOVING: Final = frozenset({PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY, PhaseName.POSTCOPY})

#: An end is near, or was asked for: nobody has to be told.
_ENDING: Final = frozenset({"cancelling", "failing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitTimeouts:
    """How long a migration may wait, in seconds, before it counts as stalled.

    Attributes:
        no_throughput: Nothing is sent. Longer than a network that dips; TCP gives up after minutes.
        setup: Until the destination is connected and devices are set up; some pin all memory there.
        wait_unplug: Until the guest has given up its pass-through network device (failover).
        pre_switchover: Until `migrate-continue`: the guest stands still all that time.
        postcopy_paused: Post-copy lost its network: the guest stands still as soon as it needs a page.
    """

    no_throughput: float = 30.0
    setup: float = 60.0
    wait_unplug: float = 60.0
    pre_switchover: float = 10.0
    postcopy_paused: float = 0.0

    def limit_ns(self, reason: StallReason) -> int:
        """Return the limit for a wait in nanoseconds."""
        seconds: float = getattr(self, _LIMITS[reason])
        return round(seconds * _NS)


class Wait(NamedTuple):
    """A wait.

    Attributes:
        since_ns: When it began.
        deadline_ns: When it becomes too long.
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
    """

    limits: WaitTimeouts
    moved_ns: int
    reason: StallReason | None = None
    since_ns: int = 0

    def stands(self, at_ns: int, *, state: str | None, phase: PhaseName | None, sends: bool) -> None:
        """Note where the migration stands from now on, in QEMU's word for its state and in our phase.

        It `sends` if it was ever seen to: a stream may have nothing but states, and be silent for that.
        """
        reason = _reason(state, phase, sends=sends)
        if reason is not self.reason:
            self.reason, self.since_ns = reason, at_ns

    @property
    def present(self) -> Wait | None:
        """What it waits for, as long as nothing more happens."""
        reason, since_ns = self.reason, self.since_ns
        if reason is None:
            return None
        if reason is StallReason.NO_THROUGHPUT:
            since_ns = max(since_ns, self.moved_ns)
        return Wait(reason, since_ns, since_ns + self.limits.limit_ns(reason))


def _reason(state: str | None, phase: PhaseName | None, *, sends: bool) -> StallReason | None:
    if state in _ENDING:
        return None
    waiting = _WAITING.get(state or "")
    if waiting is not None:
        return waiting
    if phase is PhaseName.SETUP:
        # Where the mark of setup's end is not enabled the state tells that it is over.
        return StallReason.BLOCKED_SETUP if state in {None, "setup"} else None
    return StallReason.NO_THROUGHPUT if phase in _MOVING and sends else None
