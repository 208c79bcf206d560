"""The guest's run state and pauses.

QEMU prints each change of the run state (runstate_set); QMP's `stop` and `cont` and the events STOP and RESUME show the
same without a cause. A pause lasts until the guest runs again, independently of the migration. The stop for the
switchover, run state `finish-migrate`, is a pause of the cause `downtime` and ends any pause before it, so that pauses
never overlap and their sum is the blackout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from qemu_migration_exporter.core.events import Event, RunStateSet, SignalEvent
from qemu_migration_exporter.core.model import Pause, PauseCause
from qemu_migration_exporter.core.terms import Signal

#: Run states in which the guest runs, or was never started on this host.
_NO_PAUSE: Final = frozenset({"running", "inmigrate"})

#: The run state `postmigrate` continues the stop of `finish-migrate`.
_CAUSES: Final[Mapping[str, PauseCause]] = {
    "paused": PauseCause.SUSPENDED,
    "suspended": PauseCause.GUEST_SLEEPS,
    "finish-migrate": PauseCause.DOWNTIME,
    "postmigrate": PauseCause.DOWNTIME,
    **{
        cause.value: cause
        for cause in (
            PauseCause.IO_ERROR, PauseCause.INTERNAL_ERROR, PauseCause.DEBUG, PauseCause.WATCHDOG,
            PauseCause.GUEST_PANICKED, PauseCause.SHUTDOWN, PauseCause.SAVE_VM, PauseCause.RESTORE_VM,
            PauseCause.COLO, PauseCause.PRELAUNCH,
        )
    },
}  # fmt: skip

#: Only this many pauses are listed; later pauses still count in the total length.
_MAX_PAUSES: Final = 1_000


def cause_of(run_state: str) -> PauseCause | None:
    """Return the cause of the pause in a run state, None if the guest runs in that state."""
    return None if run_state in _NO_PAUSE else _CAUSES.get(run_state, PauseCause.OTHER)


@dataclass(slots=True)
class GuestRun:
    """The pauses of one guest, as plain data.

    Attributes:
        is_known: The run state was printed.
        is_running: The guest was last seen to run, on this host.
        was_stopped: A stream that was joined shows that the guest had been stopped before.
        is_incoming: The guest is to come from another host.
        by, since_ns: Cause and start of the present pause; None while the guest runs.
        pauses: The pauses that are over.
        more_ns: The total length of pauses that are not listed.
    """

    is_known: bool = False
    is_running: bool = False
    was_stopped: bool = False
    is_incoming: bool = False
    by: PauseCause | None = None
    since_ns: int = 0
    pauses: list[Pause] = field(default_factory=list)
    more_ns: int = 0

    @property
    def is_suspended(self) -> bool:
        """True while the guest is stopped for another reason than the switchover."""
        return self.by is not None and self.by is not PauseCause.DOWNTIME

    def set_run_state(self, at_ns: int, run_state: str) -> None:
        """Follow a change of the run state."""
        self.is_known = True
        cause = cause_of(run_state)
        if cause is None:
            self.resumed(at_ns)
            self.is_running, self.is_incoming = run_state == "running", run_state == "inmigrate"
        else:
            self.stopped(at_ns, cause)

    def stopped(self, at_ns: int, by: PauseCause) -> None:
        """Begin a pause, and end the present pause if there is one."""
        if self.by is by:
            return
        self.resumed(at_ns)
        self.is_running, self.by, self.since_ns = False, by, at_ns

    def resumed(self, at_ns: int) -> None:
        """End the pause."""
        self.is_running, self.is_incoming = True, False
        by, self.by = self.by, None
        if by is None:
            return
        if len(self.pauses) < _MAX_PAUSES:
            self.pauses.append(Pause(start_ns=self.since_ns, end_ns=at_ns, by=by))
        else:
            self.more_ns += at_ns - self.since_ns

    def continued(self, at_ns: int) -> GuestRun:
        """Return the run state for a migration that begins at `at_ns`; a present pause begins there too."""
        return replace(self, since_ns=at_ns, pauses=[], more_ns=0)


def follow_guest(guest: GuestRun, event: Event, at_ns: int) -> None:
    """Follow an event that changes whether a guest runs, beside any migration."""
    if type(event) is RunStateSet:
        if event.state is not None:
            guest.set_run_state(at_ns, event.state)
    elif type(event) is SignalEvent and event.mark is Signal.GUEST_STOPPED:
        if guest.by is None:
            guest.stopped(at_ns, PauseCause.SUSPENDED)
    else:
        guest.resumed(at_ns)
    guest.pauses.clear()  # the machine of a migration keeps its own
