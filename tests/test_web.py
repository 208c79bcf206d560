"""The HTTP server, asked by real clients."""

from __future__ import annotations

import gzip
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry

from exporter.sinks.metrics import MetricsSink
from exporter.web import AddressError, Server, parse_address


@pytest.fixture(name="ready")
def _ready() -> list[bool]:
    """Whether the server's owner is ready; the last one counts."""
    return [False]


@pytest.fixture(name="url")
def _url(ready: list[bool]) -> Iterator[str]:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(MetricsSink())
    server = Server("127.0.0.1:0", registry, lambda: ready[-1])
    server.start()
    yield server.url
    server.stop()


def _get(url: str, **headers: str) -> tuple[int, str, bytes]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()


def test_metrics_are_served_as_text_by_default(url: str) -> None:
    """A browser and an old Prometheus get the text format."""
    status, content_type, body = _get(f"{url}/metrics")

    assert (status, content_type.split(";")[0]) == (200, "text/plain")
    assert b'qemu_migrations_started_total{side="source"} 0.0' in body


def test_metrics_are_served_as_openmetrics_on_request(url: str) -> None:
    """Prometheus asks for it; exemplars need it."""
    status, content_type, body = _get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert (status, content_type.split(";")[0]) == (200, "application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_metrics_are_compressed_and_filtered_on_request(url: str) -> None:
    """As Prometheus's own client libraries do."""
    _, _, body = _get(f"{url}/metrics?name[]=qemu_migrations_started_total", Accept_Encoding="gzip")

    assert b"qemu_migrations_finished" not in gzip.decompress(body)


def test_ready_says_when_the_recordings_are_read(url: str, ready: list[bool]) -> None:
    """503 before, 200 after; healthy is true all the time."""
    before = _get(f"{url}/-/ready")[0]
    ready.append(True)

    assert (before, _get(f"{url}/-/ready")[0], _get(f"{url}/-/healthy")[0]) == (503, 200, 200)


def test_the_landing_page_links_to_the_metrics_and_other_paths_lead_nowhere(url: str) -> None:
    """An unknown path is a 404 and not, as with many exporters, the metrics."""
    assert b'href="/metrics"' in _get(url)[2]
    assert _get(f"{url}/<script>")[::2] == (404, b"nothing at /&lt;script&gt;; try /metrics\n")


def test_connections_that_say_nothing_do_not_delay_a_scrape(url: str) -> None:
    """Many times more of them than the server has threads."""
    port = int(url.rpartition(":")[2])
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    try:
        status, _, _ = _get(f"{url}/metrics")
    finally:
        for connection in silent:
            connection.close()

    assert status == 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9871", ("127.0.0.1", 9871)),
        ("[::1]:0", ("::1", 0)),
        (":9871", ("0.0.0.0", 9871)),  # noqa: S104 - as asked for
        ("localhost:80", ("localhost", 80)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    """Written as for any other exporter."""
    assert parse_address(text) == expected


@pytest.mark.parametrize("text", ["", "9871", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"])
def test_bad_addresses_say_what_was_expected(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(AddressError, match=r"expected HOST:PORT such as 127\.0\.0\.1:9871, got"):
        parse_address(text)
