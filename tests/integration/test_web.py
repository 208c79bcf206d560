"""Paths of the HTTP server, requested by real clients."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import html5lib
import pytest
from qemu_migration_exporter.config.addresses import trace_url
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.web import AddressError, Server, check_template, parse_address, parse_path
from qemu_migration_exporter.web.application import Application
from qemu_migration_exporter.web.connection import Request
from qemu_migration_exporter.web.settings import Settings

from tests.support.web_helpers import get, migration, offer, serving, view


@pytest.fixture(name="ready")
def _ready() -> list[bool]:
    """Readiness of the server's owner; the last value counts."""
    return [False]


@pytest.fixture(name="url")
def _url(ready: list[bool]) -> Iterator[str]:
    with serving(is_ready=lambda: ready[-1], migrations=lambda: [{"vm": "a\udc80<b>"}]) as server:
        yield server.url


def test_metrics_are_text_by_default(url: str) -> None:
    """A browser and an old Prometheus get the text format."""
    answer = get(f"{url}/metrics")

    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert 'qemu_migrations_started_total{side="source"} 0.0' in answer.text


def test_openmetrics_on_request(url: str) -> None:
    """Prometheus accepts it; exemplars need it."""
    answer = get(f"{url}/metrics", Accept="application/openmetrics-text; version=1.0.0")

    assert answer.headers["content-type"].split(";")[0] == "application/openmetrics-text"
    assert answer.body.endswith(b"# EOF\n")


def test_metrics_compressed_and_filtered(url: str) -> None:
    """As Prometheus's own client libraries do."""
    answer = get(f"{url}/metrics?name[]=qemu_migrations_started_total", Accept_Encoding="gzip")

    text = gzip.decompress(answer.body)
    assert b"qemu_migrations_started_total" in text
    assert b"qemu_migrations_finished" not in text


def test_ready_follows_owner(url: str, ready: list[bool]) -> None:
    """503 before, 200 after; healthy is true all the time."""
    before = get(f"{url}/-/ready").status
    ready.append(True)

    assert (before, get(f"{url}/-/ready").status, get(f"{url}/-/healthy").status) == (503, 200, 200)


def test_migrations_use_prometheus_envelope(url: str) -> None:
    """Names that are no UTF-8 survive."""
    answer = get(f"{url}/api/v1/migrations")

    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert json.loads(answer.body) == {"status": "success", "data": {"migrations": [{"vm": "a\udc80<b>"}]}}


def test_migrations_carry_warning() -> None:
    with serving(migrations=list, notice=lambda: "not traced") as server:
        answer = json.loads(get(f"{server.url}/api/v1/migrations").body)

    assert answer == {"status": "success", "data": {"migrations": []}, "warnings": ["not traced"]}


@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/api/v1/migrations"])
def test_head_is_answered_without_body(url: str, path: str) -> None:
    """With the headers of the whole answer, its length included."""
    answer = get(f"{url}{path}", method="HEAD")

    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) > 5
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "date" in answer.headers
    assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("POST", "/metrics", 405, "GET, HEAD"),
        ("DELETE", "/", 405, "GET, HEAD"),
        ("OPTIONS", "/-/healthy", 405, "GET, HEAD"),
        ("GET", "/-/reload", 405, "POST, PUT"),
        ("POST", "/-/reload", 403, None),
        ("GET", "/metrics/", 404, None),
        ("GET", "/%3Cscript%3E", 404, None),
        ("POST", "/nothing", 404, None),
    ],
)
def test_unknown_paths_are_not_found(url: str, method: str, path: str, status: int, allow: str | None) -> None:
    """Not the metrics, as with many exporters; nothing of the request is repeated."""
    answer = get(f"{url}{path}", method=method)

    assert (answer.status, answer.headers.get("allow")) == (status, allow)
    assert b"script" not in answer.body


def test_missing_endpoint_is_not_found() -> None:
    """Without migrations there is no list of them."""
    with serving() as server:
        assert get(f"{server.url}/api/v1/migrations").status == 404


def test_metrics_path_can_change() -> None:
    """With `/` there is no landing page."""
    with serving(telemetry_path="/other") as server:
        assert [get(f"{server.url}{path}").status for path in ("/other", "/metrics", "/")] == [200, 404, 200]
        assert b'href="other"' in get(server.url).body
    with serving(telemetry_path="/") as server:
        assert b"qemu_migrations_started_total" in get(server.url).body


def test_reload_answers_with_mistakes() -> None:
    problems: list[str | None] = [None, "c.yml:3: colour: unknown key"]
    with serving(reload=lambda: problems.pop(0)) as server:
        url = f"{server.url}/-/reload"
        assert get(url, method="POST").status == 200
        answer = get(url, method="PUT")
    assert (answer.status, answer.text) == (
        500,
        "config reload failed, keeping the previous one: c.yml:3: colour: unknown key\n",
    )


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec_Fetch_Site": "same-origin"}, 200),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Origin": "http://{host}"}, 200),
        ({"Origin": "HTTP://{host}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
    ],
)
def test_reload_refuses_other_sites(headers: dict[str, str], status: int) -> None:
    """Browsers omit Sec-Fetch-Site for plain HTTP, and send Origin with every POST."""
    with serving(reload=lambda: None) as server:
        host = server.url.removeprefix("http://")
        given: dict[str, Any] = {name: value.format(host=host) for name, value in headers.items()}
        assert get(f"{server.url}/-/reload", method="POST", **given).status == status


def test_page_is_at_trace_id() -> None:
    """Unknown ids and paths below it are not found."""
    of = view(migration("qemu-7.2-log-nonconverging"))
    with serving(migration=lambda trace_id: of if trace_id == of.trace_id else None) as server:
        answer = get(f"{server.url}/migrations/{of.trace_id}")
        html5lib.HTMLParser(strict=True).parse(answer.text)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert "web-42 completed in 12.3 s" in answer.text
        for path in ("0" * 32, "", f"{of.trace_id}/more", "%2e%2e"):
            assert get(f"{server.url}/migrations/{path}").status == 404
    with serving() as server:
        assert get(f"{server.url}/migrations/{of.trace_id}").status == 404


def test_failure_is_one_bad_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the next request is answered."""

    def fail() -> list[dict[str, str]]:
        raise RuntimeError("of ours")

    with serving(migrations=fail) as server:
        assert get(f"{server.url}/api/v1/migrations").status == 500
        assert get(f"{server.url}/metrics").status == 200
    assert "of ours" in caplog.text


def test_stop_finishes_open_answers() -> None:
    """A last scrape counts."""
    asked, stopping = threading.Event(), threading.Event()

    def wait() -> list[dict[str, str]]:
        asked.set()
        stopping.wait(5)
        return [{"vm": "x" * 1_000_000}]

    server = Server("127.0.0.1:0", offer(migrations=wait))
    server.start()
    answers: list[int] = []
    client = threading.Thread(target=lambda: answers.append(len(get(f"{server.url}/api/v1/migrations").body)))
    client.start()
    asked.wait(5)
    threading.Timer(0.1, stopping.set).start()
    server.stop()
    client.join()

    assert answers == [1_000_000 + len('{"status": "success", "data": {"migrations": [{"vm": ""}]}}')]


def test_concurrent_requests_share_answer() -> None:
    """Twenty at once cost one; an answer begun before a request is too old for it."""
    begun, finish = threading.Event(), threading.Event()
    made: list[int] = []

    def migrations() -> list[dict[str, int]]:
        made.append(len(made) + 1)
        if len(made) == 1:
            begun.set()
            finish.wait(10)
        return [{"vm": len(made)}]

    application = Application(offer(migrations=migrations), Settings(None), ErrorCounter())

    async def ask(*, gives_up: bool = False) -> int:
        task = asyncio.create_task(application.respond(Request("GET", "/api/v1/migrations", "", {}, "")))
        if gives_up:
            await asyncio.sleep(0)
            task.cancel()
        try:
            answer = await task
        except asyncio.CancelledError:
            return 0
        return int(json.loads(answer.body)["data"]["migrations"][0]["vm"])

    async def everybody() -> list[int]:
        first = asyncio.create_task(ask())
        await asyncio.to_thread(begun.wait, 10)
        others = [asyncio.create_task(ask(gives_up=number == 0)) for number in range(20)]
        for _ in range(3):
            await asyncio.sleep(0)
        finish.set()
        return [await first, *await asyncio.gather(*others)]

    try:
        assert [1, 0] + [2] * 19 == asyncio.run(everybody())
    finally:
        application.close()


def test_unstarted_server_can_be_stopped() -> None:
    """As after a failure between the two."""
    Server("127.0.0.1:0", offer()).stop()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_agrees(url: str) -> None:
    """Another client than Python's, with compression and two requests over one connection."""
    command = ["curl", "-sS", "--compressed", "-w", "%{http_code} %{num_connects}\n", "-o", "/dev/null"]
    out = subprocess.run(
        [*command, f"{url}/metrics", "-o", "/dev/null", url], capture_output=True, text=True, check=True
    )

    assert out.stdout == "200 1\n200 0\n"


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
def test_bad_address_is_explained(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(AddressError, match=r"expected HOST:PORT such as 127\.0\.0\.1:9871, got"):
        parse_address(text)


@pytest.mark.parametrize("text", ["", "metrics", "/-/healthy", "/api/v1/migrations", "/m?x", "/a b", "/\u00e9"])
def test_bad_path_is_explained(text: str) -> None:
    """A path, and none that is taken."""
    assert parse_path("/some/metrics") == "/some/metrics"
    with pytest.raises(AddressError, match="expected a path such as /metrics"):
        parse_path(text)


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://jaeger.example/trace/{trace_id}", "https://jaeger.example/trace/ab"),
        ('http://[::1]:3000/explore?left={"q":"{trace_id}"}', "http://[::1]:3000/explore?left=%7B%22q%22:%22ab%22%7D"),
        ("https://x/%7Btrace%7D/{trace_id}#\u00e9", "https://x/%7Btrace%7D/ab#%C3%A9"),
    ],
)
def test_trace_link_uses_template(template: str, url: str) -> None:
    """JSON in it, as Grafana has it, is encoded; encoded parts stay."""
    assert trace_url(check_template(template), "ab") == url
    assert "<" not in str(trace_url(template, "a/../<\"'> &"))


@pytest.mark.parametrize(
    "template",
    [
        "",
        "https://jaeger.example/",
        "javascript:{trace_id}",
        "/trace/{trace_id}",
        "http://{trace_id}/",
        "http://[x/{trace_id}",
    ],
)
def test_bad_template_is_refused(template: str) -> None:
    """It makes no link."""
    assert trace_url(template, "ab") is None
    with pytest.raises(AddressError, match="expected a URL such as"):
        check_template(template)
