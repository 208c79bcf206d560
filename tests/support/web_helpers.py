"""Helpers of the HTTP tests: a server, clients that ask it, and views made of real recordings."""

from __future__ import annotations

import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import Migration
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.present.view import MigrationView
from qemu_migration_exporter.present.view_builder import migration_view
from qemu_migration_exporter.web import Endpoints, Server

from tests.support.patience import patience
from tests.support.recordings import RECORDINGS, START_NS


class Answer(NamedTuple):
    """The answer of a server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


def offer(**given: Any) -> Endpoints:  # noqa: ANN401 - any of its fields
    """Offer real metrics, and what is given."""
    registry = CollectorRegistry(auto_describe=True)
    registry.register(MetricsSink())
    return Endpoints(**{"registry": registry, "is_ready": lambda: True, **given})


@contextmanager
def serving(**given: Any) -> Iterator[Server]:  # noqa: ANN401 - any of the arguments and fields
    """Run a server; what is not its own argument is offered."""
    own = {name: given.pop(name) for name in ("config_file", "max_connections", "limits") if name in given}
    server = Server("127.0.0.1:0", offer(**given), **own)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def get(
    url: str, *, method: str = "GET", context: ssl.SSLContext | None = None, login: str | None = None, **headers: str
) -> Answer:
    """Ask, and take any status for an answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if login is not None:
        named["Authorization"] = login
    request = urllib.request.Request(url, method=method, headers=named)
    try:
        with urllib.request.urlopen(request, timeout=patience(10), context=context) as answer:
            return Answer(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, {k.lower(): v for k, v in error.headers.items()}, error.read())


def connect(url: str) -> socket.socket:
    """Open a connection and say nothing."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 0), timeout=patience(10))


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until something is true."""
    deadline = time.monotonic() + patience(seconds)
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


def migration(recording: str, *, part: float = 1.0, vm: str = "web-42") -> Migration:
    """Read a recording, or the first part of it; the migration is then one that has not ended."""
    data = next(each for each in RECORDINGS if each.name == recording).data
    stream = Stream(f"{vm}.log", vm=vm, start_ns=START_NS)
    changes = stream.feed(data[: int(len(data) * part)]) + stream.close()
    return next(change.migration for change in changes if isinstance(change, MigrationEnded))


def view(of: Migration, *, is_running: bool = False, **given: Any) -> MigrationView:  # noqa: ANN401 - any of its fields
    """Return the view of a migration, with some of its fields replaced."""
    return replace(migration_view(of, now_ns=of.end_ns if is_running else None), **given)
