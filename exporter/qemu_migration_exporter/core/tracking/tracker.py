"""The migrations of one QEMU, in sequence: which event begins a migration, and when the last event has come.

    line ──> aside from migrations: commands, the guest, QEMU itself
        └──> begins a migration? ──> Machine ──> withheld until it is certain ──> changes

Events that several jobs print, such as the state `active`, may begin a migration that turns out to be none. The changes
of such a machine are withheld until an event proves a migration. After the outcome a machine stays open for a moment,
because cleanup marks and error lines follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Final

from qemu_migration_exporter.core.changes import Change, GuestGone, PhaseEnded, Resumed, Started, Surprised
from qemu_migration_exporter.core.events import (
    BacktraceFrame,
    ChannelFailed,
    ErrorReported,
    Event,
    FunctionCalled,
    GuestDescribed,
    LinesLost,
    QemuEnded,
    QemuStarted,
    QmpCommand,
    SignalEvent,
    StateSet,
)
from qemu_migration_exporter.core.lines import PlacedLines
from qemu_migration_exporter.core.measures.guest import follow_guest
from qemu_migration_exporter.core.migration import completion, ending, summary
from qemu_migration_exporter.core.migration.apply import Row, apply, apply_run, finish
from qemu_migration_exporter.core.migration.apply import tick as tick_machine
from qemu_migration_exporter.core.migration.machine import DEFAULT_PAGE_SIZE_BYTES, Machine
from qemu_migration_exporter.core.model import ClockKind, Kind, Migration, Result, Side, SurpriseKind
from qemu_migration_exporter.core.signals import ASIDE, BEGINNING, GUEST, Meaning, meaning_of
from qemu_migration_exporter.core.stalls.detector import StallPolicy
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.core.tracking.announcements import add_backtrace, add_command, take_frames
from qemu_migration_exporter.core.tracking.beginning import begins, next_kind, next_side
from qemu_migration_exporter.core.tracking.last_event import SILENCE_NS, last_event_by_ns
from qemu_migration_exporter.core.tracking.snapshot import TrackerState, Withheld

#: QEMU's line at a signal has the form of an error report: os_kill_reported of os-posix.c.
_TERMINATING: Final = "terminating on signal "

#: A backtrace has ten frames and more, in front of each bitmap sync.
_OF_BACKTRACES: Final = frozenset({FunctionCalled, BacktraceFrame})


class Tracker:
    """The migrations of one QEMU process, or of a stream without process ids."""

    def __init__(
        self,
        *,
        vm: str,
        stream: str,
        clock: ClockKind,
        uuid: str | None = None,
        page_size: int = DEFAULT_PAGE_SIZE_BYTES,
        policy: StallPolicy | None = None,
        state: TrackerState | None = None,
        is_named: bool = False,
    ) -> None:
        self.is_named = is_named
        self.vm = vm
        self.uuid = uuid
        self.releases: tuple[tuple[int, int], tuple[int, int]] = ((2, 0), (99, 0))
        self.state = state or TrackerState()
        self._stream = stream
        self._clock = clock
        self._page_size = page_size
        self._policy = policy or StallPolicy()
        machine = self.state.machine
        if machine is not None:
            machine.parameters = self.state.parameters
            machine.detector.use(self._policy)

    def apply(self, lines: PlacedLines, now_ns: int | None = None) -> list[Change]:
        """Apply events, each with its time and with its line, which names the migration it may begin.

        `now_ns` is the present in a live stream. A later line has the time of a clock that was set forward, which is
        no proof of silence.
        """
        changes: list[Change] = []
        if self.state.machine is not None:
            self.state.machine.releases = self.releases
        rows = zip(lines.events, lines.texts, lines.times, strict=True)
        for first in rows:
            state, machine, row = self.state, self.state.machine, first
            is_certain = state.is_started and not state.is_other_use
            if machine is not None and machine.side is not None and is_certain and type(row[0]) not in _OF_BACKTRACES:
                rest = apply_run(machine, chain([first], rows), SILENCE_NS, changes)
                if rest is None:
                    break
                row = rest
            if type(row[0]) in _OF_BACKTRACES:
                add_backtrace(state, row[0])
            else:
                changes += self._apply_one(row, now_ns)
        return changes

    def _apply_one(self, row: Row, now_ns: int | None) -> Sequence[Change]:
        """Apply an event that may begin or end a migration, or that is aside from migrations."""
        (event, line, at_ns), state = row, self.state
        meaning = meaning_of(event)
        if meaning in ASIDE:
            return self._apply_aside(event, at_ns)
        if meaning in GUEST:
            follow_guest(state.guest, event, at_ns)
        changes: list[Change] = []
        machine = state.machine
        if machine is not None and (machine.next_check_ns <= at_ns or at_ns - machine.last_ns > SILENCE_NS):
            changes += self.tick(at_ns, now_ns)
            machine = state.machine
        if machine is None or machine.outcome.at_ns is not None or meaning in BEGINNING:
            if type(event) is StateSet and event.state is not None:
                state.states_enabled = True
            if begins(state, event, meaning):
                changes += self._begin(event, meaning, at_ns, line)
            machine = state.machine
            if machine is None:
                return changes
        if type(event) is ErrorReported and event.text.startswith(_TERMINATING):
            return [*changes, *self.qemu_ended(at_ns, event.text)]
        if meaning is Signal.SYNC_START:
            machine.sync_stacktrace = take_frames(state, "migration_bitmap_sync")
        changed = apply(machine, event, meaning, at_ns)
        if changed or not state.is_started:
            changes += self._released(machine, changed)
        return changes

    def tick(self, now_ns: int, live_ns: int | None = None) -> list[Change]:
        """Advance the time: report stalls, and end migrations whose last event has come."""
        machine = self.state.machine
        if machine is None or (machine.is_quiet(now_ns) and now_ns - machine.last_ns <= SILENCE_NS):
            return []
        lacks_outcome = machine.outcome.at_ns is None and machine.outcome.left_loop_ns is not None
        last_ns = last_event_by_ns(machine.outcome)
        changed = tick_machine(machine, now_ns) if last_ns is None else ()
        silent_ns = (now_ns if live_ns is None else min(now_ns, live_ns)) - machine.last_ns
        if (last_ns is not None and now_ns > last_ns) or silent_ns > SILENCE_NS:
            if lacks_outcome:
                machine.outcome.assume_end()
            return self._finish(machine, changed)
        return [*self._released(machine, changed)]

    def resume(self) -> list[Change]:
        """Return the change that announces the open migration, after this tracker was restored."""
        machine = self.state.machine
        if machine is None or not self.state.is_started:
            return []
        return [Resumed(machine.identity, summary.progress(machine), tuple(machine.precopy.finished))]

    @property
    def open_since_ns(self) -> int | None:
        """Start of the open migration, None if there is none."""
        return None if self.state.machine is None else self.state.machine.start_ns

    @property
    def is_idle(self) -> bool:
        """True if no migration is open."""
        return self.state.machine is None

    def running(self) -> Migration | None:
        """Return the summary of the open migration so far, None without one or while its changes are withheld."""
        machine = self.state.machine
        return summary.migration(machine) if machine is not None and self.state.is_started else None

    def lines_lost(self) -> None:
        """Mark the open migration as partial: lines are missing."""
        if self.state.machine is not None:
            self.state.machine.partial = True

    def close(self) -> list[Change]:
        """End the open migration at the end of the stream."""
        if self.state.machine is None:
            return []
        self.state.machine.outcome.assume_end()
        return self._finish(self.state.machine)

    def qemu_ended(self, at_ns: int, text: str) -> list[Change]:
        """End the open migration with its QEMU; `text` is the evidence."""
        machine = self.state.machine
        if machine is None:
            return []
        changed = [*completion.postcopy_by_silence(machine, at_ns)]
        return [*self._released(machine, [*changed, *ending.qemu_ended(machine, at_ns, text)])]

    def _end_with_qemu(self, at_ns: int, text: str) -> list[Change]:
        """Finish the migration with its QEMU, then report a guest that is gone without a completed migration."""
        changes = self.qemu_ended(at_ns, text)
        machine = self.state.machine
        if machine is not None and machine.outcome.at_ns is not None:
            changes += self._finish(machine)
            if machine.outcome.qemu_ended is not None:
                return changes
        if self.state.machine is None and self.state.failed_trace_id is not None:
            changes.append(GuestGone(self.state.failed_trace_id))
        return changes

    def replace_qemu(self, at_ns: int, text: str) -> list[Change]:
        """End the open migration at once, and forget what was set in a QEMU that is gone for certain."""
        changes = self.qemu_ended(at_ns, text)
        if self.state.machine is not None:
            changes += self._finish(self.state.machine)
        self.state = TrackerState(ordinal=self.state.ordinal)
        return changes

    def describe(self, event: GuestDescribed) -> None:
        """Set the guest's name or uuid from QEMU's command line."""
        if event.incoming:
            self.state.announced = Side.DESTINATION
        if not self.is_named:
            self.vm, self.uuid = event.name or self.vm, event.uuid or self.uuid

    def _apply_aside(self, event: Event, at_ns: int) -> Sequence[Change]:
        """Apply an event that is part of no migration."""
        match event:
            case QmpCommand(name="stop" | "cont"):
                return self._run_state_requested(event, at_ns)
            case QmpCommand():
                add_command(self.state, event)
            case QemuStarted():
                return self.replace_qemu(at_ns, "another one was started")
            case QemuEnded(text=text):
                return self._end_with_qemu(at_ns, text)
            case GuestDescribed():
                self.describe(event)
            case LinesLost():
                self.lines_lost()
                return [lost(event)]
            case _:  # initiated
                self.state.initiated, self.state.announced = True, Side.SOURCE
        return ()

    def _run_state_requested(self, command: QmpCommand, at_ns: int) -> Sequence[Change]:
        """Follow QMP's `stop` or `cont`, which the guest obeys at once."""
        machine = self.state.machine
        mark = Signal.GUEST_STOPPED if command.name == "stop" else Signal.GUEST_RESUMED
        signal = SignalEvent(at_ns, None, mark)
        follow_guest(self.state.guest, signal, at_ns)
        if machine is None or machine.outcome.at_ns is not None:
            return ()
        return self._released(machine, apply(machine, signal, mark, at_ns))

    def _begin(self, event: Event, meaning: Meaning, at_ns: int, line: bytes) -> list[Change]:
        state = self.state
        changes: list[Change] = []
        if state.machine is not None:
            if state.machine.side is Side.DESTINATION:
                state.machine.outcome.assume_end()
            if state.machine.outcome.at_ns is None and state.is_started:
                changes.append(Surprised(SurpriseKind.RESTARTED, "a migration began while another was open"))
            changes += self._finish(state.machine)
        state.ordinal += 1
        word = event.state if type(event) is StateSet else None
        at_beginning = word == "setup" or meaning in {Signal.HEADER, Signal.INCOMING, ChannelFailed}
        state.began_by_active = word == "active"
        arrival_ns = at_ns if self._clock is ClockKind.ARRIVAL else None
        machine = state.machine = Machine.begin(
            trace_id=trace_ids.trace_id(self.vm, line, state.ordinal, arrival_ns),
            vm=self.vm,
            uuid=self.uuid,
            stream=self._stream,
            clock=self._clock,
            start_ns=at_ns,
            partial=not at_beginning and not state.began_by_active,
            page_size=self._page_size,
            stacktrace=take_frames(state, "qmp_migrate"),
            parameters=state.parameters,
            policy=self._policy,
        )
        machine.precopy.downtime_limit_seconds = state.parameters.downtime_limit_seconds
        machine.guest = state.guest.continued(at_ns)
        machine.detector.is_paused = machine.guest.is_suspended
        machine.kind = next_kind(state)
        machine.side, state.announced, state.uri, state.initiated = next_side(state), None, "", False
        machine.releases = self.releases
        state.is_other_use = state.parameters.is_other_use
        state.is_started = False
        state.withheld = Withheld()
        return changes

    def _released(self, machine: Machine, changed: Sequence[Change]) -> Sequence[Change]:
        """Return the machine's changes, or withhold them until a migration is certain."""
        state = self.state
        if state.is_other_use:
            return ()
        if state.is_started:
            return changed
        state.withheld.changes += changed
        if machine.side is None:
            return ()
        # `active` is the first state of a destination (to 8.1); a source with this first state lacks its beginning.
        machine.partial = machine.partial or (state.began_by_active and machine.side is Side.SOURCE)
        return self._start(machine)

    def _start(self, machine: Machine) -> list[Change]:
        state = self.state
        state.is_started = True
        if state.failed_trace_id is not None and state.failed_side in {machine.side, None}:
            machine.retry_of = state.failed_trace_id
        started = Started(machine.identity, summary.progress(machine))
        kept = [change for change in state.withheld.changes if machine.phases or not isinstance(change, PhaseEnded)]
        changes, state.withheld = [started, *kept], Withheld()
        return changes

    def _finish(self, machine: Machine, changed: Sequence[Change] = ()) -> list[Change]:
        state = self.state
        state.machine = None
        changes = [*self._released(machine, changed)]
        if not state.is_started:
            if machine.outcome.state is None or state.is_other_use:
                return []
            if machine.is_snapshot or machine.kind is Kind.SNAPSHOT:
                machine.side, machine.kind = Side.SOURCE, Kind.SNAPSHOT
            elif state.began_by_active:
                machine.side = Side.DESTINATION  # a source begins with `setup`
            elif machine.is_source_by_states:
                machine.side = Side.SOURCE
            elif machine.may_have_listened:
                machine.forget_phases()
            changes += self._start(machine)
        state.is_started = False
        machine.releases = self.releases
        completed = machine.outcome.result()[0] is Result.COMPLETED
        state.failed_side = None if completed else machine.side
        state.failed_trace_id = None if completed else machine.trace_id
        changes += finish(machine)
        if machine.outcome.qemu_ended is not None and not completed:
            changes.append(GuestGone(machine.trace_id))
        return changes


def lost(event: LinesLost) -> Surprised:
    """Return the surprise for lines that a probe dropped."""
    return Surprised(SurpriseKind.LINES_LOST, f"{event.lines} lines")
