"""Listener that accepts connections up to a limit; at the limit, the connection that is silent longest is closed.

asyncio's own server is not used. Its TLS context cannot be replaced, and it reports a connection only after the
handshake, so that silent clients could be neither counted nor closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NamedTuple

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.web.connection import Connection, Responder, Stage

_log = logging.getLogger(__name__)

#: Prometheus scrapes with one connection; other clients are operators, health checks and attackers. A connection uses
#: one of the 1024 file descriptors that a process has by default, and streams need some too.
MAX_CONNECTIONS: Final = 256

#: Pause after a failure to accept, for a process without file descriptors and without a connection to close.
_PAUSE_SECONDS: Final = 0.1

#: Time for answers that are under way when the server stops.
_GRACE_SECONDS: Final = 1.0

#: Time for sending the answers that are written by then.
_FAREWELL_SECONDS: Final = 0.3


class TlsSettings(NamedTuple):
    """TLS settings of a connection; no context is plain HTTP."""

    context: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] | None = None


class Listener:
    """The accepting loop of a listening socket.

    Args:
        respond: Answers one request.
        tls: Returns the settings for a new connection, so that a new certificate is used from then on.
        failures: Counts failures to accept.
        max_connections: Limit of simultaneous connections.
        limits: Seconds for each stage of a connection, instead of the defaults.
    """

    def __init__(
        self,
        respond: Responder,
        tls: Callable[[], TlsSettings],
        failures: ErrorCounter,
        *,
        max_connections: int = MAX_CONNECTIONS,
        limits: dict[Stage, float] | None = None,
    ) -> None:
        self._respond = respond
        self._tls = tls
        self._failures = failures
        self._max_connections = max_connections
        self._limits = limits or {}
        self._connections: set[Connection] = set()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._openings: set[asyncio.Future[Any]] = set()

    async def serve(self, listening: socket.socket) -> None:
        """Accept until cancelled; then finish the answers that are under way, and close the rest."""
        loop = asyncio.get_running_loop()
        listening.setblocking(False)  # noqa: FBT003 - the standard library's own
        try:
            while True:
                try:
                    client, _ = await loop.sock_accept(listening)
                except OSError as error:
                    self._failures.record(
                        Component.WEB, "accepting a connection failed, closing the oldest silent one: %s", error
                    )
                    await asyncio.sleep(0 if self._make_room() else _PAUSE_SECONDS)
                    continue
                with self._failures.guard(Component.WEB, "connection failed") as attempt:
                    self._admit(client)
                if attempt.failed:
                    client.close()
        finally:
            await self._close()

    def _admit(self, client: socket.socket) -> None:
        if len(self._connections) >= self._max_connections and not self._make_room():
            client.close()
            return
        tls = self._tls()
        connection = Connection(self._respond, allowed_sans=tls.allowed_sans, on_lost=self._lost, limits=self._limits)
        self._connections.add(connection)
        self._is_empty.clear()
        # The connection's own deadline ends a handshake that takes too long.
        opening = asyncio.get_running_loop().connect_accepted_socket(lambda: connection, client, ssl=tls.context)
        connection.opening = asyncio.ensure_future(opening)
        self._openings.add(connection.opening)
        connection.opening.add_done_callback(lambda opened: self._opened(connection, client, opened))

    def _opened(self, connection: Connection, client: socket.socket, opening: asyncio.Future[Any]) -> None:
        self._openings.discard(opening)
        error = asyncio.CancelledError("it took too long") if opening.cancelled() else opening.exception()
        if error is not None:
            # The client has no certificate, does not speak TLS, or disconnected.
            _log.debug("connection not made: %s", error)
            connection.lost()
            client.close()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._is_empty.set()

    def _make_room(self) -> bool:
        """Close the connection that has been silent longest; return False without a silent connection."""
        waiting = [connection for connection in self._connections if not connection.is_busy]
        if not waiting:
            return False
        longest = min(waiting, key=lambda connection: connection.stage_started)
        longest.abort()
        self._lost(longest)  # at once: the loop reports it a turn later
        return True

    async def _close(self) -> None:
        answers = [connection.answering for connection in self._connections if connection.answering is not None]
        if answers:
            await asyncio.wait(answers, timeout=_GRACE_SECONDS)
        for connection in list(self._connections):
            connection.close_gracefully()
        with suppress(TimeoutError):  # unread answers are thrown away below
            await asyncio.wait_for(self._is_empty.wait(), _FAREWELL_SECONDS)
        for connection in list(self._connections):
            connection.abort()
        for answer in answers:
            answer.cancel()
        await asyncio.gather(*self._openings, *answers, return_exceptions=True)
        await asyncio.sleep(0)  # transports close their sockets one turn later
