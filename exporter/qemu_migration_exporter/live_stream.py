"""A stream of a daemon: its core stream, its position and time, and the history that is not reported.

A history is what a file contained before the daemon opened it. Migrations that ended in it were reported by an earlier
run, or no exporter ran then. So its changes wait until it has been read, and only those of open migrations are
reported.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from qemu_migration_exporter.checkpoint_data import StreamCheckpoint
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.changes import Change, MigrationEnded, Resumed, Started, Surprised
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.tracking.processes import ProcessBudget
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.ops.sanitize import decode_filename
from qemu_migration_exporter.ops.stream_clock import StreamTime
from qemu_migration_exporter.present import hints
from qemu_migration_exporter.sources import Position
from qemu_migration_exporter.sources.liveness import ProcessWatch, boot_id
from qemu_migration_exporter.sources.naming import vm_name
from qemu_migration_exporter.sources.procfs import Guest, read_guest

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class LiveStream:
    """A stream of a source, and the daemon's knowledge of it.

    Attributes:
        position: The position after the bytes read, None if the stream cannot be resumed.
        is_dirty: True if its line of the checkpoint is out of date.
        is_catching_up: True while reading bytes from before the source was opened.
        history: Changes of open migrations in these bytes if they are not reported yet; else None.
        reported: Hints that were logged.
    """

    stream: Stream
    source: SourceConfig
    time: StreamTime = field(default_factory=StreamTime)
    watch: ProcessWatch = field(default_factory=ProcessWatch)
    position: Position | None = None
    is_dirty: bool = True
    up: bool = True
    problem: str = ""
    is_catching_up: bool = False
    history: list[Change] | None = None
    reported: set[str] = field(default_factory=set)

    def commit(self) -> Callable[[], StreamCheckpoint] | None:
        """Return what makes the stream's line of a checkpoint, None if the last line is up to date or there is none."""
        # History is not reported yet: it is read again after a restart.
        if not self.is_dirty or self.position is None or self.history is not None:
            return None
        self.is_dirty = False
        return partial(self._checkpoint, self.position)

    def _checkpoint(self, position: Position) -> StreamCheckpoint:
        """Return what the stream needs to be resumed at a position."""
        return StreamCheckpoint(
            position=position,
            state=self.stream.snapshot(),
            counts=self.stream.counts,
            processes=self.watch.known(),
            boot=boot_id(),
        )

    def now_ns(self, wall_ns: int) -> int:
        """Return the time on the clock of the stream's lines."""
        return self.time.now_ns(wall_ns, is_open=not self.stream.is_idle)

    def observe_time(self) -> None:
        """Adjust the time to the last line; if the clock was set back, the line is later than the wall time."""
        event_ns = self.stream.last_event_ns
        if event_ns is not None:
            # A file may be read late; all other sources give lines as they are written.
            self.time.observe(event_ns, is_news=self.source.file is None or event_ns > time.time_ns())

    def to_report(self, changes: Sequence[Change]) -> Sequence[Change]:
        """Return the changes to report now; changes of a history are kept until it has been read."""
        if self.history is None:
            return changes
        # A log may be long, so migrations that ended are dropped at once. The stream counts the surprises itself.
        self.history += [change for change in changes if not isinstance(change, Surprised)]
        if any(isinstance(change, MigrationEnded) for change in changes):
            self.history = _without_ended(self.history)
        return ()

    def catch_up(self, now_ns: int) -> Sequence[Change]:
        """End the history; return the changes of the migrations that are open after it."""
        self.is_catching_up = False
        self.observe_time()
        history, self.history = self.history, None
        return () if history is None else _without_ended([*history, *self.stream.tick(now_ns)])

    @property
    def problems(self) -> list[str]:
        """Reasons why the stream is unusual."""
        stream = self.stream
        return hints.warnings(stream.hints, lines=stream.counts.lines, has_events=stream.format_name is not None)

    @property
    def silence(self) -> str | None:
        """The remark on a stream that has had no event."""
        stream, unreadable = self.stream, "" if self.up else self.problem
        if stream.format_name is not None:
            return None
        return hints.silence(stream.hints, lines=stream.counts.lines, unreadable=unreadable)

    def report_hints(self) -> None:
        """Log every problem once; a stream without an event may simply have had no migration."""
        stream = self.stream
        for message in self.problems:
            if message not in self.reported:
                self.reported.add(message)
                logger.warning("stream unusual", extra={"stream": stream.name, "reason": message})
        unreadable = "" if self.up else self.problem
        if stream.counts.lines and stream.format_name is None and not self.problems and unreadable not in self.reported:
            silence = self.silence
            self.reported.add(unreadable)
            if silence is not None:
                logger.info("stream silent", extra={"stream": stream.name, "reason": silence})


def make_stream(
    name: str,
    source: SourceConfig,
    vm: str,
    watch: ProcessWatch,
    *,
    config: Config,
    room: ProcessBudget,
    failures: ErrorCounter,
) -> Stream:
    """Return a new stream of a source, which uses the configuration in force."""

    def name_process(process: int) -> Guest:
        watch.look(process)
        return read_guest(process)

    return Stream(
        decode_filename(name),
        vm=vm,
        format_name=source.format,
        untimed=ClockKind.ARRIVAL,
        page_size=config.page_size_bytes,
        name_process=name_process,
        parser=config.parser_options(
            partial(failures.record, Component.STREAM, "addresses of marks are not known: %s")
        ),
        policy=config.verdict.policy(),
        room=room,
        # A configured name, or a name made unique, is not replaced by the name in the log.
        is_named=source.vm is not None or vm != vm_name(name),
    )


def _without_ended(history: Iterable[Change]) -> list[Change]:
    """Drop the changes of migrations that have ended."""
    history = list(history)
    ended = {change.trace_id for change in history if isinstance(change, MigrationEnded)}
    return [change for change in history if _trace_of(change) not in ended]


def _trace_of(change: Change) -> str | None:
    if isinstance(change, Surprised):
        return None
    return change.identity.trace_id if isinstance(change, Started | Resumed) else change.trace_id
