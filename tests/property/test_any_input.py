"""Configuration files and requests of any content: an answer, and never an exception."""

from __future__ import annotations

import select
import socket
import string
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from qemu_migration_exporter.config import yaml_loader
from qemu_migration_exporter.config.errors import ConfigError
from qemu_migration_exporter.config.schema import Config, dump, load
from qemu_migration_exporter.web import Server
from qemu_migration_exporter.web.web_config import WebConfig

from tests.support.paths import ROOT
from tests.support.web_helpers import connect, get, serving

_SHIPPED: Final = (ROOT / "config" / "exporter.yml").read_text(encoding="utf-8")


# Configuration


def _keys(schema: dict[str, Any]) -> Iterator[str]:
    """Return all keys, of sections and of their sections."""
    yield from schema.get("properties", {})
    for section in schema.get("$defs", {}).values():
        yield from section.get("properties", {})


_KEYS: Final = sorted({*_keys(Config.model_json_schema()), *_keys(WebConfig.model_json_schema())})

_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4)
    | st.sampled_from(["15m", "0s", "127.0.0.1:0", "/m", "migrate_pending", "pending", "%u %s", "size _", "probe", "http/protobuf"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip

#: What YAML is made of, and what its loaders trip over.
_TOKENS: Final = [
    "a", "1", "sources", "marks", "web", ": ", ":", "- ", "\n", "\n  ", "{", "}", "[", "]", ", ", "? ", "&a ", "*a", "<<: ", "|\n", ">-\n",
    "'", '"', "\\ud800", "#", "%YAML 1.1\n", "---\n", "...\n", "!!bool ", "!!int ", "!!float ", "!!timestamp ", "!!null ", "!!set ", "!!omap ",
    "!!pairs ", "!!binary ", "!!merge ", "!!value ", "!!python/object/apply:os.system ", "!x ", "=", "~", ".inf", "0x", "0b_", "1:99", "2026-99-99",
    "\0", "\x1b", "\x85", "\u2028", "\ufeff", "\t",
]  # fmt: skip


def _check(path: Path, read: Callable[[str], object], content: bytes) -> object:
    """Read a file; a refusal has lines of its own, each with the file's name."""
    path.write_bytes(content)
    try:
        return read(str(path))
    except ConfigError as error:
        mistakes = str(error).split("\n")
    assert mistakes
    assert [] == [each for each in mistakes if not (each.isprintable() and each.startswith(f"{path}:"))]
    return None


def _web(path: str) -> WebConfig:
    return yaml_loader.read(path, WebConfig)


@pytest.fixture(name="path", scope="module")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any") / "exporter.yml"


@settings(max_examples=300)
@given(value=_values, read=st.sampled_from([load, _web]))
def test_any_value_is_accepted_or_refused(path: Path, value: object, read: Callable[[str], object]) -> None:
    """An accepted file is the same when written as `check` does and read again."""
    config = _check(path, read, yaml.safe_dump(value).encode())
    if isinstance(config, Config):
        assert config == _check(path, load, dump(config).encode())


@settings(max_examples=500)
@given(tokens=st.lists(st.sampled_from(_TOKENS), max_size=12), read=st.sampled_from([load, _web]))
@example(tokens=["&a ", "[", "*a", "]"], read=load)
@example(tokens=["sources", ": ", "&a ", "[", "*a", "]"], read=load)
@example(tokens=["!!bool ", "a"], read=load)
@example(tokens=["!!int ", '"', '"'], read=load)
@example(tokens=["!!timestamp ", "a"], read=load)
@example(tokens=["["] * 5_000, read=load)
@example(tokens=['"', "a", "\\ud800", '"', ": ", "1"], read=load)
@example(tokens=["? ", "[", "a", "]", "\n", ": ", "1"], read=load)
def test_any_yaml_is_accepted_or_refused(path: Path, tokens: list[str], read: Callable[[str], object]) -> None:
    """Broken YAML too."""
    _check(path, read, "".join(tokens).encode())


@settings(max_examples=200)
@given(
    place=st.integers(0, len(_SHIPPED)),
    length=st.integers(0, 30),
    text=st.text(alphabet=[*string.printable, "\0", "\u2028"], max_size=8),
)
def test_mistake_in_shipped_file_is_answered(path: Path, place: int, length: int, text: str) -> None:
    """Any text typed over it at any place."""
    _check(path, load, (_SHIPPED[:place] + text + _SHIPPED[place + length :]).encode())


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_accepted_or_refused(path: Path, data: bytes) -> None:
    _check(path, load, data)


@pytest.mark.timeout(10)
def test_nested_references_are_read_once(path: Path) -> None:
    """Twenty lines that expand to a million million are twenty lines."""
    lines = ["a0: &a0 [x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 4)}]" for n in range(1, 20)]
    _check(path, load, "\n".join(lines).encode())
    with pytest.raises(ConfigError, match=r":20: a19: unknown key"):
        load(str(path))


# Requests


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[Server]:
    with serving(migrations=lambda: [{"vm": "web-42"}], reload=lambda: None) as server:
        yield server


_METHODS: Final = [b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"CONNECT", b"TRACE", b"PRI", b"get", b"G\0T", b""]
_TARGETS: Final = [
    b"/", b"/metrics", b"/-/healthy", b"/-/reload", b"/api/v1/migrations", b"/metrics?name[]=x", b"/metrics?" + b"&name[]=x" * 500, b"*",
    b"http://x/metrics", b"//", b"/%00", b"/%ff%fe", b"/../../etc/passwd", b"/\xff", b"/metrics?\xff", b"/" + b"a" * 70_000, b"",
]  # fmt: skip
_HEADERS: Final = [
    b"Host: x", b"Host: \xff", b"Host:", b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: -1", b"Content-Length: 99999999999999999999",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity, chunked", b"Expect: 100-continue", b"Connection: close", b"Connection: upgrade",
    b"Upgrade: websocket", b"Upgrade: h2c", b"Accept: application/openmetrics-text; version=1.0.0", b"Accept: " + b"a/b;q=x," * 500, b"Accept: \xff",
    b"Accept-Encoding: gzip", b"Accept-Encoding: \xff;q=\xfe", b"Authorization: Basic \xff", b"Sec-Fetch-Site: cross-site", b" folded", b"no colon",
    b"X: " + b"y" * 70_000, b": empty", b"A\0: b", b"X-Forwarded-For: 1.2.3.4",
]  # fmt: skip
_ENDS: Final = [b"\r\n\r\n", b"\n\n", b"\r\n", b"\r\r", b"", b"\0"]
_BODIES: Final = [
    b"",
    b"hello",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"GET /metrics HTTP/1.1\r\nHost: y\r\n\r\n",
    b"\xff" * 100,
]

_requests = st.builds(
    lambda method, target, version, headers, end, body: b"%s %s HTTP/%s\r\n%s%s%s" % (method, target, version, b"\r\n".join(headers), end, body),
    st.sampled_from(_METHODS), st.sampled_from(_TARGETS), st.sampled_from([b"1.1", b"1.0", b"0.9", b"2.0", b"", b"9" * 50]),
    st.lists(st.sampled_from(_HEADERS), max_size=5), st.sampled_from(_ENDS), st.sampled_from(_BODIES),
)  # fmt: skip


def _answer(connection: socket.socket) -> bytes:
    """Read until the server closes."""
    received = b""
    while True:
        if not select.select([connection], [], [], 20)[0]:
            raise AssertionError("neither an answer nor an end")
        try:
            chunk = connection.recv(1 << 20)
        except ConnectionError:
            return received
        if not chunk:
            return received
        received += chunk


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=_requests | st.binary(max_size=300) | st.lists(_requests, min_size=2, max_size=3).map(b"".join))
def test_any_request_is_answered_or_closed(server: Server, caplog: pytest.LogCaptureFixture, said: bytes) -> None:
    """The answer is HTTP, without an exception and without a line in the log."""
    with connect(server.url) as connection:
        with suppress(OSError):  # it was closed already
            connection.sendall(said)
            connection.shutdown(socket.SHUT_WR)
        received = _answer(connection)

    assert received == b"" or received.startswith(b"HTTP/1.1 "), received[:100]
    assert b"HTTP/1.1 500" not in received
    assert caplog.text == ""


def test_server_survives_all_requests(server: Server) -> None:
    assert get(f"{server.url}/-/healthy").text == "healthy\n"
