"""The streams a daemon follows: what each has said goes to the sinks, and what has to outlive a restart is kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from exporter import state
from exporter.config import Config, SourceConfig
from exporter.core.changes import Change, Ended, Resumed, Started, Surprised
from exporter.core.model import ClockKind, Migration, SurpriseKind
from exporter.core.stream import Stream
from exporter.sinks import Sink
from exporter.sinks.board import Board
from exporter.sinks.live import LiveDelivery
from exporter.sinks.metrics import MetricsSink
from exporter.sinks.spans import SpansSink
from exporter.sources import Data, Item, Lost, Position, Up
from exporter.sources import Ended as StreamEnded
from exporter.sources.processes import guest_of
from exporter.sources.recording import tell_apart, vm_name
from exporter.words import readable

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Parts:
    """What changes are handed to; spans only where somebody named a receiver."""

    metrics: MetricsSink
    board: Board
    spans: SpansSink | None = None
    delivery: LiveDelivery | None = None

    def sinks(self) -> list[Sink]:
        """Return all of them."""
        return [self.metrics, self.board, *([self.spans] if self.spans is not None else [])]


@dataclass(slots=True)
class _Followed:
    """One stream, and where it stands."""

    stream: Stream
    source: SourceConfig
    position: Position | None = None
    up: bool = True
    problem: str = ""
    #: What was in the file before it was opened, as long as that is being read; None after, and for what goes on.
    history: list[Change] | None = None
    #: Whether it was said that nothing in it is a trace event.
    said_useless: bool = False


class Streams:
    """Follow streams by what their sources give.

    Attributes:
        config: How new streams are read.
        is_catching_up: Whether files are being read that were there before they were opened. What ended in them before
            is not told.
        is_dirty: Whether there is something new to keep.
    """

    def __init__(self, config: Config, parts: Parts) -> None:
        self.config = config
        self.is_catching_up = True
        self.is_dirty = False
        self._parts = parts
        self._streams: dict[str, _Followed] = {}
        self._remembered = state.load(Path(config.state_file)) if config.state_file else {}

    def all(self) -> list[tuple[Stream, bool]]:
        """Return the streams, and whether each can be read."""
        return [(each.stream, each.up) for each in list(self._streams.values())]

    def problems(self) -> Mapping[str, str]:
        """Return why streams cannot be read, by name."""
        return {each.stream.name: each.problem for each in list(self._streams.values()) if not each.up}

    def positions(self) -> Mapping[str, Position]:
        """Return where to go on in files that were followed before."""
        return {name: kept.position for name, kept in self._remembered.items()}

    def take(self, source: SourceConfig, items: Iterable[Item]) -> None:
        """Take what a source gives."""
        for item in items:
            match item:
                case Data():
                    followed = self._followed(source, item.stream)
                    followed.up, followed.position = True, item.position
                    self.is_dirty = True
                    self._apply(followed, followed.stream.feed(item.data, time.time_ns()))
                case Up():
                    followed = self._followed(source, item.stream)
                    followed.up, followed.problem = item.up, item.reason
                    level, word = (logging.INFO, "up") if item.up else (logging.WARNING, "down")
                    logger.log(level, "stream %s is %s%s", item.stream, word, item.reason and f": {item.reason}")
                case Lost():
                    followed = self._followed(source, item.stream)
                    logger.warning("stream %s: %s", item.stream, item.detail)
                    self._apply(followed, followed.stream.surprise(SurpriseKind.BYTES_LOST, item.detail))
                case StreamEnded():
                    self._end(item.stream)

    def drop(self, source: SourceConfig) -> None:
        """End the streams of a source that is no longer read."""
        for name in [name for name, followed in self._streams.items() if followed.source == source]:
            self._end(name)

    def tick(self, now_ns: int, behind: Collection[SourceConfig] = ()) -> list[Migration]:
        """Let time pass in all streams; return the migrations that run.

        Of a source that is `behind`, lines are still unread: what they say was before now, so no time passes there.
        """
        running: list[Migration] = []
        for followed in self._streams.values():
            if not self.is_catching_up and followed.source not in behind:
                self._apply(followed, followed.stream.tick(now_ns))
            running += followed.stream.running()
            _say_if_useless(followed)
        return running

    def caught_up(self, now_ns: int) -> None:
        """Go on with what is open, now that all that was there is read, and forget what ended before."""
        self.is_catching_up = False
        self._remembered = {name: kept for name, kept in self._remembered.items() if Path(name).exists()}
        for followed in self._streams.values():
            history, followed.history = followed.history, None
            if history is not None:
                self._apply(followed, _still_open([*history, *followed.stream.tick(now_ns)]))

    def close(self, now_ns: int) -> None:
        """Keep what goes on after a restart, and end what cannot go on."""
        for followed in self._streams.values():
            if followed.position is None or self.config.state_file is None:
                self._apply(followed, followed.stream.close(now_ns))
        self.save()

    def save(self) -> None:
        """Keep what has to be known to go on, if there is a place for it."""
        self.is_dirty = False
        if self.config.state_file is not None:
            kept = {
                name: state.Remembered(followed.position, followed.stream.snapshot())
                for name, followed in self._streams.items()
                # What is in a file from before is not told yet: after a restart it is read again.
                if followed.position is not None and followed.history is None
            }
            # What was remembered of files that have said nothing since is still true.
            state.save(Path(self.config.state_file), {**self._remembered, **kept})

    def _followed(self, source: SourceConfig, name: str) -> _Followed:
        followed = self._streams.get(name)
        if followed is not None:
            return followed
        vm, is_taken = tell_apart(source.vm or vm_name(name), [each.stream.vm for each in self._streams.values()])
        stream = Stream(
            readable(name),
            vm=vm,
            format_name=source.format,
            untimed=ClockKind.ARRIVAL,
            page_size=self.config.page_size_bytes,
            name_process=guest_of,
            rows=self.config.rows(),
            policy=self.config.verdict.policy(),
        )
        kept = self._remembered.pop(name, None)
        has_history = kept is None and source.file is not None and self.is_catching_up
        followed = self._streams[name] = _Followed(stream, source, history=[] if has_history else None)
        if is_taken and source.file is not None:
            stream.surprise(SurpriseKind.DUPLICATE_VM, vm)
        if kept is not None:
            followed.position = kept.position
            self._apply(followed, stream.restore(kept.snapshot))
        return followed

    def _end(self, name: str) -> None:
        followed = self._streams.pop(name, None)
        if followed is not None:
            self._apply(followed, followed.stream.close(time.time_ns()))

    def _apply(self, followed: _Followed, changes: list[Change]) -> None:
        if not changes:
            return
        self.is_dirty = True
        if followed.history is not None:
            # A log may be long: what ended in it is forgotten as soon as it did. Surprises are counted by the stream.
            followed.history += [change for change in changes if not isinstance(change, Surprised)]
            if any(isinstance(change, Ended) for change in changes):
                followed.history = _still_open(followed.history)
            return
        for change in changes:
            if isinstance(change, Started | Resumed | Ended):
                _tell(change)
        for sink in self._parts.sinks():
            try:
                sink.apply(changes)
            except Exception:  # a sink that fails must not stop the others, nor the reading
                logger.exception("%s failed", type(sink).__name__)


def _say_if_useless(followed: _Followed) -> None:
    """Say once of a stream that nothing in it is a trace event, and what to do: tracing is not enabled there."""
    lines = followed.stream.counts.lines
    if lines and followed.stream.format_name is None and not followed.said_useless:
        followed.said_useless = True
        logger.warning(
            "stream %s: none of its %d lines is a trace event of a migration;"
            " `qemu-migration-exporter probe log` says what to enable",
            followed.stream.name,
            lines,
        )


def _still_open(history: Iterable[Change]) -> list[Change]:
    """Leave out what ended before anybody listened: it was told when it happened, or is nobody's business any more."""
    history = list(history)
    ended = {change.trace_id for change in history if isinstance(change, Ended)}
    return [change for change in history if _trace_of(change) not in ended]


def _trace_of(change: Change) -> str | None:
    if isinstance(change, Surprised):
        return None
    return change.identity.trace_id if isinstance(change, Started | Resumed) else change.trace_id


def _tell(change: Started | Resumed | Ended) -> None:
    """Say in the log what an operator would look for there."""
    if isinstance(change, Ended):
        migration = change.migration
        logger.info(
            "migration of %r ended: %s%s, trace %s",
            migration.identity.vm,
            migration.result,
            f" ({migration.error!r})" if migration.error else "",
            migration.identity.trace_id,
        )
    else:
        began = "began" if isinstance(change, Started) else "goes on"
        logger.info("migration of %r %s, trace %s", change.identity.vm, began, change.identity.trace_id)
