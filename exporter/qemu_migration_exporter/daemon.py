"""Main loop of the daemon: one thread that reads the sources in turns, with a limit of time per turn.

    run → _run_once: select → read ready sources → reload and refresh, if requested → tick once a second

Two other threads send spans and serve HTTP; the loop waits for neither. Their requests come through `loop_requests`,
which wakes the loop up through the socket that signals use.
"""

from __future__ import annotations

import logging
import resource
import selectors
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from qemu_migration_exporter.config.errors import ConfigError
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.config.section import changed_keys
from qemu_migration_exporter.loop_requests import Requests
from qemu_migration_exporter.ops.errors import Component
from qemu_migration_exporter.ops.systemd import Notifier
from qemu_migration_exporter.pipeline import Pipeline
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.source_factory import describe, make_source, why_missing
from qemu_migration_exporter.sources import Item, Source
from qemu_migration_exporter.sources.errors import SourceError

logger = logging.getLogger(__name__)

_TICK_SECONDS: Final = 1.0

#: Pause after a turn that has read everything. QEMU writes the lines of a slice one by one, within a millisecond: the
#: pause lets them be read together, which takes half the time. It is less than the error of a time of arrival, 5 ms.
_GATHER_SECONDS: Final = 0.002

#: Limits of the pause between two checkpoints, and the share of time that they may take between these limits.
_MIN_COMMIT_SECONDS: Final = 1.0
_MAX_COMMIT_SECONDS: Final = 5.0
_COMMIT_SHARE: Final = 0.02

#: Time after which the daemon is ready although files are still being read, because a file may have no end.
_START_SECONDS: Final = 10.0

#: Keys that are read only at the start.
_NEEDS_RESTART: Final = ("state_file", "web.", "spans.", "metrics.max_vms")

#: Time for the last checkpoint and for the last spans, each; systemd waits 90 s for a service to stop.
_FLUSH_SECONDS: Final = 5.0

_NS_PER_SECOND: Final = 1_000_000_000


class Daemon:
    """Reader of all streams, until it is stopped.

    Args:
        config: The sources, and how long series stay.
        parts: The sinks of changes.
        reload: Reads the configuration again; it may raise ConfigError.
        notifier: The connection to the service manager.
        reports_past: True to report migrations that ended before the start too.

    Raises:
        OSError: There are too few file descriptors for the start.
    """

    def __init__(
        self,
        config: Config,
        parts: Sinks,
        *,
        reload: Callable[[], Config],
        notifier: Notifier | None = None,
        reports_past: bool = False,
    ) -> None:
        self._config = config
        self._parts = parts
        self._reload = reload
        self._failures = parts.failures
        self._notifier = notifier or Notifier(failures=self._failures)
        self._selector = selectors.DefaultSelector()
        self._requested = selectors.DefaultSelector()  # for the waker alone, which ends a pause
        self._has_read = False
        self._sources: dict[SourceConfig, Source] = {}
        self.streams = Pipeline(config, parts, reports_past=reports_past)
        self.requests = Requests()
        self._stopping = False
        self._is_ready = False
        self._next_commit = 0.0
        self._starts_until: float | None = time.monotonic() + _START_SECONDS
        self._last_tick = 0.0
        self.config_loaded = True

    @property
    def is_ready(self) -> bool:
        """True once the content from before the start has been read, or `_START_SECONDS` have passed."""
        return self._is_ready

    def stop(self) -> None:
        """Stop after the present turn."""
        self._stopping = True

    def refresh(self) -> None:
        """Bring the numbers of running migrations up to date for an answer; any thread may."""
        if self._is_ready:
            self.requests.refresh()

    def run(self) -> None:
        """Read until stopped, then close everything in order.

        Raises:
            SourceError: The configuration names a source that can never be read.
        """
        _allow_many_files()
        try:
            waker, woken = socket.socketpair()
        except OSError as error:
            raise SourceError(f"no source can be read: {error.strerror}") from error
        woken.settimeout(0)
        waker.settimeout(0)
        with waker, woken, suppress(KeyboardInterrupt):  # before or after it is taken as a signal to stop
            self._selector.register(woken, selectors.EVENT_READ, None)
            self._requested.register(woken, selectors.EVENT_READ)
            self._take_signals(waker)
            try:
                for each in self._config.sources:
                    self._open(each)
            except SourceError:
                signal.set_wakeup_fd(-1)
                raise
            self._tick()  # sources open their files in their first tick
            try:
                while not self._stopping:
                    self._run_once(woken)
            finally:
                signal.set_wakeup_fd(-1)
                self._close()

    def _take_signals(self, waker: socket.socket) -> None:
        self.requests.waker = waker
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        signal.signal(signal.SIGHUP, lambda *_: self.requests.reload_by_signal())

    def _run_once(self, woken: socket.socket) -> None:
        """Read all sources that have data, for a second at most."""
        store = self.streams.store
        busy = (store is not None and store.is_encoding) or any(source.pending for source in self._sources.values())
        if self._has_read and not busy:
            self._requested.select(_GATHER_SECONDS)
        due = self._last_tick + _TICK_SECONDS - time.monotonic()
        ready = self._selector.select(0 if busy or self._starts_until is not None else max(0.0, due))
        sources = [key.data for key, _ in ready if key.data is not None]
        if len(sources) < len(ready):
            with suppress(BlockingIOError):  # several signals were read at once
                woken.recv(4096)
        sources += [source for source in self._sources.values() if source.pending and source not in sources]
        for source in sources:
            self._take(source, source.read)
        self._has_read = bool(sources)
        if self._starts_until is not None and (not sources or time.monotonic() > self._starts_until):
            self._settle()
        if store is not None:
            store.encode_some()
        if self.requests.wants_reload:
            self.requests.answer_reloads(self._reload_config())
        if self.requests.wants_refresh:
            self.streams.refresh()
            self.requests.answer_refreshes()
        if time.monotonic() - self._last_tick >= _TICK_SECONDS:
            self._tick()

    def _tick(self) -> None:
        now = self._last_tick = time.monotonic()
        now_ns = time.time_ns()
        for source in list(self._sources.values()):
            self._take(source, partial(source.tick, now))
        behind = {stream for source in self._sources.values() for stream in source.behind}
        running = self.streams.tick(now_ns, behind)
        self._parts.tick(now_ns, round(self._config.metrics.retention_seconds * _NS_PER_SECOND))
        if self.streams.is_commit_due and now >= self._next_commit:
            self._commit()
        up = sum(1 for _, is_up in self.streams.all() if is_up)
        self._notifier.notify(WATCHDOG="1", STATUS=f"{up} streams, {len(running)} migrations running")

    def _commit(self) -> None:
        began = time.monotonic()
        encoding_seconds = self.streams.store.seconds if self.streams.store is not None else 0.0  # of the last one
        self.streams.commit()
        ended = time.monotonic()
        pause = (ended - began + encoding_seconds) / _COMMIT_SHARE
        self._next_commit = ended + min(max(pause, _MIN_COMMIT_SECONDS), _MAX_COMMIT_SECONDS)

    def _settle(self) -> None:
        """Finish the start, after the content from before it has been read or has taken too long."""
        self._starts_until = None
        self._tick()  # count the migrations that time ended before the first scrape
        self.streams.settle(self._sources)
        self._is_ready = True
        self._notifier.notify(READY="1")
        logger.info("ready", extra={"streams": len(self.streams.all())})
        self._warn_of_missing()

    def _close(self) -> None:
        """Close everything in the reverse order of opening; save streams that a restart can resume, and end others."""
        self._stopping = True
        self._notifier.notify(STOPPING="1")
        self.requests.stop()
        self.streams.close(time.time_ns())
        self._parts.interrupt(time.time_ns())
        self.streams.flush(_FLUSH_SECONDS)
        if self._parts.delivery is not None:
            self._parts.delivery.stop(_FLUSH_SECONDS)
        self.streams.close_store()
        if self._parts.delivery is not None:
            self._parts.delivery.shutdown()
        for config, source in self._sources.items():
            self._close_source(config, source)
        self._selector.close()
        self._requested.close()
        self._notifier.close()

    def _open(self, config: SourceConfig) -> None:
        """Open a source, unless it is open already.

        Raises:
            SourceError: The source can never be read, or there is no file descriptor for it.
        """
        if config in self._sources:
            return
        try:
            source = make_source(config, self.streams.positions(), self.streams.followed_until_ns(config))
        except OSError as error:  # EMFILE: of file descriptors, or of the user's inotify instances
            raise SourceError(f"{describe(config)}: {error.strerror or error}") from error
        self._sources[config] = source
        self._selector.register(source.fileno(), selectors.EVENT_READ, source)

    def _close_source(self, config: SourceConfig, source: Source) -> None:
        with self._failures.guard(Component.SOURCE, "source not closed: %s", describe(config)):
            source.close()

    def _reload_config(self) -> str | None:
        """Replace the configuration; sources in both stay open, and a configuration with mistakes changes nothing.

        Returns:
            The mistakes, one a line; None if there are none.
        """
        self._notifier.notify(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1_000))
        try:
            config = self._reload()
        except ConfigError as error:
            self.config_loaded = False
            for mistake in error.mistakes:
                logger.error("config reload failed", extra={"error": mistake})  # noqa: TRY400 - no bug of ours
            self._notifier.notify(READY="1")
            return str(error)
        else:
            self.config_loaded = True
            unreadable: list[str] = []
            for gone in [each for each in self._sources if each not in config.sources]:
                source = self._sources.pop(gone)
                self._selector.unregister(source.fileno())
                self._close_source(gone, source)
                self.streams.drop(gone)
            self._warn_of_restart(config)
            self._config = self.streams.config = config
            self._starts_until = time.monotonic() + _START_SECONDS
            for each in config.sources:
                try:
                    self._open(each)
                except SourceError as error:
                    self.config_loaded = False
                    unreadable.append(str(error))
                    self._failures.record(Component.SOURCE, "source cannot be read: %s", error)
            self._tick()
            logger.info("config reloaded", extra={"sources": len(self._sources)})
            return "\n".join(unreadable) or None

    def _warn_of_restart(self, config: Config) -> None:
        """Log the keys whose new values are used only after a restart."""
        keys = [key for key in changed_keys(self._config, config) if key.startswith(_NEEDS_RESTART)]
        if keys:
            logger.warning("config change needs a restart", extra={"keys": ", ".join(keys)})

    def _warn_of_missing(self) -> None:
        """Log reasons why this daemon may be useless: sources without a file, or no state file."""
        if not self._sources:
            logger.warning("nothing to read", extra={"hint": "name a source in the configuration or by --source"})
        for config in self._sources:
            if config.file is not None and not self.streams.has(config):
                logger.warning(
                    "source has no file yet", extra={"source": config.file, "reason": why_missing(config.file)}
                )
        if self._config.state_file is None:
            hint = "a restart forgets open migrations; set state_file or --state.file"
            logger.warning("no state file", extra={"hint": hint})

    def _take(self, source: Source, read: Callable[[], list[Item]]) -> None:
        """Read one source; an error affects no other source."""
        config = next(config for config, each in self._sources.items() if each is source)
        with self._failures.guard(Component.SOURCE, "source failed: %s", describe(config)):
            self.streams.take(config, read())


def _allow_many_files() -> None:
    """Raise the soft limit on open files to the hard limit: followed files stay open, and select() is not used."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as error:
        logger.warning("limit on open files not raised", extra={"error": str(error)})
