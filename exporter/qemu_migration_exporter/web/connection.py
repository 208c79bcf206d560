"""One HTTP connection, which a client that is silent, slow or talks nonsense does not keep for long.

uvicorn bounds how long a connection is idle between two requests, and nothing else: not the TLS handshake, not the
first request, not half a request, not an answer nobody reads.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

#: uvicorn warns of each request that is none, and who sends them would fill the log; its errors are ours.
_log = logging.getLogger("qemu_migration_exporter.web.http")
_log.setLevel(logging.ERROR)

#: Longer than the longest scrape interval in use, so that Prometheus keeps its connection.
KEEP_ALIVE_SECONDS: Final = 75


class Stage(Enum):
    """What is waited for, with the seconds it may take."""

    #: A whole request, TLS handshake included; a scrape over a bad network needs one.
    REQUEST = 10.0
    #: The answer, from here; Prometheus waits 10 s for it unless it is told otherwise.
    ANSWER = 60.0
    #: The next request, or that the client reads the answer; uvicorn closes before, which needs a client that reads.
    IDLE = KEEP_ALIVE_SECONDS + 10.0


class Connection(H11Protocol):
    """A connection from its acceptance on.

    Args:
        config: Of uvicorn.
        state: Shared by the connections of a server.
        allowed_sans: Names of which the client's certificate must have one, None if any will do.
        on_lost: Called once, when it is gone.
        limits: Seconds for each stage, if not its own.

    Attributes:
        since: When the stage began, on the loop's clock.
        opening: What makes the connection; cancelled to drop one whose TLS handshake is not over.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        *,
        allowed_sans: frozenset[str] | None,
        on_lost: Callable[[Connection], None],
        limits: dict[Stage, float],
    ) -> None:
        super().__init__(config, state, {})
        self.logger = _log
        self._allowed_sans = allowed_sans
        self._on_lost = on_lost
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None
        self.opening: asyncio.Future[Any] | None = None
        self._is_made = False
        self._is_lost = False
        self.since = 0.0
        self.stage = Stage.REQUEST
        self._enter(Stage.REQUEST)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being answered."""
        return self.stage is Stage.ANSWER

    def drop(self) -> None:
        """Close it now, whatever is not sent yet."""
        if self._is_made:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def leave(self) -> None:
        """Close it when what was said is sent."""
        if self._is_made:
            self.transport.close()
        else:
            self.drop()

    def lost(self) -> None:
        """Take note that it is gone, or was never made."""
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take the connection, if its client may have one."""
        super().connection_made(transport)
        self._is_made = True
        if self._allowed_sans is not None:
            certificate = transport.get_extra_info("peercert") or {}
            if not self._allowed_sans & names_of(certificate):
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Take note that it is gone."""
        super().connection_lost(exc)
        self.lost()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        # What came with the end of the handshake is here before a transport that was aborted is gone.
        if self.transport.is_closing():
            return
        cycle = self.cycle
        super().data_received(data)
        if self.cycle is not cycle:
            self._enter(Stage.ANSWER)
        elif self.stage is Stage.IDLE:
            self._enter(Stage.REQUEST)  # once: who sends a byte a second gets no more time for each

    def on_response_complete(self) -> None:
        """Wait for the next request, or answer the one that came meanwhile."""
        cycle = self.cycle
        super().on_response_complete()
        if self.cycle is cycle:
            self._enter(Stage.REQUEST if self.conn.trailing_data[0] else Stage.IDLE)
        else:
            self._enter(Stage.ANSWER)

    def _enter(self, stage: Stage) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.stage = stage
        self.since = self.loop.time()
        if not self._is_lost:
            self._timer = self.loop.call_later(self._limits.get(stage, stage.value), self.drop)


def names_of(certificate: dict[str, Any]) -> frozenset[str]:
    """Return the subject's alternative names of a certificate, as `ssl` gives it."""
    return frozenset(
        str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name
        for kind, name in certificate.get("subjectAltName", ())
        if kind in {"DNS", "IP Address", "email", "URI"}
    )
