"""One migration as plain data, and the steps that its handlers share.

Events go in and changes come out:

    apply.py          which handler an event has; the passing of time; the end
    phases.py         handlers of setup and the iterate phase
    completion.py     handlers of the switchover and of post-copy
    ending.py         handlers of failures, cleanup and the outcome
    incoming.py       handlers of the marks of a destination
    state_changes.py  handlers of the migration's state and the guest's run state
    numbers.py        handlers of rounds, devices, throttle and errors
    machine.py        the data they work on, which is what a checkpoint keeps
    summary.py        the numbers at one moment, computed when they are read

The machine accepts every event in every state, because the stream is the evidence. An event that QEMU should not print
in the present state adds a `Surprised` to the changes. The tracker decides which events begin and end a migration.

A migration may be in a wait (see `qemu_migration_exporter.core.stalls.wait_timer`). The wait depends on the side, the
state, the phase, and on whether memory was sent. A handler that changes one of these calls `recheck`, and the wait is
checked after the event. Otherwise the wait is checked at its deadline, `next_check_ns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from qemu_migration_exporter.core.changes import Change, DeviceFinished, DowntimePartEnded, PhaseEnded
from qemu_migration_exporter.core.measures.guest import GuestRun
from qemu_migration_exporter.core.measures.precopy import Precopy
from qemu_migration_exporter.core.measures.switchover import COMPLETE_RANK, Switchover
from qemu_migration_exporter.core.migration.outcome import Outcome
from qemu_migration_exporter.core.model import (
    ClockKind,
    Device,
    DowntimePart,
    Identity,
    Kind,
    Mode,
    Phase,
    PhaseName,
    Side,
)
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.detector import StallDetector, StallPolicy

DEFAULT_PAGE_SIZE_BYTES: Final = 4096

#: A global, because a member is slow to look up in its class and this is compared for each device.
_RECONSTRUCTED: Final = ClockKind.RECONSTRUCTED

#: Phases that a post-copy joined in its middle seems to be in.
_UNDECIDED: Final = frozenset({PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY})

#: The destination is in `setup` too since then, while it listens.
_SINCE_DESTINATION_SETS_UP: Final = (8, 2)

#: A source sets itself up in milliseconds, and with multifd or TLS in some tenths of a second.
_LONG_SETUP_NS: Final = 1_000_000_000


@dataclass(slots=True, kw_only=True)
class Machine:
    """The data of one migration.

    Attributes:
        side: None until an event shows it.
        saves_first: Devices were saved before memory, which only a background snapshot does.
        releases: The first and last release that this QEMU may be of.
        retry_of: The trace id of the attempt before, if that did not complete.
        outcome: The end. More events of the migration may follow it.
        parameters: QMP's, shared with the tracker, which updates them.
        last_ns: Time of the last event that belongs to the migration.
        end_ns: Time of the last mark that belongs to it.
        next_check_ns: Before this time `tick` changes nothing; 0 after `recheck`, and once the migration may be over.
        thread: The migration thread's id.
        active_ns: When the state `active` ended setup.
        switch_ns: When the last mark of the switch to post-copy came.
        connected_ns: When the channel to the destination was set up.
        outgoing_ns: When the first event came that only a source prints.
        guest: The guest's run state since the migration began.
        loads: The loads of devices, on a destination.
        sync_stacktrace: The backtrace printed for the next bitmap sync.
        throttle_sync: The next bitmap sync is the throttle's own, in the middle of a round.
    """

    trace_id: str
    vm: str
    uuid: str | None
    stream: str
    clock: ClockKind
    start_ns: int
    partial: bool
    precopy: Precopy
    detector: StallDetector
    parameters: Parameters = field(default_factory=Parameters)
    stacktrace: tuple[str, ...] = ()
    side: Side | None = None
    kind: Kind = Kind.LIVE
    saves_first: bool = False
    releases: tuple[tuple[int, int], tuple[int, int]] = ((2, 0), (99, 0))
    retry_of: str | None = None
    outcome: Outcome = field(default_factory=Outcome)
    switchover: Switchover = field(default_factory=Switchover)
    last_ns: int
    end_ns: int
    next_check_ns: int = 0

    mode: Mode = Mode.PRECOPY
    phase: PhaseName | None = None
    phase_ns: int
    phases: list[Phase] = field(default_factory=list)
    is_phase_withheld: bool = False
    state_since_ns: int = 0
    header_seen: bool = False
    was_active: bool = False
    active_ns: int | None = None
    switch_ns: int | None = None
    connected_ns: int | None = None
    outgoing_ns: int | None = None
    thread: int | None = None
    setup_ns: int | None = None
    cleanup_ns: int | None = None

    sync_stacktrace: tuple[str, ...] = ()
    throttle_sync: bool = False
    guest: GuestRun = field(default_factory=GuestRun)
    loads: list[DowntimePart] = field(default_factory=list)
    throttle_ratio: float | None = None
    throttles: int = 0
    postcopy_requests: int = 0

    @classmethod
    def begin(
        cls,
        *,
        trace_id: str,
        vm: str,
        uuid: str | None,
        stream: str,
        clock: ClockKind,
        start_ns: int,
        partial: bool,
        page_size: int = DEFAULT_PAGE_SIZE_BYTES,
        stacktrace: tuple[str, ...] = (),
        parameters: Parameters | None = None,
        policy: StallPolicy | None = None,
    ) -> Machine:
        """Return the machine of a new migration."""
        return cls(
            trace_id=trace_id,
            vm=vm,
            uuid=uuid,
            stream=stream,
            clock=clock,
            start_ns=start_ns,
            partial=partial,
            precopy=Precopy(trace_id, page_size=page_size, joined=partial),
            detector=StallDetector.begin(trace_id, start_ns, policy or StallPolicy()),
            parameters=parameters or Parameters(),
            stacktrace=stacktrace,
            last_ns=start_ns,
            end_ns=start_ns,
            phase_ns=start_ns,
            state_since_ns=start_ns,
        )

    @property
    def identity(self) -> Identity:
        """The identity by the evidence so far."""
        return Identity(
            trace_id=self.trace_id,
            vm=self.vm,
            uuid=self.uuid,
            stream=self.stream,
            side=self.side,
            clock=self.clock,
            start_ns=self.start_ns,
            partial=self.partial,
            stacktrace=self.stacktrace,
            retry_of=self.retry_of,
            kind=self.kind,
        )

    @property
    def is_timed(self) -> bool:
        """True if the clock measures durations."""
        return self.clock is not _RECONSTRUCTED

    @property
    def has_left_setup(self) -> bool:
        """True if setup is over, so that another header is another migration's."""
        return self.phase not in {None, PhaseName.SETUP} and not self.stops_first

    @property
    def stops_first(self) -> bool:
        """True if the guest's stop is all that was seen so far: the modes cpr-reboot and cpr-transfer stop it first."""
        is_first = self.phase is PhaseName.COMPLETE_PRECOPY and not self.phases and not self.header_seen
        return is_first and self.switchover.rank < COMPLETE_RANK and not self.outcome.completing

    @property
    def is_snapshot(self) -> bool:
        """True if the end came without the state `active`, which only happens in `savevm`."""
        ran = self.side is not None or self.was_active or self.partial
        is_over = self.header_seen and self.outcome.at_ns is not None and self.outcome.state is None
        return not ran and (is_over or self.outcome.state == "completed")

    @property
    def is_joined_without_sync(self) -> bool:
        """True if the stream begins in the middle, and nothing in it is known to be before the switchover."""
        has_begun = self.was_active or any(phase.name is PhaseName.SETUP for phase in self.phases)
        return self.partial and not has_begun and self.precopy.syncs == 0 and self.phase in _UNDECIDED

    @property
    def is_source_by_states(self) -> bool:
        """True if the states alone are those of a source: to 8.1 only that is in `setup`, later it may fail there.

        A header is a source's too, unless it is a snapshot's.
        """
        if self.header_seen:
            return True
        if not any(phase.name is PhaseName.SETUP for phase in self.phases):
            return False
        has_failed = self.outcome.state == "failed" and self.outcome.qemu_ended is None
        return self.releases[1] < _SINCE_DESTINATION_SETS_UP or (has_failed and not self.was_active)

    @property
    def may_have_listened(self) -> bool:
        """True if the time in `setup` is longer than a source's, and so may be that of a destination that listens."""
        return any(
            phase.name is PhaseName.SETUP and (phase.end_ns or 0) - phase.start_ns > _LONG_SETUP_NS
            for phase in self.phases
        )

    @property
    def may_stall(self) -> bool:
        """True until there is an outcome or the migration thread has left its loop: after that, nothing is stalled."""
        return self.outcome.at_ns is None and self.outcome.left_loop_ns is None

    def is_quiet(self, now_ns: int) -> bool:
        """Return whether the passing of time changes nothing before `now_ns`, or later if no event comes."""
        is_due = self.next_check_ns <= now_ns or not self.may_stall  # after the loop, time ends the migration
        return not is_due and self.phase is not PhaseName.SETUP and self.switch_ns is None

    def recheck(self) -> None:
        """Request a check of the wait after this event."""
        self.next_check_ns = 0

    # Phases

    def enter(self, phase: PhaseName, at_ns: int) -> Sequence[Change]:
        """End the open phase and begin another."""
        changes = self.leave(at_ns)
        self.phase, self.phase_ns = phase, at_ns
        if phase is PhaseName.POSTCOPY:
            self.switch_ns = None
        self.recheck()
        return changes

    def leave(self, at_ns: int) -> Sequence[Change]:
        """End the open phase."""
        if self.phase is None:
            return ()
        devices = self.switchover.flush() if self.phase is PhaseName.COMPLETE_PRECOPY else []
        changes = [*self.release_phase(), *self.devices_finished(devices)]
        self.is_phase_withheld = self.phase is PhaseName.ITERATE and self.is_joined_without_sync
        self.phases.append(Phase(name=self.phase, start_ns=self.phase_ns, end_ns=at_ns))
        self.phase = None
        self.recheck()
        return changes if self.is_phase_withheld else [*changes, PhaseEnded(self.trace_id, self.phases[-1])]

    def release_phase(self) -> Sequence[Change]:
        """Report an iterate phase that the next mark could have shown to be post-copy."""
        if not self.is_phase_withheld:
            return ()
        self.is_phase_withheld = False
        return [PhaseEnded(self.trace_id, self.phases[-1])]

    def forget_phases(self) -> None:
        """Drop the phases, which are those of a source."""
        self.phase, self.phases, self.setup_ns, self.is_phase_withheld = None, [], None, False
        self.recheck()

    # Changes of the downtime

    def devices_finished(self, devices: Sequence[Device]) -> Sequence[Change]:
        """Return the changes of devices whose state was saved."""
        return [DeviceFinished(self.trace_id, device) for device in devices] if devices else ()

    def parts_ended(self, parts: Sequence[DowntimePart]) -> Sequence[Change]:
        """Return the changes for parts of the downtime; empty if the clock does not measure durations."""
        return [DowntimePartEnded(self.trace_id, part) for part in parts] if parts and self.is_timed else ()
