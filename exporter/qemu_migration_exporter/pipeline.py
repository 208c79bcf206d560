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

**Time.** Time passes in a stream by its own lines, and by the clock once all its bytes have been read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qemu_migration_exporter.checkpoint_data import Checkpoint, StreamCheckpoint
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.model import Migration, SurpriseKind
from qemu_migration_exporter.core.tracking.processes import ProcessBudget
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.live_stream import LiveStream, make_stream
from qemu_migration_exporter.ops.errors import Attempt, Component
from qemu_migration_exporter.ops.sanitize import decode_filename
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
from qemu_migration_exporter.sources.files.rotation import may_exist
from qemu_migration_exporter.sources.liveness import ProcessWatch
from qemu_migration_exporter.sources.naming import deduplicate, vm_name
from qemu_migration_exporter.tracing.export.sender import SpanBatch

if TYPE_CHECKING:
    from qemu_migration_exporter.state_store import StateStore

logger = logging.getLogger(__name__)

#: Limit of processes over all streams: more than any host runs, at some 20 KB per process with an open migration.
_MAX_PROCESSES: Final = 2_048


class Pipeline:
    """Streams of a daemon.

    Attributes:
        config: Configuration of new streams.
        is_dirty: True if the last checkpoint is out of date.
        is_restored: True if there was a checkpoint to start from.
        store: Keeper of the checkpoint, None without a state file.

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
        self._streams: dict[str, LiveStream] = {}
        self._settled: set[str] = set()  # patterns whose files were read
        self.store: StateStore | None = None
        if config.state_file:
            from qemu_migration_exporter.state_store import StateStore  # noqa: PLC0415 - see checkpoint_data

            self.store = StateStore(Path(config.state_file), self._failures)
        before = self._before = Checkpoint() if self.store is None else self.store.loaded
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
        states = list(self._streams.values())
        return hints.notice(
            {state.stream.name: state.problems for state in states},
            is_silent=all(state.silence is not None for state in states if state.stream.counts.lines),
            unreadable=self.problems(),
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
            self._encode(item.stream)
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
        if self.store is not None:
            self.store.finish()  # time passes in all streams
        self._make_room()
        for name, state in self._streams.items():
            with self._attempt(name) as attempt:
                if not state.is_catching_up and name not in behind:
                    self._apply(state, state.stream.tick(state.now_ns(now_ns)))
                    self._end_processes(state, state.now_ns(now_ns))
            if attempt.failed:
                self._reset(name, lost=False)
            state.report_hints()
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
        self._remembered = {name: kept for name, kept in self._remembered.items() if may_exist(name)}
        self.commit()

    def close(self, now_ns: int) -> None:
        """End the streams that cannot be resumed."""
        for name, state in self._streams.items():
            if state.position is None or self.store is None:
                self._end(name, state, now_ns)

    def flush(self, seconds: float) -> None:
        """Pass a checkpoint to the writer, and wait for the disk at most for some seconds."""
        self.commit()
        if self.store is not None:
            self.store.flush(seconds)

    def close_store(self) -> None:
        """Write the last checkpoint, with the spans that are left, and wait for the disk."""
        self.commit()
        if self.store is not None:
            self.store.close()

    @property
    def is_commit_due(self) -> bool:
        """True if there were changes since the last checkpoint, or if it was not written."""
        return self.is_dirty or (self.store is not None and self.store.is_failing)

    def commit(self) -> None:
        """Begin a checkpoint, of which the store encodes a first part."""
        self.is_dirty = False
        if self.store is None:
            return
        self.refresh()  # the counters are of the same moment as the streams
        # In this order: a span made before this call is sent, spooled, or in the checkpoint.
        unsent: tuple[SpanBatch, ...] = ()
        release: Callable[[], None] | None = None
        if self._sinks.delivery is not None:
            number, unsent = self._sinks.delivery.commit()
            release = partial(self._sinks.delivery.release, number)
        self.store.commit(
            {name: make for name, state in self._streams.items() if (make := state.commit()) is not None},
            sorted(self._settled or self._before.sources),
            unsent,
            kept=[*self._remembered, *self._streams],
            reading=[name for name, state in self._streams.items() if state.history is not None],
            counters=self._sinks.metrics.snapshot(),
            on_saved=release,
        )

    def _encode(self, name: str) -> None:
        """Encode a stream for the last checkpoint, because the stream is about to change."""
        if self.store is not None:
            self.store.encode(name)

    def _end_processes(self, state: LiveStream, now_ns: int) -> None:
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
                state = self._state(source, item.stream)
                self._apply(state, state.catch_up(time.time_ns()))
                self.is_dirty = state.is_dirty = True
            case StatusChanged():
                state = self._state(source, item.stream)
                state.up, state.problem = item.up, item.reason
                level, word = (logging.INFO, "up") if item.up else (logging.WARNING, "down")
                fields = {"stream": decode_filename(item.stream), "reason": item.reason or None}
                logger.log(level, f"stream {word}", extra=fields)  # noqa: G004 - two events, not a varying message
            case DataLost():
                state = self._state(source, item.stream)
                fields = {"stream": decode_filename(item.stream), "detail": item.detail}
                logger.warning("stream lost data", extra=fields)
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

    def _reset(self, name: str, *, lost: bool) -> None:
        """Replace a stream after an error, because its state may be the cause; the counts of its lines continue."""
        self._encode(name)
        state = self._streams.get(name)
        if state is None:
            return
        failed, state.stream = state.stream, self._make_stream(name, state.source, state.stream.vm, state.watch)
        state.stream.counts = failed.counts
        self.is_dirty = state.is_dirty = True
        if lost:
            self._apply(state, state.stream.surprise(SurpriseKind.BYTES_LOST, "data at which the stream failed"))
        self._end(name, replace(state, stream=failed), time.time_ns())

    def _state(self, source: SourceConfig, name: str) -> LiveStream:
        state = self._streams.get(name)
        if state is not None:
            return state
        vm, is_taken = deduplicate(source.vm or vm_name(name), [other.stream.vm for other in self._streams.values()])
        watch = ProcessWatch()
        stream = self._make_stream(name, source, vm, watch)
        state = self._streams[name] = LiveStream(stream, source, watch=watch)
        if is_taken and source.file is not None:
            stream.surprise(SurpriseKind.DUPLICATE_VM, vm)
        remembered = self._remembered.pop(name, None)
        if remembered is not None:
            self._restore(name, state, remembered)
        return state

    def _restore(self, name: str, state: LiveStream, remembered: StreamCheckpoint) -> None:
        """Resume a stream from its checkpoint."""
        state.position = remembered.position
        state.is_catching_up = True
        with self._failures.guard(Component.STATE, "stream %s: its checkpoint cannot be used", name) as attempt:
            self._apply(state, state.stream.restore(remembered.state))
        if attempt.failed:
            state.stream = self._make_stream(name, state.source, state.stream.vm, state.watch)
        state.watch.restore(remembered.processes, remembered.boot)
        state.stream.counts = remembered.counts
        if not state.stream.is_idle and state.stream.last_event_ns is not None:
            # If the wall clock was set back, the lines have later times: the stream's time must not go back.
            state.time.observe(max(state.stream.last_event_ns, time.time_ns()), is_news=True)

    def _make_stream(self, name: str, source: SourceConfig, vm: str, watch: ProcessWatch) -> Stream:
        return make_stream(name, source, vm, watch, config=self.config, room=self._room, failures=self._failures)

    def _end(self, name: str, state: LiveStream, now_ns: int) -> None:
        self._encode(name)
        with self._failures.guard(Component.STREAM, "stream %s: open migrations are not ended", name):
            self._apply(state, state.stream.close(now_ns))

    def _apply(self, state: LiveStream, changes: Sequence[Change]) -> None:
        if changes:
            self.is_dirty = state.is_dirty = True
            reported = state.to_report(changes)
            if reported:
                self._sinks.apply(reported)
