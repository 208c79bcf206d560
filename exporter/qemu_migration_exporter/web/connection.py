"""One HTTP/1.1 connection on h11, with a deadline for each stage.

    accept --TLS handshake--> REQUEST --head read--> ANSWER --written--> IDLE --first byte--> REQUEST ...

h11 parses and writes HTTP and keeps its states; this module moves bytes between h11 and the transport, and enforces
deadlines. A connection is closed when its stage takes too long, even if the client sends a byte now and then. Complete
servers were tried (uvicorn, hypercorn), but neither has a public interface to limit the time of an answer that the
client does not read, or to drop a connection during the handshake.

Bodies of requests are read and discarded, because no path uses a body. While a request is answered, nothing is read
from its connection, so that pipelined requests wait in the kernel and not in memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import h11

_log = logging.getLogger(__name__)


class Stage(Enum):
    """The stages of a connection, with the seconds that each may take."""

    #: A whole request, including the TLS handshake.
    REQUEST = 10.0
    #: The answer; Prometheus waits 10 s for it by default.
    ANSWER = 60.0
    #: The next request, and that the client reads the answer: longer than the longest scrape interval in use, so that
    #: Prometheus keeps its connection.
    IDLE = 75.0


class Request(NamedTuple):
    """The head of a request; header names are in lower case, and repeated headers are joined by commas."""

    method: str
    path: str
    query: str
    headers: Mapping[bytes, bytes]
    client: str


class Answer(NamedTuple):
    """A response with its body."""

    status: int
    body: bytes
    headers: Mapping[str, str]


Responder = Callable[[Request], Awaitable[Answer]]


class Connection(asyncio.Protocol):
    """A connection from its acceptance on.

    Args:
        respond: Answers one request.
        allowed_sans: The client's certificate must have one of these names; None allows all names.
        on_lost: Called once, when the connection is gone.
        limits: Seconds for each stage, if not its own.

    Attributes:
        stage: The present stage.
        stage_started: Start of the present stage, on the loop's clock.
        opening: The task that makes the connection; cancelled to drop a connection during its TLS handshake.
        answering: The task that answers the present request.
    """

    def __init__(
        self,
        respond: Responder,
        *,
        allowed_sans: frozenset[str] | None,
        on_lost: Callable[[Connection], None],
        limits: dict[Stage, float],
    ) -> None:
        self._respond = respond
        self._allowed_sans = allowed_sans
        self._on_lost = on_lost
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._http = h11.Connection(h11.SERVER)
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_lost = False
        self.opening: asyncio.Future[Any] | None = None
        self.answering: asyncio.Task[None] | None = None
        self._enter(Stage.REQUEST)

    @property
    def is_busy(self) -> bool:
        """True while a request is answered."""
        return self.stage is Stage.ANSWER

    def abort(self) -> None:
        """Close at once, and discard unsent bytes."""
        if self._transport is not None:
            self._transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def close_gracefully(self) -> None:
        """Close after sending the answer that was written."""
        if self._transport is not None:
            self._transport.close()
        else:
            self.abort()

    def lost(self) -> None:
        """Forget a connection that is gone, or was never made."""
        if self._is_lost:
            return
        self._is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        if self.answering is not None:
            self.answering.cancel()
        self._on_lost(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to read, if the client's certificate has an allowed name."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - it is of a socket
        self._transport = transport
        if self._allowed_sans is not None:
            certificate = transport.get_extra_info("peercert") or {}
            if not self._allowed_sans & names_of(certificate):
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        del exc
        self.lost()

    def data_received(self, data: bytes) -> None:
        """Pass bytes to h11, and handle the events they complete."""
        # Bytes that came with the end of the handshake arrive even after an abort.
        if self._transport is None or self._transport.is_closing():
            return
        if self.stage is Stage.IDLE:
            self._enter(Stage.REQUEST)
        self._http.receive_data(data)
        self._advance()

    def eof_received(self) -> bool:
        """Keep the connection open to answer a client that has closed its sending side."""
        if self._transport is not None and not self._transport.is_closing():
            self._http.receive_data(b"")
            self._advance()
        is_tls = self._transport is None or self._transport.get_extra_info("sslcontext") is not None
        return self.is_busy and not is_tls  # TLS cannot be half open

    def _advance(self) -> None:
        """Handle h11's events until it needs more bytes, or a request is complete."""
        assert self._transport is not None  # noqa: S101 - only a connection that is made has events
        while not self.is_busy:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:  # the client learns it from the answer
                self._refuse(error.error_status_hint)
                return
            if isinstance(event, h11.Request):
                self._enter(Stage.ANSWER)
                self._transport.pause_reading()
                self.answering = self._loop.create_task(self._answer(event))
            elif isinstance(event, h11.ConnectionClosed):
                self._transport.close()
                return
            elif event is h11.NEED_DATA:
                return
            elif self._http.our_state is h11.DONE and self._http.their_state is not h11.SEND_BODY:
                self._begin_next()
                if self._transport.is_closing():
                    return

    async def _answer(self, head: h11.Request) -> None:
        try:
            answer = await self._respond(_request(head, self._client()))
        except asyncio.CancelledError:  # the client is gone, or the server stops
            return
        transport = self._transport
        if self._is_lost or transport is None:
            return
        self._write(answer, with_body=head.method != b"HEAD")
        self.answering = None
        if transport.is_closing():
            return
        transport.resume_reading()
        if self._http.our_state is h11.MUST_CLOSE:
            self._enter(Stage.IDLE)
            transport.close()
        else:
            self._enter(Stage.REQUEST)  # for the rest of a body
            self._advance()

    def _begin_next(self) -> None:
        assert self._transport is not None  # noqa: S101 - as above
        try:
            self._http.start_next_cycle()
        except h11.LocalProtocolError:  # one side wants to close
            self._transport.close()
            return
        self._enter(Stage.REQUEST if self._http.trailing_data[0] else Stage.IDLE)

    def _refuse(self, status: int) -> None:
        """Answer bytes that are not a request, unless another answer is under way."""
        assert self._transport is not None  # noqa: S101 - as above
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = b"invalid HTTP request\n"
            headers = {"Content-Type": "text/plain; charset=utf-8", "Connection": "close"}
            self._write(Answer(status, body, {**headers, "Content-Length": str(len(body))}), with_body=True)
        self._transport.close()

    def _write(self, answer: Answer, *, with_body: bool) -> None:
        assert self._transport is not None  # noqa: S101 - as above
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
        parts = [
            self._http.send(h11.Response(status_code=answer.status, headers=headers, reason=_reason(answer.status)))
        ]
        if with_body:
            parts.append(self._http.send(h11.Data(data=answer.body)))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))

    def _client(self) -> str:
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return str(peer[0]) if peer else ""

    def _enter(self, stage: Stage) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.stage = stage
        self.stage_started = self._loop.time()
        if not self._is_lost:
            self._timer = self._loop.call_later(self._limits.get(stage, stage.value), self.abort)


def names_of(certificate: Mapping[str, Any]) -> frozenset[str]:
    """Return the subject's alternative names of a certificate, as `ssl` gives it."""
    return frozenset(
        str(ipaddress.ip_address(name.strip())) if kind == "IP Address" else name
        for kind, name in certificate.get("subjectAltName", ())
        if kind in {"DNS", "IP Address", "email", "URI"}
    )


def _reason(status: int) -> bytes:
    return HTTPStatus(status).phrase.encode("ascii")


def _request(head: h11.Request, client: str) -> Request:
    headers: dict[bytes, bytes] = {}
    for name, value in head.headers:
        headers[name] = headers[name] + b"," + value if name in headers else value
    path, _, query = head.target.partition(b"?")
    if not path.startswith(b"/") and b"://" in path:  # the absolute form, which proxies send (RFC 9112 3.2.2)
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return Request(
        method=head.method.decode("ascii"),
        path=unquote_to_bytes(path).decode(errors="replace"),
        query=query.decode("latin-1"),
        headers=headers,
        client=client,
    )
