"""Snapshots of migrations, from the API of a running daemon or from sources followed in this process."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from qemu_migration_exporter.ops.errors import UserError
from qemu_migration_exporter.present.document import DocumentError, migration_from_document
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.present.terminal.screen import Snapshot

_POLL_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 64 << 20
_API: Final = "api/v1/migrations"


class WatchError(UserError):
    """A source or address that can never be watched."""


class Feed(Protocol):
    """A supply of snapshots."""

    def snapshot(self) -> Snapshot:
        """Return the newest data."""
        ...


class DaemonFeed:
    """Migrations of a running daemon, requested once a second by a thread.

    Args:
        url: The daemon's address, such as http://host:9871, possibly with the path of the API.

    Raises:
        WatchError: The address is not an HTTP URL.
    """

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise WatchError(f"expected a URL such as http://127.0.0.1:9871, got {url!r}")
        base = url.removesuffix("/").removesuffix(f"/{_API}")
        self._url = f"{base}/{_API}"
        self._snapshot = Snapshot(source=base, now=datetime.now(UTC), problem="connecting…")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="watch-feed", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopping.set()

    def snapshot(self) -> Snapshot:
        """Return the newest answer; an old answer has the reason why there is no newer one."""
        return replace(self._snapshot, now=datetime.now(UTC))

    def refresh(self) -> None:
        """Request the migrations once."""
        try:
            views = [migration_from_document(document) for document in self._ask()]
        except (OSError, ValueError, KeyError, TypeError) as error:  # shown on the screen
            self._snapshot = replace(self._snapshot, problem=f"{self._url}: {_describe(error)}")
            return
        self._snapshot = Snapshot(
            source=self._snapshot.source,
            now=datetime.now(UTC),
            running=tuple(view for view in views if view.running),
            recent=tuple(view for view in views if not view.running),
        )

    def _poll(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self.refresh()
            self._stopping.wait(max(0.0, began + _POLL_SECONDS - time.monotonic()))

    def _ask(self) -> list[Any]:
        request = urllib.request.Request(self._url, headers={"Accept": "application/json"})  # noqa: S310 - see above
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 - see above
            document = json.loads(answer.read(_MAX_BYTES))
        migrations = document["data"]["migrations"]
        if not isinstance(migrations, list):
            raise DocumentError("expected a list of migrations")
        return migrations


class SourceFeed:
    """Migrations of the streams that this process follows.

    Args:
        name: The name of the sources.
        history: The sink that the pipeline fills.
        problems: Returns why streams cannot be read, by name.
    """

    def __init__(self, name: str, history: MigrationHistory, problems: Callable[[], dict[str, str]]) -> None:
        self._name = name
        self._history = history
        self._problems = problems

    def snapshot(self) -> Snapshot:
        """Return the present migrations."""
        now_ns = time.time_ns()
        problems: dict[str, str] = {}
        with suppress(RuntimeError):  # the loop's thread is adding a stream; the next frame shows it
            problems = self._problems()
        return Snapshot(
            source=self._name,
            now=datetime.fromtimestamp(now_ns / 1e9, UTC),
            running=self._history.running_views(now_ns),
            recent=self._history.recent_views(),
            problem="; ".join(f"{name}: {problem or 'not read'}" for name, problem in sorted(problems.items())),
        )


def _describe(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"answered {error.code} {error.reason}; is this a daemon of qemu-migration-exporter?"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    if isinstance(error, json.JSONDecodeError | KeyError | TypeError):
        return "the answer is no list of migrations; is this a daemon of qemu-migration-exporter?"
    return str(error)
