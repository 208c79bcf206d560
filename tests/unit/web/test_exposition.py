"""Metrics in the requested format: equal to the output of the library, only sooner."""

from __future__ import annotations

import gzip

import pytest
from prometheus_client import CollectorRegistry, make_wsgi_app
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.web.exposition import Exposition

from tests.support.core_helpers import made


@pytest.fixture(name="registry", scope="module")
def _registry() -> CollectorRegistry:
    """Registry with a migration whose name needs every escape, and exemplars."""
    stream = Stream("vm.log", vm='a\\b"c\nd é')
    sink = MetricsSink()
    sink.apply(stream.feed(made("9.2-auto-converge")) + stream.close())
    registry = CollectorRegistry()
    registry.register(sink)
    return registry


def answered(registry: CollectorRegistry, accept: str, query: str) -> tuple[int, bytes, dict[str, str]]:
    """Return the answer of the library."""
    answers: list[tuple[int, dict[str, str]]] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": query, "HTTP_ACCEPT": accept}
    body = make_wsgi_app(registry)(
        environ, lambda status, headers: answers.append((int(status.split()[0]), dict(headers)))
    )
    return (answers[0][0], b"".join(body), answers[0][1])


@pytest.mark.parametrize("query", ["", "name[]=qemu_migration_pending_bytes"])
@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        # Prometheus 2.42, 2.55 and 3
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
            "text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.3"
        ),
        "application/openmetrics-text; version=1.0.0; escaping=underscores",
        "application/openmetrics-text; version=1.0.0; escaping=dots",
        "application/openmetrics-text; version=1.0.0; escaping=values",
        "application/openmetrics-text; version=2.0.0",
        "application/openmetrics-text",
        "application/openmetrics-text; version=0.0.1",
        "application/openmetrics-textual; version=1.0.0",
        "text/plain; version=1.0.0",
        "text/html, application/openmetrics-text ;version = 1.0.0",
        ",;,=",
    ],
)
def test_exposition_equals_library(registry: CollectorRegistry, accept: str, query: str) -> None:
    """To the byte, for every Accept header."""
    exposed = Exposition(registry).write(accept=accept, accept_encoding="", query=query)

    assert answered(registry, accept, query) == (exposed.status, exposed.body, exposed.headers)


@pytest.mark.parametrize(
    ("accept_encoding", "is_compressed"), [("gzip", True), ("br, GZIP;q=0.5", True), ("", False), ("br", False)]
)
def test_exposition_is_compressed_on_request(
    registry: CollectorRegistry, accept_encoding: str, *, is_compressed: bool
) -> None:
    """The header names the encoding."""
    plain = Exposition(registry).write(accept="", accept_encoding="", query="")
    exposed = Exposition(registry).write(accept="", accept_encoding=accept_encoding, query="")

    assert exposed.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
    assert plain.body == (gzip.decompress(exposed.body) if is_compressed else exposed.body)
