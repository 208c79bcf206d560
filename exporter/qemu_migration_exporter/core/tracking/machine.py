"""One migration: events in, changes out.

It observes and never objects: any event in any state has an answer, what the stream says wins, and what QEMU would
not do is a `Surprised` beside it. Which events begin a migration and which end it for good is the tracker's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from qemu_migration_exporter.core.changes import (
    Change,
    DeviceFinished,
    DowntimePartEnded,
    MigrationEnded,
    PhaseEnded,
    PreSwitchoverEnded,
    Progressed,
    Surprised,
)
from qemu_migration_exporter.core.events import (
    DeviceDowntime,
    DeviceSaved,
    ErrorReported,
    ErrorSet,
    Event,
    LowPending,
    Pending,
    Pinged,
    PostcopyRequests,
    SectionEnded,
    SectionStarted,
    Signal,
    SignalEvent,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.model import (
    ClockKind,
    Device,
    DowntimePart,
    Identity,
    Migration,
    Mode,
    Phase,
    PhaseName,
    Progress,
    Round,
    Side,
    SurpriseKind,
)
from qemu_migration_exporter.core.qmp_parameters import Parameters
from qemu_migration_exporter.core.stalls.detector import StallDetector, StallPolicy
from qemu_migration_exporter.core.stalls.wait_timer import WaitTimer
from qemu_migration_exporter.core.tracking import states
from qemu_migration_exporter.core.tracking.outcome import Outcome
from qemu_migration_exporter.core.tracking.precopy import Precopy
from qemu_migration_exporter.core.tracking.sides import side_of
from qemu_migration_exporter.core.tracking.switchover import LOW_PENDING_RANK, RANKS, WORST_RANK, Switchover

DEFAULT_PAGE_SIZE_BYTES: Final = 4096

#: Enumerations' members are slow to look up in their class, and these are asked for by what comes with every slice.
_ITERATE: Final = PhaseName.ITERATE
_COMPLETE_PRECOPY: Final = PhaseName.COMPLETE_PRECOPY
_SOURCE: Final = Side.SOURCE

#: savevm_send_ping's number that ends the switch to post-copy, postcopy_start() in migration/migration.c.
_POSTCOPY_PING: Final = 4


class Machine:
    """Follow one migration from its first event.

    Attributes:
        side: Which end of it this QEMU is, None as long as nothing told.
        retry_of: The trace id of the attempt before, if that did not complete.
        outcome: Its end, after which more events may still belong to it.
        changes: What happened since `take` was last called.
        last_ns: When the last event came that belongs to it.
        due_ns: Before this time, a tick changes nothing; 0 once it may be over.
    """

    def __init__(
        self,
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
    ) -> None:
        self.trace_id = trace_id
        self.side: Side | None = None
        self.retry_of: str | None = None
        self.outcome = Outcome()
        self.changes: list[Change] = []
        self.sync_stacktrace: tuple[str, ...] = ()
        self._emit = self.changes.append
        self.start_ns = start_ns
        self.partial = partial
        self._vm = vm
        self._uuid = uuid
        self._stream = stream
        self._clock = clock
        self._stacktrace = stacktrace
        self._timed = clock is not ClockKind.RECONSTRUCTED
        self.last_ns = start_ns
        self.due_ns = 0
        self._end_ns = start_ns
        self._touched = False
        self._standing: tuple[object, ...] = ()

        self._mode = Mode.PRECOPY
        self._phase: PhaseName | None = None
        self._phase_ns = start_ns
        self._header_seen = False
        self._was_active = False
        self._active_ns: int | None = None
        self._thread: int | None = None
        self._phases: list[Phase] = []
        self._setup_ns: int | None = None
        self._cleanup_ns: int | None = None

        self._iteration = Precopy(trace_id, self._emit, page_size=page_size, joined=partial)
        policy = policy or StallPolicy()
        self._waits = WaitTimer(policy.limits, start_ns)
        self._judge = StallDetector(
            trace_id,
            vm,
            start_ns,
            self._emit,
            iteration=self._iteration,
            waits=self._waits,
            parameters=parameters or Parameters(),
            rules=policy.rules,
        )
        self._throttle_sync = False
        self._switchover = Switchover()
        self._throttle_ratio: float | None = None
        self._throttles = 0
        self._postcopy_requests = 0

    def __getstate__(self) -> dict[str, Any]:
        """Leave out whom to tell: that is no state."""
        return {name: value for name, value in self.__dict__.items() if name != "_emit"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on where a snapshot was taken."""
        self.__dict__.update(state)
        self._emit = self.changes.append
        self._iteration.tell(self._emit)
        self._judge.tell(self._emit)

    # What the tracker asks

    @property
    def has_left_setup(self) -> bool:
        """Whether setup is over, so that another header is another migration's."""
        return self._phase not in {None, PhaseName.SETUP}

    @property
    def is_snapshot(self) -> bool:
        """Whether it wrote its header or completed, and never was active, which only `savevm` does."""
        ran = self.side is not None or self._was_active
        return not ran and (self._header_seen or self.outcome.state == "completed")

    @property
    def identity(self) -> Identity:
        """Who this is, as far as it is known now."""
        return Identity(
            trace_id=self.trace_id,
            vm=self._vm,
            uuid=self._uuid,
            stream=self._stream,
            side=self.side,
            clock=self._clock,
            start_ns=self.start_ns,
            partial=self.partial,
            stacktrace=self._stacktrace,
            retry_of=self.retry_of,
        )

    @property
    def rounds_told(self) -> tuple[Round, ...]:
        """The rounds that ended and were told."""
        return tuple(self._iteration.finished)

    def apply(self, event: Event, key: type | Signal, at_ns: int) -> None:
        """Take one event that belongs to this migration, at a time that never goes back.

        Its `key` is what it means: the mark of one that is nothing else, else its type.
        """
        self.last_ns = at_ns
        self._touched = True
        if self.side is None:
            self._learn_side(event, at_ns)
        if key in _MOVING:
            self._waits.moved_ns = at_ns
        handler = _HANDLERS.get(key)
        if handler is not None:
            handler(self, at_ns, event)
        if key in _OF_SECTIONS and self.due_ns > at_ns:
            return  # half of all lines, and no step from one phase or state to another
        standing = (self.side, self.outcome.state, self.outcome.left_loop_ns, self._phase, self._iteration.sends)
        if standing != self._standing or self.due_ns <= at_ns:
            self._standing = standing
            self._stands(at_ns)

    def tick(self, now_ns: int) -> None:
        """Let time pass, in which nothing was said."""
        if self.side is _SOURCE and self.outcome.at_ns is None and self._judge.tick(now_ns):
            self._touched = True
        self._note_due()

    def _stands(self, at_ns: int) -> None:
        """Let it be judged where this migration stands now; once it is over there is nothing to judge."""
        if self.side is _SOURCE and self.outcome.at_ns is None:
            self._judge.stands(at_ns, state=self.outcome.state, phase=self._phase, sends=self._iteration.sends)
        self._note_due()

    def _note_due(self) -> None:
        may_be_over = self.outcome.at_ns is not None or self.outcome.left_loop_ns is not None
        self.due_ns = 0 if may_be_over else self._judge.due_ns

    def limit_set(self, seconds: float) -> None:
        """Note the downtime limit that a QMP command set; a bandwidth window's own says more."""
        self._iteration.downtime_limit_seconds = seconds

    def take(self) -> list[Change]:
        """Return what happened since this was last asked."""
        if not self.changes:
            return []
        changes = self.changes.copy()
        self.changes.clear()
        return changes

    def progress(self) -> list[Change]:
        """Return the numbers as they are now, if an event touched them since they were last asked for."""
        if not self._touched:
            return []
        self._touched = False
        return [Progressed(self.trace_id, self.progress_now())]

    def finish(self) -> list[Change]:
        """Close what is open and say what it all was. The machine must not be used after."""
        if self._phase is PhaseName.CLEANUP and self._cleanup_ns is not None:
            self._leave(max(self._cleanup_ns, self._phase_ns))
        self._iteration.close()
        self._devices_finished(self._switchover.flush())
        if self.outcome.at_ns is None:
            self._end_ns = max(self.last_ns, self._judge.told_ns)
        return [
            *self.take(),
            Progressed(self.trace_id, self.progress_now()),
            MigrationEnded(self.trace_id, self.migration_now()),
        ]

    # States, phases, outcome

    def _learn_side(self, event: Event, at_ns: int) -> None:
        side = side_of(event)
        if side is Side.DESTINATION and self._header_seen:
            return  # no destination writes a header: a snapshot was saved, and now one is loaded
        self.side = side
        self.due_ns = 0  # from now on it matters where it stands
        if self.side is Side.DESTINATION and self._phase is PhaseName.SETUP:
            # It said `setup` when it began to listen, maybe hours ago (8.2 and later).
            self._phase = None
            if self.outcome.left_loop_ns is None:
                self.start_ns = self._phase_ns = at_ns if self._active_ns is None else self._active_ns

    def _state_set(self, at_ns: int, event: StateSet) -> None:
        state, before = event.state, self.outcome.state
        if state is None:
            return
        if state not in states.TRANSITIONS:
            self._surprise(SurpriseKind.UNKNOWN_STATE, f"{before} -> {state}")
        elif before is not None and before in states.TRANSITIONS and state not in states.TRANSITIONS[before]:
            self._surprise(SurpriseKind.UNEXPECTED_STATE, f"{before} -> {state}")
        self.outcome.state = state
        self._was_active |= state == "active"
        if before == "pre-switchover":
            self._wait_ended(at_ns)
        if state in states.RESULTS:
            self._ended(at_ns)
        elif state == "setup" and self._phase is None and self.side is not Side.DESTINATION:
            self._enter(PhaseName.SETUP, at_ns)
        elif state == "active" and self._phase is PhaseName.SETUP:
            self._active_ns = at_ns
        elif state == "pre-switchover":
            self._complete(at_ns, WORST_RANK)
            self._parts_ended(self._switchover.stopped(at_ns))
            self._switchover.wait_begins(at_ns)
        elif state == "device":
            self._complete(at_ns, RANKS[Signal.COMPLETE])
            self._parts_ended(self._switchover.stopped(at_ns))
            self.outcome.completing = True
        elif state == "postcopy-active":
            self._mode = Mode.POSTCOPY
        elif state == "postcopy-recover":
            self.outcome.resumed()

    def _ended(self, at_ns: int) -> None:
        """Note the outcome; the last one counts."""
        self._wait_ended(at_ns)
        self.outcome.at_ns = self._end_ns = at_ns
        if self._phase is not PhaseName.CLEANUP:
            self._iteration.end(at_ns)
            self._leave(at_ns)
        self._iteration.close()

    def _enter(self, phase: PhaseName, at_ns: int) -> None:
        self._leave(at_ns)
        self._phase, self._phase_ns = phase, at_ns

    def _leave(self, at_ns: int | None) -> None:
        if self._phase is not None and at_ns is not None:
            if self._phase is PhaseName.COMPLETE_PRECOPY:
                self._devices_finished(self._switchover.flush())
            phase = Phase(name=self._phase, start_ns=self._phase_ns, end_ns=at_ns)
            self._phases.append(phase)
            self._emit(PhaseEnded(self.trace_id, phase))
            self._phase = None

    def _header(self, at_ns: int, event: SignalEvent) -> None:
        self._thread = event.thread
        if self.outcome.at_ns is not None or self._header_seen:
            return
        self._header_seen = True
        if self._phase in {None, PhaseName.SETUP}:  # setup's own time begins here and not at the state
            self._phase, self._phase_ns = PhaseName.SETUP, at_ns

    def _setup_complete(self, at_ns: int, event: SignalEvent) -> None:
        self._thread = event.thread
        if self.outcome.at_ns is None and self._phase in {None, PhaseName.SETUP}:
            if self._phase is PhaseName.SETUP:
                self._setup_ns = at_ns - self._phase_ns
            self._enter(PhaseName.ITERATE, at_ns)
            self._iteration.begin(at_ns)

    def _iterating(self, at_ns: int, event: Event) -> None:
        """Enter the phase that pending bytes or slices prove, where its own mark is missing."""
        if self.outcome.at_ns is not None:
            return
        if self._phase is None or self._phase is PhaseName.SETUP:
            # The state `active` stands for the mark; without it, the length of setup is not known.
            known_ns = None if self._active_ns is None else max(self._active_ns, self._phase_ns)
            self._setup_complete(known_ns or at_ns, SignalEvent(at_ns, event.thread, Signal.SETUP_COMPLETE))
            if known_ns is None:
                self._setup_ns = None
        elif self._mode is Mode.POSTCOPY and self._phase in {PhaseName.ITERATE, PhaseName.COMPLETE_PRECOPY}:
            self._iteration.end(at_ns)
            self._judge.rounds_ended(at_ns)
            self._enter(PhaseName.POSTCOPY, at_ns)

    def _complete(self, at_ns: int, rank: int) -> None:
        """Go to the switchover, if not there yet; `rank` says how well this stands for the start of the downtime."""
        if self._phase is PhaseName.ITERATE:
            self._iteration.end(at_ns)
            self._judge.rounds_ended(at_ns)
            self._enter(PhaseName.COMPLETE_PRECOPY, at_ns)
        if self._phase is PhaseName.COMPLETE_PRECOPY:
            self._switchover.may_begin(at_ns, rank)

    def _stopping(self, at_ns: int, event: SignalEvent) -> None:
        self._complete(at_ns, RANKS[event.mark])
        if event.mark in {Signal.VM_STOPPED, Signal.COMPLETE}:
            self._parts_ended(self._switchover.stopped(at_ns))
        if event.mark is Signal.COMPLETE:
            self.outcome.completing = True

    def _low_pending(self, at_ns: int, event: LowPending) -> None:
        if self._mode is Mode.POSTCOPY:
            return
        self._iterating(at_ns, event)
        if event.pending is not None:
            self._pending_is(at_ns, event.pending)
        self._complete(at_ns, LOW_PENDING_RANK)

    def _postcopy_start(self, at_ns: int, _event: SignalEvent) -> None:
        self._mode = Mode.POSTCOPY
        self._complete(at_ns, WORST_RANK)

    def _downtime_end(self, at_ns: int, _event: Event) -> None:
        if self._phase is PhaseName.COMPLETE_PRECOPY:
            self._switchover.end_ns = at_ns
            if self._mode is Mode.POSTCOPY:
                self._enter(PhaseName.POSTCOPY, at_ns)

    def _pinged(self, at_ns: int, event: Pinged) -> None:
        if event.value == _POSTCOPY_PING and self._mode is Mode.POSTCOPY:
            self._downtime_end(at_ns, event)

    def _wait_ended(self, at_ns: int) -> None:
        began_ns = self._switchover.wait_ends()
        if began_ns is not None:
            self._emit(PreSwitchoverEnded(self.trace_id, began_ns, at_ns))

    def _after_loop(self, at_ns: int, _event: SignalEvent) -> None:
        if self._phase is PhaseName.CLEANUP:
            return
        self.outcome.left_loop_ns = self._end_ns = at_ns
        if self.outcome.at_ns is None:
            self._iteration.end(at_ns)
        self._iteration.close()
        self._enter(PhaseName.CLEANUP, at_ns)
        if self.outcome.state is None:
            self.outcome.at_ns = at_ns

    def _cleanup(self, at_ns: int, _event: SignalEvent) -> None:
        self._cleanup_ns = self._end_ns = at_ns
        if self.outcome.at_ns is None:
            self.outcome.left_loop_ns = self.outcome.left_loop_ns or at_ns
            if self.outcome.state is None:
                self._ended(at_ns)

    # Rounds, syncs, bandwidth

    def _pending_seen(self, at_ns: int, event: Pending) -> None:
        self._iterating(at_ns, event)
        self._iteration.threshold_seen(event)
        if event.size is not None:
            self._pending_is(at_ns, event.size, event.postcopy)

    def _pending_is(self, at_ns: int, size: int, postcopy: int | None = None) -> None:
        if size != self._iteration.pending:
            self._waits.moved_ns = at_ns
        is_boundary = self._iteration.pending_seen(size, postcopy=postcopy)
        self._judge.pending_seen(at_ns, size, is_boundary=is_boundary)

    def _iterated(self, at_ns: int, event: SignalEvent) -> None:
        if self._phase is _ITERATE or self._mode is Mode.POSTCOPY:
            self._iterating(at_ns, event)
        self._iteration.slice_seen()

    def _transferred_seen(self, at_ns: int, event: Transferred) -> None:
        if event.transferred:
            self._waits.moved_ns = at_ns
        self._iteration.window_seen(at_ns, event)
        if self._phase is PhaseName.ITERATE:
            self._judge.window_seen(at_ns, event)

    def _sync_started(self, at_ns: int, event: SignalEvent) -> None:
        on_thread = event.thread is None or self._thread is None or event.thread == self._thread
        begins_round = self._phase is _ITERATE and on_thread and not self._throttle_sync
        self._throttle_sync = False
        stacktrace, self.sync_stacktrace = self.sync_stacktrace, ()
        self._iteration.sync_started(at_ns, phase=self._phase, begins_round=begins_round, stacktrace=stacktrace)

    def _sync_ended(self, at_ns: int, event: SyncEnded) -> None:
        self._iteration.sync_ended(at_ns, event, phase=self._phase)

    # Devices, throttle, errors

    def _section_started(self, at_ns: int, event: SectionStarted) -> None:
        if self._phase is _COMPLETE_PRECOPY:
            self._devices_finished(self._switchover.section_started(at_ns, event))

    def _device_saved(self, at_ns: int, event: DeviceSaved) -> None:
        if self._phase is _COMPLETE_PRECOPY:
            self._devices_finished(self._switchover.device_saved(at_ns, event))

    def _section_ended(self, at_ns: int, event: SectionEnded) -> None:
        if self._phase is _COMPLETE_PRECOPY:
            self._parts_ended(self._switchover.section_ended(at_ns, event, timed=self._timed))

    def _device_downtime(self, at_ns: int, event: DeviceDowntime) -> None:
        if self._phase is _COMPLETE_PRECOPY:
            self._devices_finished(self._switchover.device_downtime(at_ns, event))
            self._parts_ended(self._switchover.ram_downtime(at_ns, event))

    def _iterable_saved(self, at_ns: int, _event: SignalEvent) -> None:
        if self._phase is PhaseName.COMPLETE_PRECOPY:
            self._parts_ended(self._switchover.iterable_saved(at_ns))

    def _parts_ended(self, parts: list[DowntimePart]) -> None:
        """Tell parts of the downtime, unless the clock does not know how long they took."""
        for part in parts if self._timed else ():
            self._emit(DowntimePartEnded(self.trace_id, part))

    def _devices_finished(self, devices: list[Device]) -> None:
        for device in devices:
            self._emit(DeviceFinished(self.trace_id, device))

    def _throttled(self, at_ns: int, _event: SignalEvent) -> None:
        self._throttles += 1
        self._judge.throttled(at_ns, steps=self._throttles, ratio=self._throttle_ratio)

    def _throttle_set(self, at_ns: int, event: ThrottleSet) -> None:
        if event.percentage is not None:
            self._throttle_ratio = event.percentage / 100
            self._judge.throttled(at_ns, steps=self._throttles, ratio=self._throttle_ratio)

    def _throttle_syncs(self, _at_ns: int, _event: SignalEvent) -> None:
        self._throttle_sync = True

    def _postcopy_request(self, _at_ns: int, _event: SignalEvent) -> None:
        self._postcopy_requests += 1

    def _postcopy_requests_counted(self, _at_ns: int, event: PostcopyRequests) -> None:
        self._postcopy_requests += event.requests or 0

    def _cancel_seen(self, _at_ns: int, _event: SignalEvent) -> None:
        self.outcome.cancel_requested = True

    def _failing(self, _at_ns: int, _event: SignalEvent) -> None:
        self.outcome.broke()

    def _resumed(self, _at_ns: int, _event: SignalEvent) -> None:
        self.outcome.resumed()

    def _error_set(self, _at_ns: int, event: ErrorSet) -> None:
        self.outcome.error_set(event.text)

    def _error_reported(self, _at_ns: int, event: ErrorReported) -> None:
        self.outcome.error_reported(event.text)

    def _surprise(self, kind: SurpriseKind, detail: str) -> None:
        self._emit(Surprised(kind, detail))

    # Summing up

    def progress_now(self) -> Progress:
        """Say how it stands."""
        iteration = self._iteration
        requests_unknown = self._mode is Mode.POSTCOPY and self._postcopy_requests == 0
        return Progress(
            phase=PhaseName.CLEANUP if self.outcome.at_ns is not None else self._phase,
            state=self.outcome.state,
            mode=self._mode,
            round=iteration.round,
            pending_bytes=iteration.pending,
            threshold_bytes=iteration.threshold,
            ram_bytes=iteration.ram,
            bandwidth_bytes_per_second=iteration.bandwidth,
            dirty_bytes_per_second=iteration.dirty_bytes_per_second,
            downtime_limit_seconds=iteration.downtime_limit_seconds,
            throttle_ratio=self._throttle_ratio,
            transferred_bytes=iteration.transferred,
            bitmap_syncs=iteration.syncs,
            iterations=iteration.slices,
            throttles=self._throttles,
            postcopy_requests=None if requests_unknown else self._postcopy_requests,
            last_progress_ns=self._judge.progress_ns,
            verdict=self._judge.verdict(
                self.last_ns,
                converged=self._mode is Mode.PRECOPY and self.outcome.completing,
                is_over=self.outcome.at_ns is not None,
            ),
        )

    def migration_now(self) -> Migration:
        """Say what is known of it; before its end, what is known so far."""
        result, inferred = self.outcome.result()
        start_ns, end_ns = self._switchover.start_ns, self._switchover.end_ns
        if self._mode is Mode.PRECOPY and end_ns is None:
            end_ns = self.outcome.at_ns
        known = self._timed and start_ns is not None and end_ns is not None and start_ns <= end_ns
        return Migration(
            identity=self.identity,
            result=result,
            result_inferred=inferred,
            partial=self.partial or self.outcome.at_ns is None,
            error=self.outcome.error(),
            outcome_ns=self.outcome.at_ns,
            end_ns=max(self._end_ns, self.outcome.at_ns or 0),
            setup_ns=self._setup_ns if self._timed else None,
            downtime_ns=end_ns - start_ns if known and start_ns is not None and end_ns is not None else None,
            downtime_start_ns=start_ns if known else None,
            progress=self.progress_now(),
            rounds=tuple(self._iteration.rounds()),
            phases=(*self._phases, *self._open_phase()),
            devices=tuple(self._switchover.devices),
            stalls=tuple(self._judge.stalls),
        )

    def _open_phase(self) -> list[Phase]:
        """Return the phase that has not ended; cleanup is none as long as nothing was cleaned up."""
        if self._phase is None or self._phase is PhaseName.CLEANUP:
            return []
        return [Phase(name=self._phase, start_ns=self._phase_ns, end_ns=None)]


_OF_SECTIONS: Final[frozenset[type | Signal]] = frozenset({SectionStarted, SectionEnded, DeviceSaved})

#: What shows that data moves, beside pending bytes that change and windows that are not empty.
_MOVING: Final[frozenset[type | Signal]] = frozenset(
    {
        StateSet, SyncEnded, LowPending, SectionStarted, SectionEnded, DeviceSaved, DeviceDowntime, Pinged,
        PostcopyRequests, Signal.SETUP_COMPLETE, Signal.SYNC_START, *RANKS, Signal.DOWNTIME_END, Signal.POSTCOPY_START,
        Signal.POSTCOPY_REQUEST,
    }
)  # fmt: skip


#: Handlers by type and by mark: a dictionary, because this runs for every line that means anything.
_HANDLERS: Final[Mapping[type | Signal, Callable[[Machine, int, Any], None]]] = {
    StateSet: Machine._state_set,
    Pending: Machine._pending_seen,
    Transferred: Machine._transferred_seen,
    SyncEnded: Machine._sync_ended,
    LowPending: Machine._low_pending,
    SectionStarted: Machine._section_started,
    SectionEnded: Machine._section_ended,
    DeviceSaved: Machine._device_saved,
    DeviceDowntime: Machine._device_downtime,
    Pinged: Machine._pinged,
    PostcopyRequests: Machine._postcopy_requests_counted,
    ThrottleSet: Machine._throttle_set,
    ErrorSet: Machine._error_set,
    ErrorReported: Machine._error_reported,
    Signal.HEADER: Machine._header,
    Signal.SETUP_COMPLETE: Machine._setup_complete,
    Signal.ITERATE: Machine._iterated,
    Signal.SYNC_START: Machine._sync_started,
    Signal.THROTTLE: Machine._throttled,
    Signal.THROTTLE_SYNC: Machine._throttle_syncs,
    **dict.fromkeys(RANKS, Machine._stopping),
    Signal.ITERABLE_SAVED: Machine._iterable_saved,
    Signal.DOWNTIME_END: Machine._downtime_end,
    Signal.POSTCOPY_START: Machine._postcopy_start,
    Signal.POSTCOPY_REQUEST: Machine._postcopy_request,
    Signal.FAILING: Machine._failing,
    Signal.POSTCOPY_RESUMED: Machine._resumed,
    Signal.AFTER_LOOP: Machine._after_loop,
    Signal.CLEANUP: Machine._cleanup,
    Signal.CANCEL: Machine._cancel_seen,
}
