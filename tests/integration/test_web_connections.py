"""Clients that are silent, slow or send nonsense are closed, and delay no other client."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from qemu_migration_exporter.web.connection import Stage

from tests.support.patience import patience
from tests.support.web_helpers import connect, get, serving, wait_for

#: Soon enough for a test, and late enough for a request on a busy machine.
SOON = {Stage.REQUEST: 1.0, Stage.ANSWER: 5.0, Stage.IDLE: 1.0}

#: A scrape beside a hundred silent connections takes milliseconds; a timeout takes seconds.
AT_ONCE_SECONDS = 1.0


@pytest.fixture(name="tls", params=[False, True], ids=["http", "https"])
def _tls(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str | None, ssl.SSLContext | None]:
    """A web configuration file and a client's context, for TLS or for none."""
    if not request.param:
        return None, None
    authority, context = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(context)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    (tmp_path / "web.yml").write_text("tls_server_config: {cert_file: both.pem, key_file: both.pem}")
    return str(tmp_path / "web.yml"), context


@pytest.fixture(name="stack")
def _stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _is_closed(connection: socket.socket) -> bool:
    connection.settimeout(0)
    try:
        return connection.recv(65536) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(patience(10))


@pytest.mark.parametrize("said", [b"", b"GET /metr", b"\x16\x03\x01\x02\x00\x01", b"\x00" * 100])
def test_silent_connections_delay_no_scrape(
    tls: tuple[str | None, ssl.SSLContext | None], stack: ExitStack, said: bytes
) -> None:
    """A hundred that say nothing, or stop in the middle of a request or of a handshake."""
    config_file, context = tls
    server = stack.enter_context(serving(config_file=config_file))
    for _ in range(100):
        stack.enter_context(connect(server.url)).sendall(said)
    began = time.monotonic()

    assert get(f"{server.url}/metrics", context=context).status == 200
    assert time.monotonic() - began < patience(AT_ONCE_SECONDS)


@pytest.mark.parametrize("said", [b"", b"GET /metr", b"GET / HTTP/1.1\r\nHost: x\r\nA: b", b"\x16\x03\x01\x02\x00\x01"])
def test_requestless_connection_is_closed(
    tls: tuple[str | None, ssl.SSLContext | None], stack: ExitStack, said: bytes
) -> None:
    """After the time a request may take, TLS handshake included."""
    server = stack.enter_context(serving(config_file=tls[0], limits=SOON))
    connection = stack.enter_context(connect(server.url))
    connection.sendall(said)

    wait_for(lambda: _is_closed(connection), 4)


@pytest.mark.parametrize("tls", [True], indirect=True)
def test_idle_handshake_is_closed(tls: tuple[str | None, ssl.SSLContext | None], stack: ExitStack) -> None:
    """The time begins with the connection, and does not restart at the end of the handshake."""
    config_file, context = tls
    assert context is not None
    server = stack.enter_context(serving(config_file=config_file, limits=SOON))
    connection = stack.enter_context(connect(server.url))
    secure = stack.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))
    secure.sendall(b"GET / HT")

    wait_for(lambda: _is_closed(secure), 4)


def test_slow_bytes_buy_no_time(stack: ExitStack) -> None:
    """Neither for the first request nor for the next one."""
    server = stack.enter_context(serving(limits={**SOON, Stage.IDLE: 60}))
    connections = [stack.enter_context(connect(server.url)) for _ in range(2)]
    connections[1].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connections[1].recv(65536).startswith(b"HTTP/1.1 200")
    began = time.monotonic()
    for connection in connections:
        connection.settimeout(patience(10))
        for byte in b"GET / HTTP/1.1\r\nX: " + b"y" * 400:
            try:
                connection.send(bytes([byte]))
            except OSError:
                break
            time.sleep(0.02)
    assert time.monotonic() - began < 6


def test_missing_body_is_not_waited_for(stack: ExitStack) -> None:
    """The answer needs none; then the connection is closed."""
    server = stack.enter_context(serving(limits=SOON))
    connection = stack.enter_context(connect(server.url))
    connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")

    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    wait_for(lambda: _is_closed(connection), 5)


def test_unread_answer_is_thrown_away(stack: ExitStack) -> None:
    """It is larger than the buffers of the sockets, and is not kept for ever."""
    server = stack.enter_context(serving(limits=SOON, migrations=lambda: [{"vm": "x" * 30_000_000}]))
    connection = socket.socket()
    stack.callback(connection.close)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    connection.sendall(b"GET /api/v1/migrations HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(2.5)  # reading is what would keep it alive
    received = 0
    connection.settimeout(patience(5))
    try:
        while chunk := connection.recv(1 << 20):
            received += len(chunk)
    except ConnectionError:
        pass

    assert received < 30_000_000


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"HELO example\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 5_000_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00" + b"\xff" * 200 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + b"\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
        b"\x17\x03\x03\x40\x00" + b"\xa5" * 0x4000,
    ],
)
def test_nonsense_is_refused_or_closed(
    tls: tuple[str | None, ssl.SSLContext | None],
    stack: ExitStack,
    said: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Requests that are no HTTP, or no TLS, do not give a log line each."""
    config_file, context = tls
    server = stack.enter_context(serving(config_file=config_file, limits=SOON))
    connection = stack.enter_context(connect(server.url))
    try:
        connection.sendall(said)
        answer = connection.recv(65536)
    except ConnectionError:
        answer = b""

    alert = b"\x15"
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4" if context is None else alert)
    assert get(f"{server.url}/metrics", context=context).status == 200
    assert caplog.text == ""


@pytest.mark.parametrize(
    "head",
    [b"GET /-/healthy HTTP/1.0\r\n\r\n", b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"],
)
def test_connection_closes_on_request(
    tls: tuple[str | None, ssl.SSLContext | None], stack: ExitStack, head: bytes
) -> None:
    config_file, context = tls
    server = stack.enter_context(serving(config_file=config_file))
    connection = stack.enter_context(connect(server.url))
    if context is not None:
        connection = stack.enter_context(context.wrap_socket(connection, server_hostname="127.0.0.1"))
    connection.sendall(head)
    received = b""
    while chunk := connection.recv(65536):
        received += chunk

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert received.endswith(b"healthy\n")


def test_half_closed_client_gets_answer(stack: ExitStack) -> None:
    """As `printf ... | nc` does: it sends no more, and reads."""
    server = stack.enter_context(serving())
    connection = stack.enter_context(connect(server.url))
    connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.shutdown(socket.SHUT_WR)
    received = b""
    while chunk := connection.recv(65536):
        received += chunk

    assert received.endswith(b"healthy\n")


def test_late_body_is_thrown_away(stack: ExitStack) -> None:
    """The connection goes on with the next request after it."""
    server = stack.enter_context(serving())
    connection = stack.enter_context(connect(server.url))
    connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    connection.sendall(b"body" + b"GET /-/ready HTTP/1.1\r\nHost: x\r\n\r\n")

    assert connection.recv(65536).endswith(b"ready\n")


def test_absolute_target_is_understood(stack: ExitStack) -> None:
    """As proxies send it."""
    server = stack.enter_context(serving())
    connection = stack.enter_context(connect(server.url))
    connection.sendall(b"GET http://x.example/-/healthy HTTP/1.1\r\nHost: x\r\n\r\n")

    assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_pipelined_requests_keep_order(stack: ExitStack) -> None:
    """As HTTP's pipelining allows; the connection stays."""
    server = stack.enter_context(serving())
    connection = stack.enter_context(connect(server.url))
    connection.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n" * 3 + b"GET /-/rea")
    received = b""
    while received.count(b"healthy\n") < 3:
        received += connection.recv(65536)
    connection.sendall(b"dy HTTP/1.1\r\nHost: x\r\n\r\n")
    while b"ready\n" not in received:
        received += connection.recv(65536)


def test_silent_connections_make_room(tls: tuple[str | None, ssl.SSLContext | None], stack: ExitStack) -> None:
    """More than there is room for: the oldest are closed, and a scrape is answered at once."""
    config_file, context = tls
    server = stack.enter_context(serving(config_file=config_file, max_connections=20))
    silent = [stack.enter_context(connect(server.url)) for _ in range(50)]
    began = time.monotonic()

    assert get(f"{server.url}/metrics", context=context).status == 200
    assert time.monotonic() - began < patience(AT_ONCE_SECONDS)
    wait_for(lambda: sum(map(_is_closed, silent)) >= 31)
    assert not any(map(_is_closed, silent[-19:]))


def test_busy_connections_stay_open(stack: ExitStack) -> None:
    """If all connections are busy, a new one is refused."""
    release = False

    def wait() -> list[dict[str, str]]:
        while not release:
            time.sleep(0.01)
        return []

    server = stack.enter_context(serving(migrations=wait, max_connections=2))
    asking = [stack.enter_context(connect(server.url)) for _ in range(2)]
    for connection in asking:
        connection.sendall(b"GET /api/v1/migrations HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)  # that they are being answered cannot be seen from here
    late = stack.enter_context(connect(server.url))
    wait_for(lambda: _is_closed(late))
    release = True

    assert [connection.recv(65536)[:15] for connection in asking] == [b"HTTP/1.1 200 OK"] * 2


#: A server with room for connections and no file descriptors for them.
_POOR = """
import resource, sys
from tests.support.web_helpers import serving
with serving() as server:
    resource.setrlimit(resource.RLIMIT_NOFILE, (30, 30))
    print(server.url, flush=True)
    sys.stdin.read()
"""


def test_descriptor_lack_closes_silent_ones(stack: ExitStack) -> None:
    """A low limit of the service gives the same result; it is logged once."""
    command = [sys.executable, "-c", _POOR]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    stack.enter_context(server)
    assert server.stdout is not None
    url = server.stdout.readline().strip()
    for _ in range(100):
        stack.enter_context(connect(url))
    began = time.monotonic()
    assert get(f"{url}/metrics").status == 200
    assert time.monotonic() - began < patience(AT_ONCE_SECONDS)
    _, errors = server.communicate("", timeout=patience(10))

    assert errors.count("Too many open files") == 1
