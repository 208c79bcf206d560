"""Let clients in: as many as there is room for, and who says nothing makes room for who comes."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import uvicorn
from uvicorn.server import ServerState

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.web.connection import Connection, Stage

_log = logging.getLogger(__name__)

#: Prometheus scrapes with one connection; the rest are people, probes and who means no good. Each costs a file
#: descriptor, of which a process has 1024 unless told otherwise, and streams need some too.
MAX_CONNECTIONS: Final = 256

#: When the process has no file descriptor left, and no connection to give one back, accepting fails all the time.
_PAUSE_SECONDS: Final = 0.1

#: How long answers that are under way may take when the server stops.
_GRACE_SECONDS: Final = 1.0

#: How long what was said may take to be sent then.
_FAREWELL_SECONDS: Final = 0.3


class TlsSettings(NamedTuple):
    """What a new connection must keep to; no context is no TLS."""

    context: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] | None = None


class Listener:
    """Accept connections on a socket that listens.

    uvicorn's own server is not used for this: it has one SSL context for all its life, and knows of a connection only
    when the TLS handshake is over, so that silent ones are neither bounded nor closed.

    Args:
        config: Of uvicorn, with the application.
        terms: Asked at each connection, so that a new certificate is used from the next one on.
        failures: Where it is counted what does not work.
        limits: Seconds for each stage of a connection, if not its own.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        terms: Callable[[], TlsSettings],
        failures: ErrorCounter,
        *,
        max_connections: int = MAX_CONNECTIONS,
        limits: dict[Stage, float] | None = None,
    ) -> None:
        self._config = config
        self._terms = terms
        self._failures = failures
        self._max_connections = max_connections
        self._limits = limits or {}
        self._state = ServerState()
        self._connections: set[Connection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._openings: set[asyncio.Future[Any]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Accept until cancelled; then let the answers that are under way end, and drop the rest."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)  # noqa: FBT003 - the standard library's own
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(listening)
                except OSError as error:
                    self._failures.note(
                        Component.WEB, "cannot accept a connection, and closes the oldest silent one for it: %s", error
                    )
                    await asyncio.sleep(0 if self._make_room() else _PAUSE_SECONDS)
                    continue
                with self._failures.attempt(Component.WEB, "a connection was not served") as attempt:
                    self._admit(client)
                if attempt.failed:
                    client.close()
        finally:
            await self._close()

    def _admit(self, client: socket.socket) -> None:
        if len(self._connections) >= self._max_connections and not self._make_room():
            client.close()
            return
        terms = self._terms()
        connection = Connection(
            self._config,
            self._state,
            allowed_sans=terms.allowed_sans,
            on_lost=self._lost,
            limits=self._limits,
        )
        self._connections.add(connection)
        self._is_empty.clear()
        # The connection's own deadline ends a handshake that takes too long.
        opening = asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client, ssl=terms.context)
        connection.opening = asyncio.ensure_future(opening)
        self._openings.add(connection.opening)
        connection.opening.add_done_callback(lambda opened: self._opened(connection, client, opened))

    def _opened(self, connection: Connection, client: socket.socket, opening: asyncio.Future[Any]) -> None:
        self._openings.discard(opening)
        error = asyncio.CancelledError("it took too long") if opening.cancelled() else opening.exception()
        if error is not None:
            # No certificate, no TLS at all, or gone: that is the client's to know.
            _log.debug("a connection was not made: %s", error)
            connection.lost()
            client.close()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._is_empty.set()

    def _make_room(self) -> bool:
        """Drop who has kept us waiting longest; say whether there was one."""
        waiting = [each for each in self._connections if not each.is_busy]
        if not waiting:
            return False
        longest = min(waiting, key=lambda each: each.since)
        longest.drop()
        self._lost(longest)  # at once: the loop tells later
        return True

    async def _close(self) -> None:
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=_GRACE_SECONDS)
        for connection in list(self._connections):
            connection.leave()
        with suppress(TimeoutError):  # who has not read what was said by then is dropped below
            await asyncio.wait_for(self._is_empty.wait(), _FAREWELL_SECONDS)
        for connection in list(self._connections):
            connection.drop()
        for task in self._state.tasks:
            task.cancel()
        await asyncio.gather(*self._openings, *self._state.tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets one turn later
