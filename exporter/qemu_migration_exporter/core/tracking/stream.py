"""One source of probe lines, from its bytes to changes.

    bytes ──LineSplitter──> lines ──LineParser──> events ──Clock──> events in time ──Tracker──> changes

Until the format is known, lines are parsed one by one, because any line may decide on it. Later, if most lines of a
block are noise, a prefilter drops the noise before the block is split. The clock may hold lines back until their time
is certain. `processes` has the trackers.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from qemu_migration_exporter.core.changes import Change, Surprised
from qemu_migration_exporter.core.events import ErrorReported, Event, GuestDescribed, LinesLost
from qemu_migration_exporter.core.lines import Lines, PlacedLines
from qemu_migration_exporter.core.migration.machine import DEFAULT_PAGE_SIZE_BYTES
from qemu_migration_exporter.core.model import ClockKind, Migration, SurpriseKind
from qemu_migration_exporter.core.parsing.decoder import Malformed
from qemu_migration_exporter.core.parsing.hints import Hint
from qemu_migration_exporter.core.parsing.line_parser import LineParser
from qemu_migration_exporter.core.parsing.line_reader import LineReader
from qemu_migration_exporter.core.parsing.line_splitter import LineSplitter
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.stalls.detector import StallPolicy
from qemu_migration_exporter.core.timeline.clock import Clock, ClockState, HeldLine, none
from qemu_migration_exporter.core.timeline.reconstructed import ReconstructedClock
from qemu_migration_exporter.core.timeline.reordering import ReorderingClock
from qemu_migration_exporter.core.timeline.stream import StreamClock
from qemu_migration_exporter.core.tracking.processes import ProcessBudget, Processes, ProcessResolver
from qemu_migration_exporter.core.tracking.snapshot import StreamState, TrackerState
from qemu_migration_exporter.core.tracking.tracker import Tracker

#: To find a line, a prefilter costs as much as parsing three: it pays in blocks of hundreds of lines, mostly noise.
_NOISY: Final = 0.8
_PREFILTERED_BYTES: Final = 16 * 1024


@dataclass(slots=True)
class Counts:
    """Counters of a stream's lines; events, noise and malformed lines add up to `lines`."""

    lines: int = 0
    events: int = 0
    noise: int = 0
    malformed: int = 0
    surprises: Counter[SurpriseKind] = field(default_factory=Counter)


class Stream:
    """Read one stream.

    Args:
        name: The stream's name in metrics and reports.
        vm: The virtual machine its lines are about; of several processes, the ones `name_process` does not know are
            called `vm/PROCESS`.
        format_name: One of `FORMATS`; recognised from the lines if None.
        untimed: The clock of lines that carry no time: reconstructed in replay, arrival live.
        start_ns: Start of a clock whose lines do not give it.
        page_size: Bytes of a guest page (TARGET_PAGE_SIZE), which is not in the stream.
        name_process: Called once for each process of a stream whose lines carry process ids.
        parser: The vocabulary and other settings of the parser.
        policy: The thresholds of the stall detector.
        room: The process budget shared with other streams, None without one.
        is_named: `vm` was configured, so a name in the log does not replace it.
    """

    def __init__(
        self,
        name: str,
        *,
        vm: str,
        format_name: str | None = None,
        untimed: ClockKind = ClockKind.RECONSTRUCTED,
        start_ns: int = 0,
        page_size: int = DEFAULT_PAGE_SIZE_BYTES,
        name_process: ProcessResolver | None = None,
        parser: ParserOptions | None = None,
        policy: StallPolicy | None = None,
        room: ProcessBudget | None = None,
        is_named: bool = False,
    ) -> None:
        self.name = name
        self._is_named = is_named
        self.vm = vm
        self.processes = Processes(vm, self._make_tracker, name_process, room or ProcessBudget(sys.maxsize))
        self.counts = Counts()
        self.last_event_ns: int | None = None
        self._untimed = untimed
        self._start_ns = start_ns
        self._page_size = page_size
        self._policy = policy or StallPolicy()
        self._parser = LineParser(parser, format_name)
        self._reader = LineReader(self._parser)
        self._lines = LineSplitter()
        self._clock: Clock | None = None
        self._jumps_back = 0
        self._now_ns: int | None = None
        self._noise_before = self._lines_before = 0

    @property
    def format_name(self) -> str | None:
        """The format's name, None until a line is recognised."""
        return self._parser.format.name if self._parser.format else None

    @property
    def hints(self) -> tuple[tuple[Hint, str], ...]:
        """Reasons for which lines were not understood, each with a detail."""
        return self._parser.hints

    @property
    def clock_kind(self) -> ClockKind:
        """The source of the stream's times, which the first event decides."""
        if self._clock is not None:
            return self._clock.kind
        return ClockKind.PROBE if self._parser.timed else self._untimed

    def feed(self, chunk: bytes, now_ns: int = 0) -> list[Change]:
        """Read bytes that arrived at `now_ns`; return the changes."""
        self._now_ns = now_ns or None
        lines, block = self._lines.take(chunk)
        if block:
            lines += self._kept(block)
        changes = self._take(lines, now_ns)
        return self._counted(changes) if changes else changes

    def _kept(self, block: bytes) -> list[bytes]:
        """Split a block into lines; if most lines are noise, count and drop the noise in bulk."""
        if len(block) < _PREFILTERED_BYTES:
            return self._lines.split(block)
        noise, lines = self.counts.noise, self.counts.lines
        was_noisy = noise - self._noise_before > _NOISY * (lines - self._lines_before)
        self._noise_before, self._lines_before = noise, lines
        if not was_noisy:
            return self._lines.split(block)
        prefilter = self._parser.prefilter
        if prefilter is None:
            return self._lines.split(block)
        kept = self._lines.cut(prefilter.keep(block))
        dropped = block.count(b"\n") - 1 - len(kept)
        self.counts.lines += dropped
        self.counts.noise += dropped
        return kept

    def close(self, now_ns: int = 0) -> list[Change]:
        """Close the stream; return the changes of the migrations that this ends."""
        changes = self._take(self._lines.close(), now_ns)
        if self._clock is not None:
            self._place(self._clock.close(), changes)
        changes += self.processes.close()
        return self._counted(changes)

    def tick(self, now_ns: int) -> list[Change]:
        """Advance the time of a live stream: release lines that the clock held back, and end migrations by time."""
        if self._clock is None:
            return []
        changes: list[Change] = []
        self._place(self._clock.tick(now_ns), changes)
        if self.processes.are_idle:
            self._clock.settle(now_ns)
            self._parser.decoder.forget()
            self.processes.settle(now_ns)
        changes += self.processes.tick(now_ns)
        return self._counted(changes)

    @property
    def is_idle(self) -> bool:
        """True if no migration is open in the stream."""
        return self.processes.are_idle

    def running(self) -> list[Migration]:
        """Return the summaries of the open migrations so far."""
        return self.processes.running()

    def process_ended(self, process: int, at_ns: int) -> list[Change]:
        """End the open migration of a process that is gone."""
        return self._counted(self.processes.end(process, at_ns))

    def snapshot(self) -> StreamState:
        """Return the data with which another stream can continue behind the bytes read so far."""
        return StreamState(
            format_name=self.format_name,
            tail=self._lines.tail,
            releases=self._parser.decoder.releases,
            clock=None if self._clock is None else self._clock.state(),
            processes=self.processes.states(),
            last_line=self._reader.last_text,
            last_event_ns=self.last_event_ns,
            envelopes=self._parser.envelopes,
        )

    def restore(self, state: StreamState) -> list[Change]:
        """Continue from kept data, on a stream that has read nothing yet; return which migrations are open."""
        self._lines.restore(state.tail)
        self._parser.decoder.restore(state.releases)
        self._parser.restore(state.format_name, state.envelopes)
        if self._parser.format is not None and state.clock is not None:
            self._clock = self._make_clock(state.clock.kind)
            self._clock.restore(state.clock, self._parse_held(state.clock))
            self._jumps_back = self._clock.jumps_back
        self._reader.last_text = state.last_line
        self.last_event_ns = state.last_event_ns
        return self.processes.restore(state.processes)

    def _parse_held(self, clock: ClockState) -> Lines:
        """Parse again the lines that a clock held back; drop lines that no longer parse as events."""
        parse, _ = self._parser.functions()
        events: list[Event] = []
        kept: list[HeldLine] = []
        for held in clock.held:
            parsed = parse(held.text)
            event = parsed.salvaged if isinstance(parsed, Malformed) else parsed
            if event is not None:
                events.append(event)
                kept.append(held)
        clock.held = kept
        columns = [held.text for held in kept], [held.process for held in kept], [held.at_ns for held in kept]
        return Lines(events, *columns)

    def surprise(self, kind: SurpriseKind, detail: str) -> list[Change]:
        """Count a surprise that came from outside of the lines."""
        return self._counted([Surprised(kind, detail)])

    def _take(self, lines: list[bytes], now_ns: int) -> list[Change]:
        """Parse lines, place them in time, and return the changes."""
        changes: list[Change] = []
        first = 0
        while self._clock is None and first < len(lines):
            # Line by line, because any of these lines may decide on the format of the next.
            self._place(self._parse(lines[first : first + 1], now_ns, changes), changes)
            first += 1
        self._place(self._parse(lines[first:], now_ns, changes), changes)
        return changes

    def _parse(self, lines: list[bytes], now_ns: int, changes: list[Change]) -> PlacedLines:
        """Read lines and count them; return those whose time is certain now."""
        before = self._reader.last_text
        reading = self._reader.read(lines)
        counts = self.counts
        counts.lines += len(lines)
        counts.events += len(lines) - reading.noise - reading.malformed
        counts.noise += reading.noise
        counts.malformed += reading.malformed
        clock = self._clock or self._begin(reading.lines.events, changes)
        if clock is None:
            self._reader.last_text = before
            return none()
        if reading.duplicates:
            changes += [Surprised(SurpriseKind.DUPLICATE, "the same line twice")] * reading.duplicates
        return clock.place(reading.lines, now_ns or self._start_ns)

    def _begin(self, events: list[Event], changes: list[Change]) -> Clock | None:
        """Start the clock with the first event that shows whether lines carry a time."""
        parser = self._parser
        for event in events:
            if isinstance(event, LinesLost):
                changes += self.processes.lines_lost(event)
            elif isinstance(event, GuestDescribed) and self._clock is None:
                self.processes.described.append(event)
            elif parser.format is not None and not (parser.timed and _is_undated_report(event)):
                self._clock = self._make_clock()
            # otherwise an error report before any event: its time of arrival is not the time of the error
        return self._clock

    def _make_clock(self, kind: ClockKind | None = None) -> Clock:
        """Return the clock of the present format, or the clock of a kind that an earlier run used."""
        if self._parser.per_cpu and kind in {None, ClockKind.PROBE}:
            return ReorderingClock(monotonic=self._parser.monotonic)
        kind = kind or self.clock_kind
        return ReconstructedClock(self._start_ns) if kind is ClockKind.RECONSTRUCTED else StreamClock(kind)

    def _place(self, lines: PlacedLines, changes: list[Change]) -> None:
        """Add the changes of lines whose time is certain to `changes`."""
        if lines.times:
            self.last_event_ns = lines.times[-1]
            apply = self.processes.apply_each if isinstance(self._clock, ReorderingClock) else self.processes.apply
            changes += apply(lines, self._now_ns, self._parser.decoder.releases)
        if self._clock is not None:
            older, self._jumps_back = self._clock.jumps_back - self._jumps_back, self._clock.jumps_back
            if older:
                changes += [Surprised(SurpriseKind.CLOCK_BACKWARD, "a line is older than the one before it")] * older

    def _make_tracker(self, vm: str, uuid: str | None, state: TrackerState | None) -> Tracker:
        return Tracker(
            vm=vm,
            uuid=uuid,
            stream=self.name,
            clock=self.clock_kind,
            page_size=self._page_size,
            policy=self._policy,
            state=state,
            is_named=self._is_named,
        )

    def _counted(self, changes: list[Change]) -> list[Change]:
        for change in changes:
            if type(change) is Surprised:
                self.counts.surprises[change.kind] += 1
        return changes


def _is_undated_report(event: Event) -> bool:
    return isinstance(event, ErrorReported) and event.at_ns is None
