"""The streams a daemon follows: what each has said goes to the sinks, and what has to outlive a restart is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qemu_migration_exporter.checkpoint import Checkpoint
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.changes import Change, MigrationEnded, Resumed, Started, Surprised
from qemu_migration_exporter.core.model import ClockKind, Migration, SurpriseKind
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.tracking.stream import ProcessBudget, Stream
from qemu_migration_exporter.journal import Journal
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.ops.errors import Attempt, Component, ErrorCounter
from qemu_migration_exporter.ops.sanitize import readable
from qemu_migration_exporter.ops.stream_clock import StreamTime
from qemu_migration_exporter.present import hints
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sources import Data, DataLost, Item, Position, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.naming import deduplicate, vm_name
from qemu_migration_exporter.sources.procfs import read_guest
from qemu_migration_exporter.state_store import StateStore
from qemu_migration_exporter.tracing import Sink

if TYPE_CHECKING:
    from qemu_migration_exporter.tracing.export.queued import QueuedSpanProcessor
    from qemu_migration_exporter.tracing.spans import SpansSink

logger = logging.getLogger(__name__)

#: Processes that all streams follow together: some 20 KB each while a migration is open, and more than a host has.
_MAX_PROCESSES: Final = 2_048


@dataclass(frozen=True, slots=True)
class Sinks:
    """What changes are handed to; spans only where somebody named a receiver."""

    metrics: MetricsSink
    board: MigrationHistory
    spans: SpansSink | None = None
    delivery: QueuedSpanProcessor | None = None
    failures: ErrorCounter = field(default_factory=ErrorCounter)
    journal: Journal | None = None

    def apply(self, changes: Sequence[Change], *, skip: Component | None = None) -> None:
        """Apply changes to all sinks; a sink that fails at a change goes on with the next, and stops no other."""
        sinks: list[tuple[Component, Sink]] = [(Component.METRICS, self.metrics), (Component.PAGE, self.board)]
        if self.spans is not None:
            sinks.append((Component.SPANS, self.spans))
        if self.journal is not None:
            sinks.append((Component.JOURNAL, self.journal))
        for part, sink in sinks:
            if part is skip:
                continue
            left = iter(changes)
            for _ in range(len(changes) + 1):  # each failure takes one at least
                with self.failures.attempt(part, "a change is lost to the %s", part) as attempt:
                    sink.apply(left)
                if not attempt.failed:
                    break

    def tick(self, running: Sequence[Migration], now_ns: int, retention_ns: int) -> None:
        """Let time pass in all of them; one that fails stops no other."""
        steps: list[tuple[Component, Callable[[], None]]] = [
            (Component.PAGE, partial(self.board.set_running, running)),
            # By a clock that nobody sets: what ended is shown for so long, and no shorter.
            (Component.METRICS, partial(self.metrics.expire, time.monotonic_ns(), retention_ns)),
        ]
        if self.spans is not None:
            steps.append((Component.SPANS, partial(self.spans.tick, now_ns)))
        for part, step in steps:
            with self.failures.attempt(part, "the %s failed", part):
                step()

    def interrupt(self, now_ns: int) -> None:
        """Mark the traces that are open."""
        if self.spans is not None:
            with self.failures.attempt(Component.SPANS, "open traces are not marked as interrupted"):
                self.spans.interrupt(now_ns)


@dataclass(slots=True)
class _Followed:
    """One stream, and where it stands."""

    stream: Stream
    source: SourceConfig
    time: StreamTime = field(default_factory=StreamTime)
    position: Position | None = None
    #: True if there is something new to save.
    is_dirty: bool = True
    #: Migrations in its history that ended after this time are news: nobody was there to tell of them.
    unattended_since_ns: int | None = None
    up: bool = True
    problem: str = ""
    #: What was in the file before it was opened, as long as that is being read; None after, and for what goes on.
    history: list[Change] | None = None
    #: Whether it was said that nothing in it is a trace event.
    reported: set[str] = field(default_factory=set)

    def now_ns(self, wall_ns: int) -> int:
        """Say what time it is where its lines are dated."""
        return self.time.now_ns(wall_ns, is_open=not self.stream.is_idle)


class Pipeline:
    """Follow streams by what their sources give.

    Attributes:
        config: How new streams are read.
        is_catching_up: Whether files are being read that were there before they were opened. What ended in them before
            is not told.
        is_dirty: Whether there is something new to keep.
    """

    def __init__(self, config: Config, parts: Sinks) -> None:
        self.config = config
        self.is_catching_up = True
        self.is_dirty = False
        self._parts = parts
        self._failures = parts.failures
        self._room = ProcessBudget(_MAX_PROCESSES)
        self._streams: dict[str, _Followed] = {}
        self._store = StateStore(Path(config.state_file), self._failures) if config.state_file else None
        self._loaded = Checkpoint() if self._store is None else self._store.loaded
        self._remembered = dict(self._loaded.streams)
        #: Sources all of whose files were read, then or now: a file of theirs that is new was made meanwhile.
        self._attended = self._loaded.sources
        if parts.delivery is not None:
            parts.delivery.restore(self._loaded.spans)

    def all(self) -> list[tuple[Stream, bool]]:
        """Return the streams, and whether each can be read."""
        return [(each.stream, each.up) for each in list(self._streams.values())]

    def has(self, source: SourceConfig) -> bool:
        """Return whether a source has given a stream."""
        return any(followed.source == source for followed in self._streams.values())

    def problems(self) -> Mapping[str, str]:
        """Return why streams cannot be read, by name."""
        return {each.stream.name: each.problem for each in list(self._streams.values()) if not each.up}

    def positions(self) -> Mapping[str, Position]:
        """Return where to go on in files that were followed before."""
        return {name: kept.position for name, kept in self._remembered.items()}

    def take(self, source: SourceConfig, items: Iterable[Item]) -> None:
        """Take what a source gives; a stream that fails at something stops no other."""
        for item in items:
            with self._attempt(item.stream) as attempt:
                self._take(source, item)
            if attempt.failed:
                self._begin_anew(item.stream, lost=isinstance(item, Data))

    def drop(self, source: SourceConfig) -> None:
        """End the streams of a source that is no longer read."""
        for name in [name for name, followed in self._streams.items() if followed.source == source]:
            self._end(name, self._streams.pop(name), time.time_ns())

    def tick(self, now_ns: int, behind: Collection[SourceConfig] = ()) -> list[Migration]:
        """Let time pass in all streams; return the migrations that run.

        Of a source that is `behind`, lines are still unread: what they say was before now, so no time passes there.
        """
        self._make_room()
        running: list[Migration] = []
        for name, followed in self._streams.items():
            with self._attempt(name) as attempt:
                if not self.is_catching_up and followed.source not in behind:
                    self._apply(followed, followed.stream.tick(followed.now_ns(now_ns)))
                running += followed.stream.running()
            if attempt.failed:
                self._begin_anew(name, lost=False)
            _report_hints(followed)
        return running

    def caught_up(self, now_ns: int) -> None:
        """Go on with what is open, now that all that was there is read, and forget what ended before."""
        self.is_catching_up = False
        self._attended = frozenset(source.file for source in self.config.sources if source.file is not None)
        self.is_dirty = True
        self._remembered = {name: kept for name, kept in self._remembered.items() if Path(name).exists()}
        for name, followed in self._streams.items():
            history, followed.history = followed.history, None
            if history is not None:
                with self._attempt(name) as attempt:
                    news = _news([*history, *followed.stream.tick(now_ns)], followed.unattended_since_ns)
                    self._apply(followed, news)
                if attempt.failed:
                    self._begin_anew(name, lost=False)

    def close(self, now_ns: int) -> None:
        """Keep what goes on after a restart, and end what cannot go on."""
        for name, followed in self._streams.items():
            if followed.position is None or self._store is None:
                self._end(name, followed, now_ns)

    def close_store(self) -> None:
        """Save for the last time, with the spans that are left, and wait for the disk."""
        self.save()
        if self._store is not None:
            self._store.close()

    def save(self) -> None:
        """Commit what a restart needs, if there is a place for it.

        Spans come first: those that no receiver and no spool has are written beside the positions, in one file. So no
        span of what was read can be lost, and what is read again makes spans of the same ids.
        """
        if self._store is None:
            self.is_dirty = False
            return
        delivery = self._parts.delivery
        spans = delivery.commit() if delivery is not None else ()
        for name, followed in self._streams.items():
            # History is not told yet: after a restart it is read again.
            if followed.is_dirty and followed.position is not None and followed.history is None:
                self._store.put(name, followed.position, followed.stream.snapshot())
                followed.is_dirty = False
        self._store.keep_only([*self._remembered, *self._streams])
        self._store.commit(sorted(self._attended), spans)
        self.is_dirty = False

    @property
    def is_save_due(self) -> bool:
        """True if something changed since the last save, or that failed."""
        return self.is_dirty or (self._store is not None and self._store.is_failing)

    def _make_room(self) -> None:
        """Reckon how many more processes may be followed; where it is few, forget those that do nothing."""
        for is_last in (False, True):
            self._room.left = _MAX_PROCESSES - sum(each.stream.processes for each in self._streams.values())
            if self._room.left > _MAX_PROCESSES // 10 or is_last:
                return
            for followed in self._streams.values():
                followed.stream.forget_idle()

    def _attempt(self, name: str) -> Attempt:
        return self._failures.attempt(Component.STREAM, "stream %s failed and begins anew", name)

    def _take(self, source: SourceConfig, item: Item) -> None:
        match item:
            case Data():
                followed = self._followed(source, item.stream)
                followed.up, followed.position = True, item.position
                self.is_dirty = followed.is_dirty = True
                self._apply(followed, followed.stream.feed(item.data, followed.now_ns(time.time_ns())))
                if followed.stream.last_event_ns is not None and not self.is_catching_up:
                    # A file may be read late; whatever else there is, what comes of it was said just now.
                    followed.time.saw(followed.stream.last_event_ns, is_news=source.file is None)
            case StatusChanged():
                followed = self._followed(source, item.stream)
                followed.up, followed.problem = item.up, item.reason
                level, word = (logging.INFO, "up") if item.up else (logging.WARNING, "down")
                fields = {"stream": readable(item.stream), "reason": item.reason or None}
                logger.log(level, f"stream {word}", extra=fields)  # noqa: G004 - two events, not a varying message
            case DataLost():
                followed = self._followed(source, item.stream)
                logger.warning("stream lost data", extra={"stream": readable(item.stream), "detail": item.detail})
                self._apply(followed, followed.stream.surprise(SurpriseKind.BYTES_LOST, item.detail))
            case StreamClosed():
                ended = self._streams.pop(item.stream, None)
                if ended is not None:
                    self._end(item.stream, ended, time.time_ns())

    def _begin_anew(self, name: str, *, lost: bool) -> None:
        """Forget what is known of a stream that failed, for that may be why; its lines go on, and so do its counts."""
        followed = self._streams.get(name)
        if followed is None:
            return
        failed, followed.stream = followed.stream, self._stream(name, followed.source, followed.stream.vm)
        followed.stream.counts = failed.counts
        self.is_dirty = followed.is_dirty = True
        if lost:
            self._apply(followed, followed.stream.surprise(SurpriseKind.BYTES_LOST, "what it failed at"))
        self._end(name, replace(followed, stream=failed), time.time_ns())

    def _followed(self, source: SourceConfig, name: str) -> _Followed:
        followed = self._streams.get(name)
        if followed is not None:
            return followed
        vm, is_taken = deduplicate(source.vm or vm_name(name), [each.stream.vm for each in self._streams.values()])
        stream = self._stream(name, source, vm)
        kept = self._remembered.pop(name, None)
        has_history = kept is None and source.file is not None and self.is_catching_up
        followed = self._streams[name] = _Followed(stream, source, history=[] if has_history else None)
        if source.file in self._attended:
            followed.unattended_since_ns = self._loaded.saved_ns
        if is_taken and source.file is not None:
            stream.surprise(SurpriseKind.DUPLICATE_VM, vm)
        if kept is not None:
            followed.position = kept.position
            with self._failures.attempt(Component.STATE, "stream %s: what was kept of it is nonsense", name) as attempt:
                self._apply(followed, stream.restore(kept.state))
            if attempt.failed:
                followed.stream = self._stream(name, source, vm)
        return followed

    def _stream(self, name: str, source: SourceConfig, vm: str) -> Stream:
        return Stream(
            readable(name),
            vm=vm,
            format_name=source.format,
            untimed=ClockKind.ARRIVAL,
            page_size=self.config.page_size_bytes,
            name_process=read_guest,
            parser=self._parser_options(),
            policy=self.config.verdict.policy(),
            room=self._room,
        )

    def _parser_options(self) -> ParserOptions:
        """Return the settings of the parser; without the addresses of marks if QEMU's binary cannot be read."""
        addresses = None
        if self.config.qemu is not None:
            from qemu_migration_exporter.probes.binary import ProbeError, mark_addresses  # noqa: PLC0415 - pyelftools is large

            try:
                addresses = mark_addresses(Path(self.config.qemu))
            except ProbeError as error:
                self._failures.note(Component.STREAM, "addresses of marks are not known: %s", error)
        return self.config.parser_options(addresses)

    def _end(self, name: str, followed: _Followed, now_ns: int) -> None:
        with self._failures.attempt(Component.STREAM, "stream %s: what was open is not ended", name):
            self._apply(followed, followed.stream.close(now_ns))

    def _apply(self, followed: _Followed, changes: list[Change]) -> None:
        if not changes:
            return
        self.is_dirty = followed.is_dirty = True
        if followed.history is not None:
            # A log may be long: what ended in it is forgotten as soon as it did. Surprises are counted by the stream.
            followed.history += [change for change in changes if not isinstance(change, Surprised)]
            if any(isinstance(change, MigrationEnded) for change in changes):
                followed.history = _news(followed.history, followed.unattended_since_ns)
            return
        self._parts.apply(changes)


def _report_hints(followed: _Followed) -> None:
    """Log once each what is wrong with a stream; a stream without an event may simply have had no migration."""
    stream = followed.stream
    lines, has_events = stream.counts.lines, stream.format_name is not None
    for message in hints.warnings(stream.hints, lines=lines, has_events=has_events):
        if message not in followed.reported:
            followed.reported.add(message)
            logger.warning("stream unusual", extra={"stream": stream.name, "reason": message})
    if lines and not has_events and not followed.reported:
        silence = hints.silence(stream.hints, lines=lines)
        followed.reported.add("")
        if silence is not None:
            logger.info("stream silent", extra={"stream": stream.name, "reason": silence})


def _news(history: Iterable[Change], since_ns: int | None) -> list[Change]:
    """Leave out the migrations that ended before `since_ns`: they were told when they happened. None is never."""
    history = list(history)
    old = {
        change.trace_id
        for change in history
        if isinstance(change, MigrationEnded) and not _is_unattended(change.migration, since_ns)
    }
    return [change for change in history if _trace_of(change) not in old]


def _is_unattended(migration: Migration, since_ns: int | None) -> bool:
    """Return whether a migration ended when no daemon ran; times of arrival are no evidence."""
    return since_ns is not None and migration.end_ns > since_ns and migration.identity.clock is ClockKind.PROBE


def _trace_of(change: Change) -> str | None:
    if isinstance(change, Surprised):
        return None
    return change.identity.trace_id if isinstance(change, Started | Resumed) else change.trace_id
