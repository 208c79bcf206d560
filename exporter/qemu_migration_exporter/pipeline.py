"""Pipeline of a daemon: items of sources become changes, sinks apply the changes, and a checkpoint keeps both.

    sources ─Item→ Pipeline ─bytes→ Stream (core) ─Change→ Sinks {metrics, history, spans}
                      └─ commit ─→ checkpoint: positions, snapshots, counters, unsent spans

**History.** A file that exists at the start is read from its beginning, because a migration may be open in it.
Migrations that ended in it are not reported: an earlier run reported them, or no exporter ran then. A file that
appeared since the last checkpoint of a daemon with the same pattern has no history: everything in it is reported.

**Commit.** The checkpoint is written in one step. It contains positions in files and everything computed from the bytes
before them: the state of the streams, the counters, and the spans that are neither sent nor spooled. After a crash, the
bytes after the positions are read again with the same result. So counters are exact. Spans are sent only after the
checkpoint behind their lines is on disk, at least once, with the same id.

**Numbers.** The numbers of running migrations are read for the sinks once a second, and before a commit if lines came
since, so that the counters in a checkpoint are those of its streams.

**Time.** Time passes in a stream by its lines, and by the clock once all its bytes have been read. A stream that is
behind affects no other.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from qemu_migration_exporter.checkpoint import Checkpoint, StreamCheckpoint
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.changes import Change, MigrationEnded, Resumed, Started, Surprised
from qemu_migration_exporter.core.model import ClockKind, Migration, SurpriseKind
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.tracking.processes import ProcessBudget
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.ops.errors import Attempt, Component
from qemu_migration_exporter.ops.sanitize import decode_filename
from qemu_migration_exporter.ops.stream_clock import StreamTime
from qemu_migration_exporter.present import hints
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.sources import (
    READ_LAG_NS,
    CaughtUp,
    Data,
    DataLost,
    HistoryBegins,
    Item,
    Position,
    StatusChanged,
    StreamClosed,
)
from qemu_migration_exporter.sources.liveness import ProcessWatch, boot_id
from qemu_migration_exporter.sources.naming import deduplicate, vm_name
from qemu_migration_exporter.sources.procfs import Guest, read_guest
from qemu_migration_exporter.state_store import StateStore
from qemu_migration_exporter.tracing.export.sender import SpanBatch

logger = logging.getLogger(__name__)

#: Limit of processes over all streams: more than any host runs, at some 20 KB per process with an open migration.
_MAX_PROCESSES: Final = 2_048


@dataclass(slots=True)
class _StreamState:
    """Stream of a source, and the daemon's knowledge of it.

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

    def checkpoint(self, position: Position) -> StreamCheckpoint:
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


class Pipeline:
    """Streams of a daemon.

    Attributes:
        config: Configuration of new streams.
        is_dirty: True if the last checkpoint is out of date.
        is_restored: True if there was a checkpoint to start from.

    Args:
        reports_past: True to report migrations that ended before the start too.
    """

    def __init__(self, config: Config, sinks: Sinks, *, reports_past: bool = False) -> None:
        self.config = config
        self._reports_past = reports_past
        self.is_dirty = False
        self._has_news = False
        self._sinks = sinks
        self._failures = sinks.failures
        self._room = ProcessBudget(_MAX_PROCESSES)
        self._streams: dict[str, _StreamState] = {}
        self._settled: set[str] = set()  # patterns whose files were read
        self._store = StateStore(Path(config.state_file), self._failures) if config.state_file else None
        before = self._before = Checkpoint() if self._store is None else self._store.loaded
        self.is_restored = before.saved_ns is not None
        if sinks.delivery is not None:
            sinks.delivery.restore(before.spans)
        self._remembered = dict(before.streams)
        with self._failures.guard(Component.STATE, "counters of the checkpoint are not restored"):
            sinks.metrics.restore(before.counters)

    def all(self) -> list[tuple[Stream, bool]]:
        """Return the streams, with True for a stream that can be read."""
        return [(state.stream, state.up) for state in list(self._streams.values())]

    def has(self, source: SourceConfig) -> bool:
        """Return whether a stream belongs to a source."""
        return any(state.source == source for state in self._streams.values())

    def problems(self) -> Mapping[str, str]:
        """Return why streams cannot be read, by name."""
        return {state.stream.name: state.problem for state in list(self._streams.values()) if not state.up}

    def notice(self) -> str:
        """Return the reason why migrations may not be seen; empty if there is none."""
        streams = [state.stream for state in list(self._streams.values())]
        return hints.notice(
            {stream.name: _problems_of(stream) for stream in streams},
            is_silent=all(_silence_of(stream) is not None for stream in streams if stream.counts.lines),
        )

    def positions(self) -> Mapping[str, Position]:
        """Return the positions at which files are resumed."""
        return {name: remembered.position for name, remembered in self._remembered.items()}

    def followed_until_ns(self, source: SourceConfig) -> int | None:
        """Return the time until which the files of a source were followed, None if they were not."""
        if source.file not in self._before.sources or self._before.saved_ns is None:
            return None
        return self._before.saved_ns

    def take(self, source: SourceConfig, items: Iterable[Item]) -> None:
        """Process the items of a source; an error in a stream affects no other stream."""
        for item in items:
            with self._attempt(item.stream) as attempt:
                self._take(source, item)
            if attempt.failed:
                self._reset(item.stream, lost=isinstance(item, Data))

    def drop(self, source: SourceConfig) -> None:
        """End the streams of a source that is no longer read."""
        self._settled.discard(source.file or "")
        for name in [name for name, state in self._streams.items() if state.source == source]:
            self._end(name, self._streams.pop(name), time.time_ns())

    def tick(self, now_ns: int, behind: Collection[str] = ()) -> list[Migration]:
        """Advance the time of all streams that are not `behind`; return the running migrations.

        The unread lines of a stream that is behind are older than now, so the clock must not end anything in it.
        """
        self._make_room()
        for name, state in self._streams.items():
            with self._attempt(name) as attempt:
                if not state.is_catching_up and name not in behind:
                    self._apply(state, state.stream.tick(state.now_ns(now_ns)))
                    self._end_processes(state, state.now_ns(now_ns))
            if attempt.failed:
                self._reset(name, lost=False)
            _report_hints(state)
        return self._update_sinks()

    def refresh(self) -> None:
        """Read the numbers of the running migrations for the sinks, if a line came since they were read."""
        if self._has_news:
            self._update_sinks()

    def _update_sinks(self) -> list[Migration]:
        """Read the numbers of all running migrations for the sinks."""
        running: list[Migration] = []
        for name, state in self._streams.items():
            with self._attempt(name) as attempt:
                running += state.stream.running()
            if attempt.failed:
                self._reset(name, lost=False)
        self._sinks.update(running)
        self._has_news = False
        return running

    def settle(self, sources: Iterable[SourceConfig]) -> None:
        """Commit the start: the files of these sources were read, so later files have no history."""
        self._settled = {source.file for source in sources if source.file is not None}
        self._remembered = {name: kept for name, kept in self._remembered.items() if _may_exist(name)}
        self.commit()

    def close(self, now_ns: int) -> None:
        """End the streams that cannot be resumed."""
        for name, state in self._streams.items():
            if state.position is None or self._store is None:
                self._end(name, state, now_ns)

    def flush(self, seconds: float) -> None:
        """Pass a checkpoint to the writer, and wait for the disk at most for some seconds."""
        self.commit()
        if self._store is not None:
            self._store.flush(seconds)

    def close_store(self) -> None:
        """Write the last checkpoint, with the spans that are left, and wait for the disk."""
        self.commit()
        if self._store is not None:
            self._store.close()

    @property
    def is_commit_due(self) -> bool:
        """True if there were changes since the last checkpoint, or if it was not written."""
        return self.is_dirty or (self._store is not None and self._store.is_failing)

    def commit(self) -> None:
        """Pass a checkpoint to the writer."""
        self.is_dirty = False
        if self._store is None:
            return
        self.refresh()  # the counters are of the same moment as the streams
        # In this order: a span made before this call is sent, spooled, or in the checkpoint.
        unsent: tuple[SpanBatch, ...] = ()
        release: Callable[[], None] | None = None
        if self._sinks.delivery is not None:
            number, unsent = self._sinks.delivery.commit()
            release = partial(self._sinks.delivery.release, number)
        for name, state in self._streams.items():
            # History is not reported yet: it is read again after a restart.
            if state.is_dirty and state.position is not None and state.history is None:
                self._store.put(name, state.checkpoint(state.position))
                state.is_dirty = False
        self._store.keep_only([*self._remembered, *self._streams])
        self._store.commit(
            sorted(self._settled or self._before.sources),
            unsent,
            reading=[name for name, state in self._streams.items() if state.history is not None],
            counters=self._sinks.metrics.snapshot(),
            on_saved=release,
        )

    def _end_processes(self, state: _StreamState, now_ns: int) -> None:
        """End the migrations of processes that are gone; a stream that is down may have missed how they ended."""
        if state.up:
            for process, at_ns in state.watch.ended(state.stream.processes.open, now_ns):
                self._apply(state, state.stream.process_ended(process, at_ns))

    def _make_room(self) -> None:
        """Compute the budget of further processes; if it is small, forget idle processes."""
        for is_last in (False, True):
            self._room.left = _MAX_PROCESSES - sum(len(state.stream.processes) for state in self._streams.values())
            if self._room.left > _MAX_PROCESSES // 10 or is_last:
                return
            for state in self._streams.values():
                state.stream.processes.forget_idle()

    def _attempt(self, name: str) -> Attempt:
        return self._failures.guard(Component.STREAM, "stream %s failed, starting it again", name)

    def _take(self, source: SourceConfig, item: Item) -> None:
        match item:
            case Data():
                state = self._state(source, item.stream)
                state.up, state.position = True, item.position
                self.is_dirty = state.is_dirty = self._has_news = True
                self._apply(state, state.stream.feed(item.data, state.now_ns(time.time_ns())))
                if not state.is_catching_up:
                    state.observe_time()
            case HistoryBegins():
                state = self._state(source, item.stream)
                state.is_catching_up = True
                if not self._reports_past and not self._is_news(source, item):
                    state.history = []
            case CaughtUp():
                self._catch_up(self._state(source, item.stream))
            case StatusChanged():
                state = self._state(source, item.stream)
                state.up, state.problem = item.up, item.reason
                level, word = (logging.INFO, "up") if item.up else (logging.WARNING, "down")
                fields = {"stream": decode_filename(item.stream), "reason": item.reason or None}
                logger.log(level, f"stream {word}", extra=fields)  # noqa: G004 - two events, not a varying message
            case DataLost():
                state = self._state(source, item.stream)
                logger.warning(
                    "stream lost data", extra={"stream": decode_filename(item.stream), "detail": item.detail}
                )
                self._apply(state, state.stream.surprise(SurpriseKind.BYTES_LOST, item.detail))
            case StreamClosed():
                ended = self._streams.pop(item.stream, None)
                if ended is not None:
                    self._end(item.stream, ended, time.time_ns())

    def _is_news(self, source: SourceConfig, item: HistoryBegins) -> bool:
        """Return whether a file was written since the checkpoint of a daemon that followed its pattern."""
        until_ns = self.followed_until_ns(source)
        is_newer = until_ns is not None and item.modified_ns > until_ns - READ_LAG_NS
        return is_newer and item.stream not in self._before.reading

    def _catch_up(self, state: _StreamState) -> None:
        """Report the open migrations of a stream whose history has been read."""
        state.is_catching_up = False
        state.observe_time()
        history, state.history = state.history, None
        if history is not None:
            self._apply(state, _without_ended([*history, *state.stream.tick(time.time_ns())]))
            self.is_dirty = state.is_dirty = True

    def _reset(self, name: str, *, lost: bool) -> None:
        """Replace a stream after an error, because its state may be the cause; the counts of its lines continue."""
        state = self._streams.get(name)
        if state is None:
            return
        failed, state.stream = state.stream, self._stream(name, state.source, state.stream.vm, state.watch)
        state.stream.counts = failed.counts
        self.is_dirty = state.is_dirty = True
        if lost:
            self._apply(state, state.stream.surprise(SurpriseKind.BYTES_LOST, "data at which the stream failed"))
        self._end(name, replace(state, stream=failed), time.time_ns())

    def _state(self, source: SourceConfig, name: str) -> _StreamState:
        state = self._streams.get(name)
        if state is not None:
            return state
        vm, is_taken = deduplicate(source.vm or vm_name(name), [other.stream.vm for other in self._streams.values()])
        watch = ProcessWatch()
        stream = self._stream(name, source, vm, watch)
        state = self._streams[name] = _StreamState(stream, source, watch=watch)
        if is_taken and source.file is not None:
            stream.surprise(SurpriseKind.DUPLICATE_VM, vm)
        remembered = self._remembered.pop(name, None)
        if remembered is not None:
            self._restore(name, state, remembered)
        return state

    def _restore(self, name: str, state: _StreamState, remembered: StreamCheckpoint) -> None:
        """Resume a stream from its checkpoint."""
        state.position = remembered.position
        state.is_catching_up = True
        with self._failures.guard(Component.STATE, "stream %s: its checkpoint cannot be used", name) as attempt:
            self._apply(state, state.stream.restore(remembered.state))
        if attempt.failed:
            state.stream = self._stream(name, state.source, state.stream.vm, state.watch)
        state.watch.restore(remembered.processes, remembered.boot)
        state.stream.counts = remembered.counts
        if not state.stream.is_idle and state.stream.last_event_ns is not None:
            # If the wall clock was set back, the lines have later times: the stream's time must not go back.
            state.time.observe(max(state.stream.last_event_ns, time.time_ns()), is_news=True)

    def _stream(self, name: str, source: SourceConfig, vm: str, watch: ProcessWatch) -> Stream:
        def name_process(process: int) -> Guest:
            watch.look(process)
            return read_guest(process)

        return Stream(
            decode_filename(name),
            vm=vm,
            format_name=source.format,
            untimed=ClockKind.ARRIVAL,
            page_size=self.config.page_size_bytes,
            name_process=name_process,
            parser=self._parser_options(),
            policy=self.config.verdict.policy(),
            room=self._room,
            # A configured name, or a name made unique, is not replaced by the name in the log.
            is_named=source.vm is not None or vm != vm_name(name),
        )

    def _parser_options(self) -> ParserOptions:
        """Return the settings of the parser; without the addresses of marks if QEMU's binary cannot be read."""
        addresses = None
        if self.config.qemu is not None:
            from qemu_migration_exporter.probes.binary import ProbeError, mark_addresses  # noqa: PLC0415 - pyelftools is large

            try:
                addresses = mark_addresses(Path(self.config.qemu))
            except ProbeError as error:
                self._failures.record(Component.STREAM, "addresses of marks are not known: %s", error)
        return self.config.parser_options(addresses)

    def _end(self, name: str, state: _StreamState, now_ns: int) -> None:
        with self._failures.guard(Component.STREAM, "stream %s: open migrations are not ended", name):
            self._apply(state, state.stream.close(now_ns))

    def _apply(self, state: _StreamState, changes: list[Change]) -> None:
        if not changes:
            return
        self.is_dirty = state.is_dirty = True
        if state.history is not None:
            # A log may be long, so migrations that ended are dropped at once. The stream counts the surprises itself.
            state.history += [change for change in changes if not isinstance(change, Surprised)]
            if any(isinstance(change, MigrationEnded) for change in changes):
                state.history = _without_ended(state.history)
            return
        self._sinks.apply(changes)


def _report_hints(state: _StreamState) -> None:
    """Log every problem of a stream once; a stream without an event may simply have had no migration."""
    stream = state.stream
    for message in _problems_of(stream):
        if message not in state.reported:
            state.reported.add(message)
            logger.warning("stream unusual", extra={"stream": stream.name, "reason": message})
    if stream.counts.lines and stream.format_name is None and not state.reported:
        silence = _silence_of(stream)
        state.reported.add("")
        if silence is not None:
            logger.info("stream silent", extra={"stream": stream.name, "reason": silence})


def _problems_of(stream: Stream) -> list[str]:
    return hints.warnings(stream.hints, lines=stream.counts.lines, has_events=stream.format_name is not None)


def _silence_of(stream: Stream) -> str | None:
    """Return the remark on a stream that has had no event."""
    return hints.silence(stream.hints, lines=stream.counts.lines) if stream.format_name is None else None


def _without_ended(history: Iterable[Change]) -> list[Change]:
    """Drop the changes of migrations that have ended."""
    history = list(history)
    ended = {change.trace_id for change in history if isinstance(change, MigrationEnded)}
    return [change for change in history if _trace_of(change) not in ended]


def _trace_of(change: Change) -> str | None:
    if isinstance(change, Surprised):
        return None
    return change.identity.trace_id if isinstance(change, Started | Resumed) else change.trace_id


def _may_exist(path: str) -> bool:
    """Return whether a file exists, or lies in a directory that may not be searched."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):  # it was deleted
        return False
    except OSError:  # reported by its source, which cannot open it
        return True
    return True
