"""All migrations of one QEMU, one after the other: which event begins one, and when nothing more belongs to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, Resumed, Started, Surprised
from qemu_migration_exporter.core.events import (
    BacktraceFrame,
    Event,
    FunctionCalled,
    Line,
    LinesLost,
    LowPending,
    Pending,
    QmpCommand,
    Signal,
    SignalEvent,
    StateSet,
    Transferred,
)
from qemu_migration_exporter.core.model import ClockKind, Migration, Result, Side, SurpriseKind
from qemu_migration_exporter.core.qmp_parameters import Parameters, read_object
from qemu_migration_exporter.core.stalls.detector import StallPolicy
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.core.tracking.machine import DEFAULT_PAGE_SIZE_BYTES, Machine
from qemu_migration_exporter.core.tracking.states import RESULTS, SOURCE_ONLY

#: after_loop, cleanup and error_report lines this soon after the outcome still belong to it.
LINGER_NS: Final = 1_000_000_000

#: After after_loop a terminal state comes as soon as QEMU has joined its threads and closed its channels. If it has not
#: come by now its line is lost.
LOST_OUTCOME_NS: Final = 30_000_000_000

#: A migration that runs prints something every 100 ms; one that waits for its operator (in pre-switchover, or in a
#: post-copy that lost its network) prints nothing. After a day of silence its QEMU is gone.
SILENCE_NS: Final = 24 * 3600 * 1_000_000_000

#: Where these come first, the stream was joined in the middle of a migration.
_MIDDLE_EVENTS: Final = (Pending, Transferred, LowPending)
_MIDDLE_MARKS: Final = frozenset({Signal.SETUP_COMPLETE, Signal.POSTCOPY_START, Signal.DOWNTIME_START})
_MIDDLE_STATES: Final = (SOURCE_ONLY - set(RESULTS)) | {"postcopy-active", "postcopy-paused", "active"}

#: What says something of a migration and is no part of it.
_NOTES: Final = frozenset({BacktraceFrame, FunctionCalled, LinesLost, QmpCommand})

#: What can begin another migration in the middle of one.
_BEGINNINGS: Final = frozenset({StateSet, Signal.HEADER})

_SYNC_START: Final = Signal.SYNC_START

#: What is not only the machine's: one question for each event, of which nearly none is.
_SPECIAL: Final = frozenset({*_NOTES, *_BEGINNINGS, _SYNC_START})

_MAX_FRAMES: Final = 64


class Tracker:
    """Follow one QEMU process, or one stream that does not tell processes apart."""

    def __init__(
        self,
        *,
        vm: str,
        stream: str,
        clock: ClockKind,
        uuid: str | None = None,
        page_size: int = DEFAULT_PAGE_SIZE_BYTES,
        policy: StallPolicy | None = None,
    ) -> None:
        self._vm = vm
        self._uuid = uuid
        self._stream = stream
        self._clock = clock
        self._page_size = page_size
        self._machine: Machine | None = None
        #: The side and the trace id of the last attempt, if that did not complete.
        self._failed: tuple[Side | None, str] | None = None
        self._started = False
        self._began_by_active = False
        self._ordinal = 0
        self._states_enabled = False
        self._announced: Side | None = None
        self._policy = policy or StallPolicy()
        self._parameters = Parameters()
        self._is_other_use = False
        self._function: str | None = None
        self._frames: dict[str, list[str]] = {}

    def apply(self, lines: Iterable[tuple[Line, int]]) -> list[Change]:
        """Take events, each with its time and with the line that said it, for the trace id of what it may begin."""
        changes: list[Change] = []
        machine = self._machine
        for (event, line, _), at_ns in lines:
            key = event.mark if type(event) is SignalEvent else type(event)
            is_special = key in _SPECIAL
            if is_special and key in _NOTES:
                changes += self._note(event)
                continue
            if machine is not None and (machine.due_ns <= at_ns or at_ns - machine.last_ns > SILENCE_NS):
                changes += self.tick(at_ns)
                machine = self._machine
            # In the middle of a migration, where nearly all events are, only few can begin another.
            if machine is None or machine.outcome.at_ns is not None or (is_special and key in _BEGINNINGS):
                if type(event) is StateSet and event.state is not None:
                    self._states_enabled = True
                if self._begins(event):
                    changes += self._begin(event, at_ns, line)
                machine = self._machine
                if machine is None:
                    continue
            if is_special and key is _SYNC_START:
                machine.sync_stacktrace = self._take_frames("migration_bitmap_sync")
            machine.apply(event, key, at_ns)
            if machine.changes or not self._started:
                changes += self._drain(machine)
        return changes

    def tick(self, now_ns: int) -> list[Change]:
        """Let time pass: it shows what does not move, and ends for good what nothing else ends."""
        machine = self._machine
        if machine is None:
            return []
        outcome_ns, left_loop_ns = machine.outcome.at_ns, machine.outcome.left_loop_ns
        if outcome_ns is not None:
            is_over = now_ns - outcome_ns > LINGER_NS
        elif left_loop_ns is not None:
            is_over = now_ns - left_loop_ns > LOST_OUTCOME_NS
        else:
            is_over = False
            machine.tick(now_ns)
        if is_over or now_ns - machine.last_ns > SILENCE_NS:
            if outcome_ns is None and left_loop_ns is not None:
                machine.outcome.assume_end()
            return self._finish(machine)
        return self._drain(machine) if machine.changes else []

    def resume(self) -> list[Change]:
        """Say which migration is open, after this tracker was restored from a snapshot."""
        if self._machine is None or not self._started:
            return []
        machine = self._machine
        return [Resumed(machine.identity, machine.progress_now(), machine.rounds_told)]

    def progress(self) -> list[Change]:
        """Return the numbers of the running migration if they changed."""
        return self._machine.progress() if self._machine is not None and self._started else []

    @property
    def is_idle(self) -> bool:
        """Whether no migration is open."""
        return self._machine is None

    def running(self) -> Migration | None:
        """Return the open migration as far as it is known, None if there is none or none is certain."""
        return self._machine.migration_now() if self._machine is not None and self._started else None

    def lines_lost(self) -> None:
        """Note that lines are missing: what is open is not whole."""
        if self._machine is not None:
            self._machine.partial = True

    def close(self) -> list[Change]:
        """End what is still open: the stream is over."""
        if self._machine is None:
            return []
        self._machine.outcome.assume_end()
        return self._finish(self._machine)

    def _note(self, event: Event) -> Sequence[Change]:
        match event:
            case LinesLost():
                self.lines_lost()
                return [lost(event)]
            case FunctionCalled(function=function):
                self._function = function
                self._frames[function] = []
                if function == "qmp_migrate":
                    self._announced = Side.SOURCE
            case BacktraceFrame(frame=frame):
                frames = self._frames.get(self._function or "")
                if frames is not None and len(frames) < _MAX_FRAMES:
                    frames.append(frame)
            case QmpCommand(name="migrate_set_parameters", arguments=arguments):
                before = self._parameters.downtime_limit_seconds
                self._parameters.note_parameters(arguments or "")
                limit_seconds = self._parameters.downtime_limit_seconds
                if self._machine is not None and limit_seconds is not None and limit_seconds != before:
                    self._machine.limit_set(limit_seconds)
            case QmpCommand(name="migrate_set_capabilities", arguments=arguments):
                self._parameters.note_capabilities(arguments or "")
            case QmpCommand(name="migrate", arguments=arguments):
                if read_object(arguments or "").get("resume") is not True:  # else post-copy goes on, and none begins
                    self._announced = Side.SOURCE
            case _:
                pass
        return ()

    def _take_frames(self, function: str) -> tuple[str, ...]:
        return tuple(self._frames.pop(function, ()))

    def _begins(self, event: Event) -> bool:
        """Say whether a migration begins here, be it in its middle."""
        machine = self._machine
        if machine is not None and machine.outcome.at_ns is None:
            # The beginning again is another attempt, unless nothing has happened since the first one.
            if type(event) is StateSet:
                return event.state == "setup" and machine.outcome.state not in {None, "setup"}
            is_header = type(event) is SignalEvent and event.mark is Signal.HEADER
            return is_header and not self._states_enabled and machine.has_left_setup
        match event:
            case StateSet(state="setup"):
                return True
            case SignalEvent(mark=Signal.HEADER):
                # Where states are printed, one of them comes first.
                return not self._states_enabled
            case SignalEvent(mark=Signal.INCOMING):
                return machine is None
            case SignalEvent(mark=mark):
                return machine is None and mark in _MIDDLE_MARKS
            case StateSet(state=state):
                return machine is None and state in _MIDDLE_STATES
            case _:
                return machine is None and isinstance(event, _MIDDLE_EVENTS)

    def _begin(self, event: Event, at_ns: int, line: bytes) -> list[Change]:
        changes: list[Change] = []
        if self._machine is not None:
            if self._machine.outcome.at_ns is None:
                changes.append(Surprised(SurpriseKind.RESTARTED, "a migration began while another was open"))
            changes += self._finish(self._machine)
        self._ordinal += 1
        at_beginning = (isinstance(event, StateSet) and event.state == "setup") or (
            isinstance(event, SignalEvent) and event.mark in {Signal.HEADER, Signal.INCOMING}
        )
        self._began_by_active = isinstance(event, StateSet) and event.state == "active"
        self._machine = Machine(
            trace_id=trace_ids.trace_id(
                self._vm, line, self._ordinal, at_ns if self._clock is ClockKind.ARRIVAL else None
            ),
            vm=self._vm,
            uuid=self._uuid,
            stream=self._stream,
            clock=self._clock,
            start_ns=at_ns,
            partial=not at_beginning and not self._began_by_active,
            page_size=self._page_size,
            stacktrace=self._take_frames("qmp_migrate"),
            parameters=self._parameters,
            policy=self._policy,
        )
        self._machine.side, self._announced = self._announced, None
        self._is_other_use = self._parameters.is_other_use
        if self._parameters.downtime_limit_seconds is not None:
            self._machine.limit_set(self._parameters.downtime_limit_seconds)
        self._started = False
        return changes

    def _drain(self, machine: Machine) -> list[Change]:
        """Take the machine's changes once it is certain that this is a migration."""
        if self._is_other_use:
            machine.take()
            return []
        if not self._started:
            if machine.side is None:
                return []
            # A destination says `active` first (to 8.1); for a source it means that the beginning is missing.
            machine.partial = machine.partial or (self._began_by_active and machine.side is Side.SOURCE)
            self._start(machine)
        return machine.take()

    def _start(self, machine: Machine) -> None:
        self._started = True
        if self._failed is not None and self._failed[0] in {machine.side, None}:
            machine.retry_of = self._failed[1]
        machine.changes.insert(0, Started(machine.identity))

    def _finish(self, machine: Machine) -> list[Change]:
        self._machine = None
        if not self._started:
            if machine.outcome.state is None or machine.is_snapshot or self._is_other_use:
                return []
            if self._began_by_active:
                machine.side = Side.DESTINATION  # a source would have said `setup` first
            self._start(machine)
        self._started = False
        completed = machine.outcome.result()[0] is Result.COMPLETED
        self._failed = None if completed else (machine.side, machine.trace_id)
        return machine.finish()


def lost(event: LinesLost) -> Surprised:
    """Say that a probe dropped lines."""
    return Surprised(SurpriseKind.LINES_LOST, f"{event.lines} lines")
