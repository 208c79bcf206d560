"""Serve /metrics and health over HTTP; what is served is given, nothing of migrations is known here.

One event loop in a thread of its own: a client that connects and says nothing costs a socket and delays nobody.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from html import escape
from typing import Any, Final

import uvicorn
from prometheus_client import CollectorRegistry, make_asgi_app

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_Application = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

#: Prometheus scrapes with one connection; the rest are people, probes and who means no good.
_MAX_CONNECTIONS: Final = 1_000


_MAX_PORT: Final = 65_535


class AddressError(ValueError):
    """An address to listen on is not HOST:PORT."""


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all interfaces); port 0 takes any that is free.

    Raises:
        AddressError: It is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _MAX_PORT:
        raise AddressError(f"expected HOST:PORT such as 127.0.0.1:9871, got {text!r}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - `:PORT` asks for it


class Server:
    """An HTTP server in a thread of its own.

    Raises:
        OSError: The address cannot be listened on.
    """

    def __init__(self, address: str, registry: CollectorRegistry, is_ready: Callable[[], bool]) -> None:
        host, port = parse_address(address)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family)
        config = uvicorn.Config(
            _application(registry, is_ready),
            access_log=False,
            log_config=None,
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=_MAX_CONNECTIONS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)

    def start(self) -> None:
        """Answer from now on; connections made before wait."""
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it answers, with the port that was taken."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def stop(self) -> None:
        """Close, without waiting for clients that keep their connections."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def _application(registry: CollectorRegistry, is_ready: Callable[[], bool]) -> _Application:
    metrics = make_asgi_app(registry)

    async def application(scope: _Scope, receive: _Receive, send: _Send) -> None:
        match scope["path"]:
            case "/metrics":
                await metrics(scope, receive, send)
            case "/-/healthy":
                await _answer(send, 200, "healthy\n")
            case "/-/ready" if is_ready():
                await _answer(send, 200, "ready\n")
            case "/-/ready":
                await _answer(send, 503, "the recordings are still being read\n")
            case "/":
                await _answer(send, 200, _LANDING_PAGE, "text/html")
            case path:
                await _answer(send, 404, f"nothing at {escape(path)}; try /metrics\n")

    return application


async def _answer(send: _Send, status: int, text: str, content_type: str = "text/plain") -> None:
    headers = [(b"content-type", f"{content_type}; charset=utf-8".encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


_LANDING_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>qemu-migration-exporter</title>
<h1>qemu-migration-exporter</h1>
<p>Live migrations of QEMU, from its own trace events.</p>
<ul><li><a href="/metrics">/metrics</a><li><a href="/-/healthy">/-/healthy</a><li><a href="/-/ready">/-/ready</a></ul>
"""
