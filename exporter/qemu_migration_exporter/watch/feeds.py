"""Snapshots of migrations, from the API of a running daemon or from sources followed in this process."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import urllib.error
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, Protocol

from qemu_migration_exporter.ops.errors import UserError
from qemu_migration_exporter.present.document import DocumentError, migration_from_document
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.present.terminal.screen import Snapshot
from qemu_migration_exporter.watch.http_client import HttpClient

_POLL_SECONDS: Final = 1.0
_API: Final = "api/v1/migrations"
_FILE: Final = "--http.config.file=FILE"


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
        http_config_file: Path of a file with users and certificates.

    Raises:
        WatchError: The address is not an HTTP URL.
        ConfigError: The file has mistakes.
    """

    def __init__(self, url: str, http_config_file: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise WatchError(f"expected a URL such as http://127.0.0.1:9871, got {url!r}")
        self._client = HttpClient(url.removesuffix("/").removesuffix(f"/{_API}"), http_config_file)
        self._snapshot = Snapshot(source=self._client.url, now=datetime.now(UTC), problem="connecting…")
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
            answer = self._ask()
            views = [migration_from_document(document) for document in answer["data"]["migrations"]]
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:  # shown on the screen
            self._snapshot = replace(self._snapshot, problem=f"{self._client.url}/{_API}: {_describe(error)}")
            return
        self._snapshot = Snapshot(
            source=self._snapshot.source,
            now=datetime.now(UTC),
            running=tuple(view for view in views if view.running),
            recent=tuple(view for view in views if not view.running),
            notice="; ".join(map(str, answer.get("warnings", ()))),
        )

    def _poll(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self.refresh()
            self._stopping.wait(max(0.0, began + _POLL_SECONDS - time.monotonic()))

    def _ask(self) -> Mapping[str, Any]:
        """Return the answer in the envelope of Prometheus's API."""
        answer: dict[str, Any] = json.loads(self._client.get(_API))
        if not isinstance(answer["data"]["migrations"], list):
            raise DocumentError("expected a list of migrations")
        return answer


class Streams(Protocol):
    """The streams of this process, see `Pipeline`."""

    def problems(self) -> Mapping[str, str]:
        """Return why streams cannot be read, by name."""
        ...

    def notice(self) -> str:
        """Return the reason why migrations may not be seen; empty if there is none."""
        ...


class SourceFeed:
    """Migrations of the streams that this process follows.

    Args:
        name: The name of the sources.
        history: The sink that the pipeline fills.
        streams: The streams, which know why they cannot be read.
    """

    def __init__(self, name: str, history: MigrationHistory, streams: Streams) -> None:
        self._name = name
        self._history = history
        self._streams = streams

    def snapshot(self) -> Snapshot:
        """Return the present migrations."""
        now_ns = time.time_ns()
        problems: Mapping[str, str] = {}
        notice = ""
        with suppress(RuntimeError):  # the loop's thread is adding a stream; the next frame shows it
            problems, notice = self._streams.problems(), self._streams.notice()
        return Snapshot(
            source=self._name,
            now=datetime.fromtimestamp(now_ns / 1e9, UTC),
            running=self._history.running_views(now_ns),
            recent=self._history.recent_views(),
            problem="; ".join(f"{name}: {problem or 'not read'}" for name, problem in sorted(problems.items())),
            notice=notice if not problems else "",
        )


def _describe(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return _describe_status(error)
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({reason.verify_message}); {_FILE} names its CA, tls_config.ca_file"
    if isinstance(reason, ssl.SSLError):
        return f"TLS failed ({reason.reason}); does the daemon serve http:// or expect a certificate of the client?"
    if isinstance(reason, http.client.HTTPException):
        return "the answer is not HTTP; does the daemon serve https://?"
    if isinstance(reason, json.JSONDecodeError | KeyError | TypeError):
        return "the answer is no list of migrations; is this a daemon of qemu-migration-exporter?"
    return str(reason)


def _describe_status(error: urllib.error.HTTPError) -> str:
    if error.code == HTTPStatus.UNAUTHORIZED:
        return f"expects a user and a password, or others than these: https://USER:PASSWORD@HOST:PORT, or {_FILE}"
    if HTTPStatus.MULTIPLE_CHOICES <= error.code < HTTPStatus.BAD_REQUEST:
        return f"answered {error.code} with another address: {error.headers.get('Location')}"
    return f"answered {error.code} {error.reason}; is this a daemon of qemu-migration-exporter?"
