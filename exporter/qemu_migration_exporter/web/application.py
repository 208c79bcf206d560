"""The application: routes, logins, the rate limit, and answers made beside the event loop.

    request --rate limit--> login --route--> answer (in a thread, one at a time) --> response

The contents of answers come from the callables of `Endpoints`, so this module is independent of streams. Requests for
the same path share an answer that is still queued, which bounds the work that clients can cause.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client import CollectorRegistry

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.web.basic_auth import BasicAuth, Decision
from qemu_migration_exporter.web.connection import Answer, Request
from qemu_migration_exporter.web.exposition import Exposition
from qemu_migration_exporter.web.settings import Settings

if TYPE_CHECKING:
    from qemu_migration_exporter.present.view import MigrationView, Page

_READ: Final = ("GET", "HEAD")
_ACT: Final = ("POST", "PUT")

_MIGRATION_PATH: Final = "/migrations/"

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Contents to serve. The server calls the callables in its own threads; a path without one is not served.

    Attributes:
        refresh: Brings the numbers up to date before an answer is made, in the thread that makes it.
        is_ready: Called on the event loop, so it must not wait.
        has_metrics: Returns False while counters are behind those of a previous run; called on the event loop, too.
        telemetry_path: The path of the metrics.
        page: Returns the landing page's data; without it the page only has links.
        migrations: Returns the report's documents of running and recent migrations.
        notice: Returns the reason why migrations may be missing there; empty if there is none.
        migration: Returns the view of a migration by its trace id, None if there is none.
        trace_url: Template of a trace's address with `{trace_id}`.
        reload: Reloads the configuration and returns its mistakes, None without any.
    """

    registry: CollectorRegistry
    is_ready: Callable[[], bool]
    refresh: Callable[[], None] = lambda: None
    has_metrics: Callable[[], bool] = lambda: True
    telemetry_path: str = "/metrics"
    page: Callable[[], Page] | None = None
    migrations: Callable[[], Sequence[Mapping[str, Any]]] | None = None
    notice: Callable[[], str] = str
    migration: Callable[[str], MigrationView | None] | None = None
    trace_url: str | None = None
    reload: Callable[[], str | None] | None = None


class _Route(NamedTuple):
    methods: tuple[str, ...]
    answer: Callable[[Request], Awaitable[Answer]]


class Application:
    """The routes over a set of endpoints."""

    def __init__(self, endpoints: Endpoints, settings: Settings, failures: ErrorCounter) -> None:
        self._failures = failures
        self._endpoints = endpoints
        self._settings = settings
        self._logins = BasicAuth()
        self._bucket = _Bucket()
        # A thread beside the event loop: 43,000 series take 0.3 s to write.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="web-answer")
        self._making = asyncio.Lock()
        self._waiting: dict[Hashable, asyncio.Task[Answer]] = {}
        self._exposition = Exposition(endpoints.registry)
        self._routes: dict[str, _Route] = {
            "/": _Route(_READ, self._page),
            "/-/healthy": _Route(_READ, self._healthy),
            "/-/ready": _Route(_READ, self._ready),
            "/-/reload": _Route(_ACT, self._reload),
        }
        if endpoints.migrations is not None:
            self._routes["/api/v1/migrations"] = _Route(_READ, self._migrations)
        # Last: metrics at / replace the landing page.
        self._routes[endpoints.telemetry_path] = _Route(_READ, self._telemetry)

    def close(self) -> None:
        """Stop the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._logins.close()

    async def respond(self, request: Request) -> Answer:
        """Answer a request; a failure is logged, counted and answered by 500."""
        answer = _text(500, "internal server error; see the exporter's log")
        with self._failures.guard(Component.WEB, "request failed: %r", request.path):
            answer = await self._answer(request)
        headers = {
            "Content-Length": str(len(answer.body)),
            "Date": formatdate(usegmt=True),
            "X-Content-Type-Options": "nosniff",
            **answer.headers,
            **self._settings.access.headers,
        }
        return answer._replace(headers=headers)

    async def _answer(self, request: Request) -> Answer:
        self._settings.refresh()
        refusal = await self._refusal(request)
        if refusal is not None:
            return refusal
        path = request.path
        route = self._routes.get(path)
        if route is None and path.startswith(_MIGRATION_PATH) and self._endpoints.migration is not None:
            route = _Route(_READ, self._migration)
        if route is None:
            return _text(404, f"not found; the metrics are at {self._endpoints.telemetry_path}")
        if request.method not in route.methods:
            return _text(405, f"expected {' or '.join(route.methods)}", Allow=", ".join(route.methods))
        return await route.answer(request)

    async def _refusal(self, request: Request) -> Answer | None:
        access = self._settings.access
        if not self._bucket.take(access.interval_seconds, access.burst):
            return _text(429, "too many requests", Retry_After="1")
        if not access.users:
            return None
        match await self._logins.check(request.headers.get(b"authorization"), access.users, request.client):
            case Decision.ALLOWED:
                return None
            case Decision.BUSY:
                return _text(429, "too many logins are being checked", Retry_After="1")
            case Decision.DENIED:
                challenge = 'Basic realm="qemu-migration-exporter", charset="UTF-8"'
                return _text(401, "expected a user name and a password", WWW_Authenticate=challenge)

    async def _in_thread(self, key: Hashable, make: Callable[[], Answer]) -> Answer:
        """Make an answer in the thread; all requests that arrive before the thread begins share the answer."""
        answer = self._waiting.get(key)
        if answer is None:
            answer = self._waiting[key] = asyncio.create_task(self._made(key, make))
        return await asyncio.shield(answer)  # other clients wait for it even if this client disconnects

    async def _made(self, key: Hashable, make: Callable[[], Answer]) -> Answer:
        async with self._making:
            del self._waiting[key]
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._fresh, make)

    def _fresh(self, make: Callable[[], Answer]) -> Answer:
        self._endpoints.refresh()
        return make()

    async def _telemetry(self, request: Request) -> Answer:
        if not self._endpoints.has_metrics():
            return _text(503, "not ready yet: counters continue those of the previous run once its data is read again")
        accept = request.headers.get(b"accept", b"").decode("latin-1")
        encoding = request.headers.get(b"accept-encoding", b"").decode("latin-1")
        write = self._exposition.write
        return await self._in_thread(
            ("metrics", accept, encoding, request.query),
            lambda: Answer(*write(accept=accept, accept_encoding=encoding, query=request.query)),
        )

    async def _page(self, _: Request) -> Answer:
        make = self._endpoints.page
        links = {
            self._endpoints.telemetry_path: "Metrics",
            **({"/api/v1/migrations": "Migrations as JSON"} if self._endpoints.migrations is not None else {}),
            "/-/healthy": "Health",
            "/-/ready": "Readiness",
        }

        def answer() -> Answer:
            from qemu_migration_exporter.present.html.environment import HEADERS  # noqa: PLC0415 - at its first use
            from qemu_migration_exporter.present.html.landing import landing_page  # noqa: PLC0415

            return Answer(200, landing_page(make() if make is not None else None, links).encode(), HEADERS)

        return await self._in_thread("page", answer)

    async def _migration(self, request: Request) -> Answer:
        trace_id = request.path.removeprefix(_MIGRATION_PATH)
        find = self._endpoints.migration
        assert find is not None  # noqa: S101 - there is no route without it

        def answer() -> Answer:
            from qemu_migration_exporter.present.html.environment import HEADERS  # noqa: PLC0415 - at its first use
            from qemu_migration_exporter.present.html.report import migration_page  # noqa: PLC0415

            view = find(trace_id)
            if view is None:
                return _text(404, "no running or recent migration has this trace id; its trace may still be stored")
            html = migration_page(view, datetime.now(UTC), template=self._endpoints.trace_url)
            return Answer(200, html.encode(), HEADERS)

        return await self._in_thread(("migration", trace_id), answer)

    async def _migrations(self, _: Request) -> Answer:
        make = self._endpoints.migrations
        assert make is not None  # noqa: S101 - there is no route without it
        headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}

        def answer() -> Answer:
            notice = self._endpoints.notice()
            document = {
                "status": "success",
                "data": {"migrations": list(make())},
                **({"warnings": [notice]} if notice else {}),
            }
            return Answer(200, json.dumps(document).encode(), headers)

        return await self._in_thread("migrations", answer)

    async def _healthy(self, _: Request) -> Answer:
        return _text(200, "healthy")

    async def _ready(self, _: Request) -> Answer:
        return _text(200, "ready") if self._endpoints.is_ready() else _text(503, "not ready yet")

    async def _reload(self, request: Request) -> Answer:
        if self._endpoints.reload is None:
            return _text(403, "reloading over HTTP is not enabled")
        if _is_cross_site(request.headers):
            return _text(403, "expected a request from this site, not from another one")
        problem = await asyncio.to_thread(self._endpoints.reload)
        if problem is not None:
            return _text(500, f"config reload failed, keeping the previous one: {problem}")
        return _text(200, "reloaded")


def _is_cross_site(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a page of another site caused the request, in a browser that reaches this port.

    Browsers send Sec-Fetch-Site over HTTPS and to localhost, and Origin with every POST. Other clients send neither.
    """
    if headers.get(b"sec-fetch-site", b"none") not in {b"none", b"same-origin"}:
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    return origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower()


class _Bucket:
    """Token bucket of the configuration's `rate_limit`."""

    def __init__(self) -> None:
        self._tokens: float | None = None
        self._filled = 0.0

    def take(self, interval: float, burst: int) -> bool:
        """Remove a token and return True; False if there is none."""
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
