"""What is answered at which path, to whom. What is said is given; nothing of migrations is known here."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.present.html import page
from qemu_migration_exporter.present.view import Page
from qemu_migration_exporter.web.basic_auth import BasicAuth, Decision
from qemu_migration_exporter.web.exposition import Exposition
from qemu_migration_exporter.web.web_config import Settings

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_READ: Final = ("GET", "HEAD")
_ACT: Final = ("POST", "PUT")

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What there is to serve. The callables are called in threads of the server's; None is not served.

    Attributes:
        is_ready: Asked on the event loop: it must not wait.
        telemetry_path: Where the metrics are.
        page: Makes the landing page's data; without it the page only has links.
        migrations: Makes the report's documents, running migrations and recent ones.
        reload: Reloads the configuration, and returns what is wrong with it, None if nothing is.
    """

    registry: CollectorRegistry
    is_ready: Callable[[], bool]
    telemetry_path: str = "/metrics"
    page: Callable[[], Page] | None = None
    migrations: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    reload: Callable[[], str | None] | None = None


class Answer(NamedTuple):
    """An answer to a request."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class _Request(NamedTuple):
    query: str
    headers: Mapping[bytes, bytes]


class _Route(NamedTuple):
    methods: tuple[str, ...]
    answer: Callable[[_Request], Awaitable[Answer]]


class Application:
    """The ASGI application of the server."""

    def __init__(self, offer: Endpoints, settings: Settings, failures: ErrorCounter) -> None:
        self._failures = failures
        self._offer = offer
        self._settings = settings
        self._doorkeeper = BasicAuth()
        self._bucket = _Bucket()
        # Beside the event loop: 43,000 series take 0.3 s to write.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="web-answer")
        self._one_at_a_time = asyncio.Lock()
        self._waiting: dict[Hashable, asyncio.Task[Answer]] = {}
        self._exposition = Exposition(offer.registry)
        self._routes: dict[str, _Route] = {
            "/": _Route(_READ, self._page),
            "/-/healthy": _Route(_READ, self._healthy),
            "/-/ready": _Route(_READ, self._ready),
            "/-/reload": _Route(_ACT, self._reload),
        }
        if offer.migrations is not None:
            self._routes["/api/v1/migrations"] = _Route(_READ, self._migrations)
        # Last: who wants the metrics at / has no landing page.
        self._routes[offer.telemetry_path] = _Route(_READ, self._telemetry)

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._doorkeeper.close()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request; its body, if it has one, is not read."""
        del receive
        answer = _text(500, "a mistake of the exporter's; its log says which")
        try:
            with self._failures.attempt(Component.WEB, "a request was not answered: %r", scope["path"]):
                answer = await self._answer(scope)
        except asyncio.CancelledError:
            return  # the server stops; uvicorn would log this as an error of the application
        headers = {
            "Content-Length": str(len(answer.body)),
            "Date": formatdate(usegmt=True),
            "X-Content-Type-Options": "nosniff",
            **answer.headers,
            **self._settings.config.http_server_config.headers,
        }
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": answer.body})

    async def _answer(self, scope: _Scope) -> Answer:
        self._settings.refresh()
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b"," + value if name in headers else value
        refusal = await self._refusal(headers, (scope["client"] or ("", 0))[0])
        if refusal is not None:
            return refusal
        route = self._routes.get(scope["path"])
        if route is None:
            return _text(404, f"nothing here; try {self._offer.telemetry_path}")
        if scope["method"] not in route.methods:
            return _text(405, f"expected {' or '.join(route.methods)}", Allow=", ".join(route.methods))
        return await route.answer(_Request(scope["query_string"].decode("latin-1"), headers))

    async def _refusal(self, headers: Mapping[bytes, bytes], client: str) -> Answer | None:
        config = self._settings.config
        if not self._bucket.take(config.rate_limit.interval, config.rate_limit.burst):
            return _text(429, "too many requests", Retry_After="1")
        if not config.basic_auth_users:
            return None
        match await self._doorkeeper.check(headers.get(b"authorization"), config.basic_auth_users, client):
            case Decision.WELCOME:
                return None
            case Decision.LATER:
                return _text(429, "too many logins are being checked", Retry_After="1")
            case Decision.DENIED:
                challenge = 'Basic realm="qemu-migration-exporter", charset="UTF-8"'
                return _text(401, "expected a user name and a password", WWW_Authenticate=challenge)

    async def _in_thread(self, what: Hashable, make: Callable[[], Answer]) -> Answer:
        """Make an answer; it serves all who ask for the same before it is begun, and is as new as any of their own."""
        answer = self._waiting.get(what)
        if answer is None:
            answer = self._waiting[what] = asyncio.create_task(self._made(what, make))
        return await asyncio.shield(answer)  # who goes away leaves it to the others

    async def _made(self, what: Hashable, make: Callable[[], Answer]) -> Answer:
        async with self._one_at_a_time:
            del self._waiting[what]
            return await asyncio.get_running_loop().run_in_executor(self._executor, make)

    async def _telemetry(self, request: _Request) -> Answer:
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        encoding = request.headers.get(b"accept-encoding", b"").decode("latin-1")
        write = self._exposition.write
        return await self._in_thread(
            ("metrics", accept, encoding, request.query),
            lambda: Answer(*write(accept=accept, accept_encoding=encoding, query=request.query)),
        )

    async def _page(self, _: _Request) -> Answer:
        make = self._offer.page
        links = {
            self._offer.telemetry_path: "Metrics",
            **({"/api/v1/migrations": "Migrations as JSON"} if self._offer.migrations is not None else {}),
            "/-/healthy": "Health",
            "/-/ready": "Readiness",
        }
        return await self._in_thread(
            "page", lambda: Answer(200, page.render(make() if make is not None else None, links).encode(), page.HEADERS)
        )

    async def _migrations(self, _: _Request) -> Answer:
        make = self._offer.migrations
        assert make is not None  # noqa: S101 - there is no route without it
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}

        def answer() -> Answer:
            document = {"status": "success", "data": {"migrations": list(make())}}
            return Answer(200, json.dumps(document).encode(), headers)

        return await self._in_thread("migrations", answer)

    async def _healthy(self, _: _Request) -> Answer:
        return _text(200, "healthy")

    async def _ready(self, _: _Request) -> Answer:
        return _text(200, "ready") if self._offer.is_ready() else _text(503, "not ready yet")

    async def _reload(self, request: _Request) -> Answer:
        if self._offer.reload is None:
            return _text(403, "reloading over HTTP is not enabled")
        # A page of somebody else's, open in a browser that reaches this port, may ask too.
        if request.headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
            return _text(403, "expected to be asked from here, not from another site")
        problem = await asyncio.to_thread(self._offer.reload)
        return (
            _text(200, "reloaded") if problem is None else _text(500, f"the configuration was not reloaded: {problem}")
        )


class _Bucket:
    """Tokens for requests; see the configuration's `rate_limit`."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._filled = 0.0

    def take(self, interval: float, burst: int) -> bool:
        """Take a token, if there is one."""
        if not interval:
            return True
        now = time.monotonic()
        tokens = burst if self._tokens is None else min(burst, self._tokens + (now - self._filled) / interval)
        self._filled = now
        self._tokens = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1


def _text(status: int, text: str, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, f"{text}\n".encode(errors="backslashreplace"), {"Content-Type": _TEXT, **named})
