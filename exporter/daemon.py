"""Follow live streams and keep what they say over restarts: the parts wired together, and one thread that turns.

That thread reads every stream in turns, none of them for long. Spans leave from a thread of their own, HTTP is served
from another, and neither can make it wait.
"""

from __future__ import annotations

import logging
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from exporter import state
from exporter.config import Config, SourceConfig
from exporter.core.changes import Change, Resumed, Started, Surprised
from exporter.core.changes import Ended as MigrationEnded
from exporter.core.model import ClockKind, SurpriseKind
from exporter.core.stream import Stream
from exporter.notify import Notifier
from exporter.sinks import Sink
from exporter.sinks.board import Board
from exporter.sinks.live import LiveDelivery
from exporter.sinks.metrics import MetricsSink
from exporter.sinks.spans import SpansSink
from exporter.sources import Data, Ended, Item, Lost, Position, Source, Up
from exporter.sources.command import Command
from exporter.sources.fifo import Fifo
from exporter.sources.follow import Follow
from exporter.sources.processes import guest_of
from exporter.sources.recording import vm_name
from exporter.sources.standard_input import StandardInput
from exporter.sources.unix_socket import UnixSocket
from exporter.yamlfile import ConfigError

logger = logging.getLogger(__name__)

_TICK_SECONDS: Final = 1.0

#: A crash costs at most this much of reading again; the spans made anew have the same ids.
_SAVE_SECONDS: Final = 5.0

#: systemd waits 90 s for a service to stop; a receiver that is slow gets a small part of that.
_FLUSH_SECONDS: Final = 5.0

_NS_PER_SECOND: Final = 1_000_000_000


@dataclass(slots=True)
class _Followed:
    """One stream, and where it stands."""

    stream: Stream
    source: SourceConfig
    position: Position | None = None
    up: bool = True
    problem: str = ""
    #: What was in the file before this program began, as long as that is being read; None after, and for what goes on.
    history: list[Change] | None = None
    #: Whether it was said that nothing in it is a trace event.
    said_useless: bool = False


@dataclass(frozen=True, slots=True)
class Parts:
    """What the daemon hands changes to; spans only where somebody named a receiver."""

    metrics: MetricsSink
    board: Board
    spans: SpansSink | None = None
    delivery: LiveDelivery | None = None

    def sinks(self) -> list[Sink]:
        """Return all of them."""
        return [self.metrics, self.board, *([self.spans] if self.spans is not None else [])]


class Daemon:
    """Read streams until told to stop.

    Args:
        config: What to read, and for how long to remember.
        parts: Where changes go.
        reload: Reads the configuration again; it may raise ConfigError.
        notifier: The service manager.
    """

    def __init__(
        self,
        config: Config,
        parts: Parts,
        *,
        reload: Callable[[], Config],
        notifier: Notifier | None = None,
    ) -> None:
        self._config = config
        self._parts = parts
        self._reload = reload
        self._notifier = notifier or Notifier()
        self._selector = selectors.DefaultSelector()
        self._sources: dict[SourceConfig, Source] = {}
        self._streams: dict[str, _Followed] = {}
        self._remembered: dict[str, state.Remembered] = {}
        self._stopping = False
        self._reload_asked = False
        self._is_ready = False
        #: Whether what was in the files before they were opened is still being read.
        self._is_catching_up = True
        self._is_dirty = False
        self._saved = time.monotonic()
        self._told = 0.0
        self.config_loaded = True

    # What others ask

    @property
    def is_ready(self) -> bool:
        """Whether everything that was there at the start has been read."""
        return self._is_ready

    def streams(self) -> list[tuple[Stream, bool]]:
        """Return the streams, and whether each can be read."""
        return [(each.stream, each.up) for each in list(self._streams.values())]

    def problems(self) -> Mapping[str, str]:
        """Return why streams cannot be read, by name."""
        return {name: each.problem for name, each in list(self._streams.items()) if not each.up}

    def stop(self) -> None:
        """Stop soon."""
        self._stopping = True

    def ask_reload(self) -> None:
        """Read the configuration again soon."""
        self._reload_asked = True

    # Life

    def run(self) -> None:
        """Read until stopped, then close everything in order."""
        _allow_many_files()
        waker, woken = socket.socketpair()
        woken.settimeout(0)
        waker.settimeout(0)
        with waker, woken, suppress(KeyboardInterrupt):
            self._selector.register(woken, selectors.EVENT_READ, None)
            self._take_signals(waker)
            self._remembered = state.load(Path(self._config.state_file)) if self._config.state_file else {}
            self._open(self._config)
            self._tick()  # sources open what they read in their first tick
            try:
                while not self._stopping:
                    self._turn(woken)
            finally:
                self._close()

    def _take_signals(self, waker: socket.socket) -> None:
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, lambda *_: self.ask_reload())

    def _turn(self, woken: socket.socket) -> None:
        """Read what there is to read, for no longer than a second."""
        busy = any(source.pending for source in self._sources.values())
        due = self._told + _TICK_SECONDS - time.monotonic()
        ready = self._selector.select(0 if busy or self._is_catching_up else max(0.0, due))
        sources = [key.data for key, _ in ready if key.data is not None]
        if len(sources) < len(ready):
            with suppress(BlockingIOError):
                woken.recv(4096)
        sources += [source for source in self._sources.values() if source.pending and source not in sources]
        for source in sources:
            self._take(source, source.read)
        if not sources and self._is_catching_up:
            self._catch_up()
        if self._reload_asked:
            self._reload_asked = False
            self._load_again()
        if time.monotonic() - self._told >= _TICK_SECONDS:
            self._tick()

    def _tick(self) -> None:
        now = self._told = time.monotonic()
        now_ns = time.time_ns()
        for source in list(self._sources.values()):
            self._take(source, partial(source.tick, now))
        running = []
        for followed in self._streams.values():
            self._apply(followed, followed.stream.tick(now_ns))
            running += followed.stream.running()
            _say_if_useless(followed)
        self._parts.board.look(running)
        self._parts.metrics.expire(now_ns, round(self._config.metrics.retention_seconds * _NS_PER_SECOND))
        if self._is_dirty and now - self._saved >= _SAVE_SECONDS:
            self._save()
        up = sum(1 for followed in self._streams.values() if followed.up)
        self._notifier.tell(WATCHDOG="1", STATUS=f"{up} streams, {len(running)} migrations running")

    def _close(self) -> None:
        """Close in the reverse order of opening: what goes on after a restart is kept, what cannot go on is ended."""
        self._notifier.tell(STOPPING="1")
        for followed in self._streams.values():
            if not self._is_resumable(followed):
                self._apply(followed, followed.stream.close(time.time_ns()))
        if self._config.state_file:
            self._save()
        if self._parts.spans is not None:
            self._parts.spans.interrupt(time.time_ns())
        if self._parts.delivery is not None:
            self._parts.delivery.stop(_FLUSH_SECONDS)
        for source in self._sources.values():
            source.close()
        self._selector.close()

    # Sources

    def _open(self, config: Config) -> None:
        for each in config.sources:
            if each not in self._sources:
                source = _make_source(each, {name: kept.position for name, kept in self._remembered.items()})
                self._sources[each] = source
                self._selector.register(source.fileno(), selectors.EVENT_READ, source)

    def _load_again(self) -> None:
        """Take a new configuration: sources that are in both stay as they are. A bad one changes nothing."""
        self._notifier.tell(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1_000))
        try:
            config = self._reload()
        except ConfigError as error:
            self.config_loaded = False
            for mistake in error.mistakes:
                logger.error("the configuration stays as it was: %s", mistake)  # noqa: TRY400 - no bug of ours
            self._notifier.tell(READY="1")
        else:
            self.config_loaded = True
            for gone in [each for each in self._sources if each not in config.sources]:
                source = self._sources.pop(gone)
                self._selector.unregister(source.fileno())
                source.close()
                for name in [name for name, followed in self._streams.items() if followed.source == gone]:
                    self._end(name)
            self._config = config
            self._is_catching_up = True
            self._open(config)
            self._tick()
            logger.info("the configuration was read again: %d sources", len(self._sources))

    def _take(self, source: Source, read: Callable[[], list[Item]]) -> None:
        """Take what a source has to give; one that fails must not stop the others."""
        config = next(config for config, each in self._sources.items() if each is source)
        try:
            self._take_items(config, read())
        except Exception:
            logger.exception("a source failed: %s", config.model_dump(exclude_none=True))

    def _take_items(self, config: SourceConfig, items: Iterable[Item]) -> None:
        for item in items:
            match item:
                case Data():
                    followed = self._followed(config, item.stream)
                    followed.up, followed.position = True, item.position
                    self._apply(followed, followed.stream.feed(item.data, time.time_ns()))
                case Up():
                    followed = self._followed(config, item.stream)
                    followed.up, followed.problem = item.up, item.reason
                    logger.log(
                        logging.INFO if item.up else logging.WARNING,
                        "stream %s is %s: %s",
                        item.stream,
                        "up" if item.up else "down",
                        item.reason,
                    )
                case Lost():
                    followed = self._followed(config, item.stream)
                    logger.warning("stream %s: %s", item.stream, item.detail)
                    self._apply(followed, followed.stream.surprise(SurpriseKind.BYTES_LOST, item.detail))
                case Ended():
                    self._end(item.stream)

    # Streams

    def _followed(self, config: SourceConfig, name: str) -> _Followed:
        followed = self._streams.get(name)
        if followed is not None:
            return followed
        stream = Stream(
            name,
            vm=config.vm or vm_name(name),
            format_name=config.format,
            untimed=ClockKind.ARRIVAL,
            page_size=self._config.page_size_bytes,
            name_process=guest_of,
            rows=self._config.rows(),
        )
        kept = self._remembered.pop(name, None)
        has_history = kept is None and config.file is not None and self._is_catching_up
        followed = self._streams[name] = _Followed(stream, config, history=[] if has_history else None)
        if kept is not None:
            self._apply(followed, stream.restore(kept.snapshot))
            followed.position = kept.position
        return followed

    def _end(self, name: str) -> None:
        followed = self._streams.pop(name, None)
        if followed is not None:
            self._apply(followed, followed.stream.close(time.time_ns()))

    def _apply(self, followed: _Followed, changes: list[Change]) -> None:
        if not changes:
            return
        self._is_dirty = True
        if followed.history is not None:
            followed.history += changes
            return
        for change in changes:
            if isinstance(change, Started | Resumed | MigrationEnded):
                _tell(change)
        for sink in self._parts.sinks():
            try:
                sink.apply(changes)
            except Exception:  # a sink that fails must not stop the others, nor the reading
                logger.exception("%s failed", type(sink).__name__)

    def _catch_up(self) -> None:
        """Go on with what is open, now that all that was there is read, and forget what ended before."""
        self._is_catching_up = False
        for followed in self._streams.values():
            history, followed.history = followed.history, None
            if history is not None:
                history += followed.stream.tick(time.time_ns())
                self._apply(followed, _still_open(history))
        self._is_ready = True
        self._notifier.tell(READY="1")
        logger.info("ready: %d streams", len(self._streams))

    # State

    def _is_resumable(self, followed: _Followed) -> bool:
        return followed.position is not None and self._config.state_file is not None

    def _save(self) -> None:
        self._saved, self._is_dirty = time.monotonic(), False
        if self._config.state_file:
            kept = {
                name: state.Remembered(followed.position, followed.stream.snapshot())
                for name, followed in self._streams.items()
                if followed.position is not None
            }
            state.save(Path(self._config.state_file), kept)


def _allow_many_files() -> None:
    """Raise the soft limit on open files to the hard one: a file that is followed stays open; select() is not used."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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


def _make_source(config: SourceConfig, resume: Mapping[str, Position]) -> Source:
    if config.file is not None:
        return Follow(config.file, resume)
    if config.fifo is not None:
        return Fifo(config.fifo)
    if config.socket is not None:
        return UnixSocket(config.socket)
    if config.command is not None:
        return Command(config.command, config.vm or Path(config.command[0]).name)
    return StandardInput()


def _still_open(history: Iterable[Change]) -> list[Change]:
    """Leave out what ended before anybody listened: it was told when it happened, or is nobody's business any more."""
    history = list(history)
    ended = {change.trace_id for change in history if isinstance(change, MigrationEnded)}
    return [change for change in history if _trace_of(change) not in ended]


def _trace_of(change: Change) -> str | None:
    if isinstance(change, Surprised):
        return None
    return change.identity.trace_id if isinstance(change, Started | Resumed) else change.trace_id


def _tell(change: Started | Resumed | MigrationEnded) -> None:
    """Say in the log what an operator would look for there."""
    if isinstance(change, MigrationEnded):
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
