"""One source of probe lines, from its bytes to changes: lines → format → clock → tracker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from exporter.core.changes import Change, Surprised
from exporter.core.clock import ReconstructedClock, StreamClock
from exporter.core.decoder import Decoder, Malformed
from exporter.core.events import Event
from exporter.core.formats import FORMATS, Format, recognise
from exporter.core.lines import LineSplitter
from exporter.core.machine import DEFAULT_PAGE_SIZE_BYTES
from exporter.core.model import ClockKind, SurpriseKind
from exporter.core.tracker import Tracker


@dataclass(slots=True)
class Counts:
    """What the lines of a stream were; events, noise and malformed add up to lines."""

    lines: int = 0
    events: int = 0
    noise: int = 0
    malformed: int = 0
    surprises: Counter[SurpriseKind] = field(default_factory=Counter)


class Stream:
    """Read one stream.

    Args:
        name: What the stream is called in metrics and reports.
        vm: The virtual machine its lines are about.
        format_name: One of `FORMATS`; recognised from the lines if None.
        untimed: The clock of lines that carry no time: reconstructed in replay, arrival live.
        start_ns: Where a reconstructed clock begins.
        page_size: Bytes of a guest page (TARGET_PAGE_SIZE), which is not in the stream.
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
    ) -> None:
        self.name = name
        self.counts = Counts()
        self.last_event_ns: int | None = None
        self.vm = vm
        self._untimed = untimed
        self._start_ns = start_ns
        self._page_size = page_size
        self._decoder = Decoder()
        self._lines = LineSplitter()
        self._format: Format | None = FORMATS[format_name](self._decoder) if format_name else None
        # Until a line tells, only what all formats share is read: error reports, torn names, noise.
        self._guess = FORMATS["qemu-log-bare"](self._decoder)
        self._clock: StreamClock | ReconstructedClock | None = None
        self._tracker: Tracker | None = None
        self._last_line: bytes | None = None

    @property
    def format_name(self) -> str | None:
        """The format's name, None as long as no line told."""
        return self._format.name if self._format else None

    @property
    def clock_kind(self) -> ClockKind:
        """Where the times come from."""
        timed = self._format.timed if self._format else self._untimed is ClockKind.ARRIVAL
        return ClockKind.PROBE if timed and self._format else self._untimed

    def feed(self, chunk: bytes, now_ns: int = 0) -> list[Change]:
        """Take bytes, which came at `now_ns`; return what they mean."""
        return self._take(self._lines.feed(chunk), now_ns)

    def close(self, now_ns: int = 0) -> list[Change]:
        """Take the end of the stream; return what it ends."""
        changes = self._take(self._lines.close(), now_ns)
        if self._clock is not None and self._tracker is not None:
            for event, at_ns, line in self._clock.close():
                changes += self._tracker.apply(event, at_ns, line)
            changes += self._tracker.close()
        return self._counted(changes)

    def surprise(self, kind: SurpriseKind, detail: str) -> list[Change]:
        """Count a surprise that came from outside of the lines."""
        return self._counted([Surprised(kind, detail)])

    def _take(self, lines: list[bytes], now_ns: int) -> list[Change]:
        changes: list[Change] = []
        for line in lines:
            event = self._event(line)
            if event is not None:
                changes += self._apply(event, line, now_ns)
        if self._tracker is not None:
            changes += self._tracker.progress()
        return self._counted(changes)

    def _event(self, line: bytes) -> Event | None:
        """Read and count one line."""
        counts = self.counts
        counts.lines += 1
        if self._format is None:
            name = recognise(line, self._decoder)
            if name is not None:
                self._format = FORMATS[name](self._decoder)
        parsed = (self._format or self._guess).parse(line)
        if parsed is None:
            counts.noise += 1
            return None
        if isinstance(parsed, Malformed):
            counts.malformed += 1
            return parsed.salvaged
        counts.events += 1
        return parsed

    def _apply(self, event: Event, line: bytes, now_ns: int) -> list[Change]:
        if self._format is None:
            return []  # an error report before anything else
        if self._format.timed and event.at_ns is not None and line == self._last_line:
            return [Surprised(SurpriseKind.DUPLICATE, "the same line twice")]
        self._last_line = line
        if self._clock is None:
            kind = self.clock_kind
            reconstructed = kind is ClockKind.RECONSTRUCTED
            self._clock = ReconstructedClock(self._start_ns) if reconstructed else StreamClock(kind)
        if self._tracker is None:
            self._tracker = Tracker(vm=self.vm, stream=self.name, clock=self._clock.kind, page_size=self._page_size)
        changes: list[Change] = []
        jumps_back = self._clock.jumps_back
        for placed, at_ns, placed_line in self._clock.place(event, line, now_ns):
            self.last_event_ns = at_ns
            changes += self._tracker.apply(placed, at_ns, placed_line)
        if self._clock.jumps_back > jumps_back:
            changes.append(Surprised(SurpriseKind.CLOCK_BACKWARD, "a line is older than the one before it"))
        return changes

    def _counted(self, changes: list[Change]) -> list[Change]:
        for change in changes:
            if isinstance(change, Surprised):
                self.counts.surprises[change.kind] += 1
        return changes
