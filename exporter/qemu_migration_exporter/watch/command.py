"""The `watch` command: it chooses a feed, and runs the view until the operator quits."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

from rich.console import Console

from qemu_migration_exporter.config.schema import Config, source_of
from qemu_migration_exporter.daemon import Daemon
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.watch.app import Watch, print_once
from qemu_migration_exporter.watch.feeds import DaemonFeed, SourceFeed, WatchError


def watch(words: Sequence[str], http_config_file: str | None = None) -> int:
    """Watch a daemon's URL, or sources; return the exit status.

    Args:
        words: One URL, or any number of sources.
        http_config_file: Path of a file with users and certificates, for a URL.

    Raises:
        WatchError: Both were given, or more than one URL.
        ConfigError: The file has mistakes.
    """
    urls = [word for word in words if "://" in word]
    if urls and len(words) > 1:
        raise WatchError("expected one URL, or sources, and not both")
    console = Console(highlight=False)
    if urls:
        return _watch_daemon(DaemonFeed(urls[0], http_config_file), console)
    if http_config_file is not None:
        raise WatchError("expected the URL of a daemon for --http.config.file")
    return _watch_sources(words, console)


def _watch_daemon(feed: DaemonFeed, console: Console) -> int:
    feed.refresh()
    if not _can_draw(console):
        print_once(feed, console)
        return 1 if feed.snapshot().problem else 0
    feed.start()
    try:
        Watch(feed, console).run(sys.stdin.fileno())
    finally:
        feed.stop()
    return 0


def _watch_sources(words: Sequence[str], console: Console) -> int:
    if not _can_draw(console):
        terminal = os.environ.get("TERM", "")
        found = f", got TERM={terminal}" if console.is_dumb_terminal else ""
        raise WatchError(f"expected a terminal to draw on{found}; `run` serves the same, `replay` prints a report")
    if "-" in words:
        raise WatchError("expected sources other than standard input, which has the keys")
    # The screen takes the place of the log.
    logging.getLogger().setLevel(logging.CRITICAL + 1)
    config = Config(sources=tuple(source_of(word) for word in words)) if words else Config()
    history = MigrationHistory()
    daemon = Daemon(config, Sinks(MetricsSink(), history), reload=lambda: config, reports_past=True)
    feed = SourceFeed(", ".join(words) or "/var/log/libvirt/qemu", history, daemon.streams)
    view = Watch(feed, console)
    # The daemon's loop receives signals, which is only possible in the main thread.
    thread = threading.Thread(target=_draw, args=(view,), name="watch-screen")
    thread.start()
    try:
        daemon.run()
    finally:
        view.stop()
        thread.join()
    return 0


def _can_draw(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal and sys.stdin.isatty()


def _draw(view: Watch) -> None:
    try:
        view.run(sys.stdin.fileno())
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
