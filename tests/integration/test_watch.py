"""`watch` on a real pseudo-terminal, over a followed log and over a server's API."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import bcrypt
import pytest
import trustme
from qemu_migration_exporter.config.errors import ConfigError
from qemu_migration_exporter.present.document import DocumentError, migration_from_document, view_document
from qemu_migration_exporter.present.terminal.screen import Snapshot, frame
from qemu_migration_exporter.watch.feeds import DaemonFeed, WatchError
from rich.console import Console
from rich.text import Text

from tests.support.patience import patience
from tests.support.pictures import PICTURE
from tests.support.recordings import RECORDINGS, as_of_now
from tests.support.web_helpers import migration, serving, view

NONCONVERGING = "qemu-7.2-log-nonconverging"
PATH = Path(__file__).parents[2] / "docs/pictures/watch.svg"


class _Terminal:
    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self.output = ""

    def wait_for(self, words: str) -> None:
        """Read until words are on the screen."""
        deadline = time.monotonic() + patience(20)
        while words not in self.text:
            assert time.monotonic() < deadline, self.output[-3_000:]
            if select.select([self._descriptor], [], [], 0.2)[0]:
                self.output += os.read(self._descriptor, 65_536).decode(errors="replace")

    @property
    def text(self) -> str:
        """The output without its escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.output)

    def press(self, keys: bytes) -> None:
        self.output = ""
        os.write(self._descriptor, keys)

    def resize(self, rows: int, columns: int) -> None:
        self.output = ""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> int:
        """Read the rest; return the exit status."""
        deadline = time.monotonic() + patience(15)
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([self._descriptor], [], [], 0.1)[0]:
                try:
                    self.output += os.read(self._descriptor, 65_536).decode(errors="replace")
                except OSError:
                    break
        return self.process.wait(15)


@contextmanager
def _watching(*words: str, **variables: str) -> Iterator[_Terminal]:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-m", "qemu_migration_exporter", "watch", *words]
    environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "1", **variables}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    before = termios.tcgetattr(theirs)
    try:
        yield _Terminal(process, ours)
        assert termios.tcgetattr(theirs) == before, "the terminal is left as it was"
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def _log(path: Path, share: float) -> None:
    data = next(recording for recording in RECORDINGS if recording.name == NONCONVERGING).data
    lines = data.splitlines(keepends=True)
    path.write_bytes(as_of_now(b"".join(lines[: int(share * len(lines))])))


def test_sources_are_watched(tmp_path: Path) -> None:
    """The sentence, the full report, another size, and a clean end."""
    _log(tmp_path / "db-7.log", 0.6)
    with _watching(str(tmp_path / "*.log")) as terminal:
        terminal.wait_for("virsh migrate-setmaxdowntime db-7 1700")
        terminal.press(b"\r")
        terminal.wait_for("enter back")
        terminal.press(b"\x1b")
        terminal.wait_for("enter full report")
        terminal.resize(40, 120)
        terminal.wait_for("1 stalled")
        terminal.press(b"q")
        assert terminal.close() == 0


def test_untraced_and_ended_migrations_are_shown(tmp_path: Path) -> None:
    """A log that libvirt wrote alone, and a migration that ended before the start."""
    _log(tmp_path / "db-7.log", 1.0)
    (tmp_path / "web-42.log").write_text(
        "2026-11-27 23:29:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.9\n"
        "2026-11-27 23:31:00.000+0000: initiating migration\n"
    )
    with _watching(str(tmp_path / "*.log")) as terminal:
        terminal.wait_for("db-7 completed in")
        terminal.wait_for("none of the 2 lines is a trace event")
        terminal.press(b"q")
        assert terminal.close() == 0
    assert "No migration is running" not in terminal.text


def test_terminal_without_unicode_gets_ascii(tmp_path: Path) -> None:
    _log(tmp_path / "db-7.log", 0.6)
    with _watching(str(tmp_path / "*.log"), LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") as terminal:
        terminal.wait_for("> db-7")
        terminal.wait_for("began with")
        terminal.press(b"q")
        assert terminal.close() == 0
    assert "?" not in terminal.text


def test_dumb_terminal_is_refused(tmp_path: Path) -> None:
    with _watching(str(tmp_path / "*.log"), TERM="dumb") as terminal:
        terminal.wait_for("expected a terminal to draw on, got TERM=dumb")
        assert terminal.close() == 1


def test_interrupt_restores_terminal(tmp_path: Path) -> None:
    _log(tmp_path / "db-7.log", 0.6)
    with _watching(str(tmp_path / "db-7.log")) as terminal:
        terminal.wait_for("1 stalled")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.close() == 0


def test_daemon_is_watched_by_url() -> None:
    running = view(migration(NONCONVERGING, part=0.7), is_running=True)
    ended = view(migration("qemu-7.2-log-idle"), vm="done")
    documents = [view_document(running), view_document(ended)]
    given = {"migrations": lambda: documents, "notice": lambda: "cache-3: none of the 8 lines is a trace event"}
    with serving(**given) as server, _watching(server.url) as terminal:
        terminal.wait_for("web-42 is stalled after")
        terminal.wait_for("cache-3: none of the 8 lines")
        terminal.wait_for("done")
        terminal.press(b"\x1b[B\r")
        terminal.wait_for("completed in 28 ms")
        terminal.press(b"q")
        assert terminal.close() == 0


def test_pipe_gets_one_frame() -> None:
    documents = [view_document(view(migration(NONCONVERGING, part=0.7), is_running=True))]
    command = [sys.executable, "-m", "qemu_migration_exporter", "watch"]
    with serving(migrations=lambda: documents) as server:
        done = subprocess.run([*command, server.url], capture_output=True, text=True, check=True)
        wrong = subprocess.run([*command, f"{server.url}/nothing"], capture_output=True, text=True, check=False)

    assert "web-42 is stalled after" in done.stdout
    assert wrong.returncode == 1
    assert "answered 404" in wrong.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["http://127.0.0.1:1", "x.log"], "expected one URL, or sources, and not both"),
        (["x.log"], "expected a terminal"),
        (["ftp://x"], "expected a URL such as"),
    ],
)
def test_watch_explains_refusals(words: list[str], expected: str) -> None:
    command = [sys.executable, "-m", "qemu_migration_exporter", "watch", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)

    assert done.returncode == 1
    assert expected in done.stderr


def test_unreachable_daemon_is_problem() -> None:
    """The screen shows it, and the last good data stays."""
    documents = [view_document(view(migration("qemu-7.2-log-idle")))]
    with serving(migrations=lambda: documents) as server:
        feed = DaemonFeed(server.url)
        feed.refresh()
        assert (len(feed.snapshot().recent), feed.snapshot().problem) == (1, "")
        documents[0] = {"vm": 1}
        feed.refresh()
        assert "expected a migration" in feed.snapshot().problem
    feed.refresh()

    assert "refused" in feed.snapshot().problem
    assert len(feed.snapshot().recent) == 1


def test_feed_needs_url() -> None:
    with pytest.raises(WatchError):
        DaemonFeed("host:9871")


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_view_survives_json(recording: object) -> None:
    """A daemon's JSON has all that its own pages show."""
    for of in (migration(recording.name), migration(recording.name, part=0.7)):  # type: ignore[attr-defined]
        made = view(of)
        assert migration_from_document(json.loads(json.dumps(view_document(made)))) == made


@pytest.mark.parametrize("document", [None, [], {}, {"verdict": {}}, {"verdict": {"advice": 3}}, {"verdict": None}])
def test_other_json_is_no_view(document: object) -> None:
    with pytest.raises(DocumentError):
        migration_from_document(document)


def test_picture_is_drawn_by_program(request: pytest.FixtureRequest) -> None:
    stuck = view(migration(NONCONVERGING, part=0.7), is_running=True)
    now = stuck.start_time + timedelta(seconds=stuck.elapsed_seconds)
    views = (
        stuck,
        view(migration(NONCONVERGING, part=0.3, vm="db-7"), is_running=True),
        view(migration("qemu-7.2-log-postcopy", part=0.75, vm="mail-3"), is_running=True),
        view(migration("qemu-7.2-log-cancelled", part=0.5, vm="build-9"), is_running=True),
    )
    recent = (
        view(migration("qemu-7.2-log-idle", vm="ldap-2"), start_time=now - timedelta(minutes=3)),
        view(migration("qemu-7.2-log-destination-killed", vm="cache-1"), start_time=now - timedelta(minutes=8)),
    )
    snapshot = Snapshot(source="http://host-3:9871", now=now.astimezone(UTC), running=views, recent=recent)
    console = Console(record=True, width=96, force_terminal=True, color_system="truecolor", file=io.StringIO())
    console.print(Text("\n").join(frame(snapshot, None, 96, 26)))
    svg = console.export_svg(
        title="qemu-migration-exporter watch http://host-3:9871", unique_id="w", code_format=PICTURE
    )
    if request.config.getoption("--update-golden"):
        PATH.write_text(svg, encoding="utf-8")

    assert PATH.read_text(encoding="utf-8") == svg


@pytest.fixture(name="secured", scope="module")
def _secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve over TLS, for the user `ops` with a password that a URL has to quote; the folder has what a client needs."""
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    for name, issued in (("cert.pem", authority.issue_cert("127.0.0.1")), ("client.pem", authority.issue_cert("ops"))):
        issued.private_key_and_cert_chain_pem.write_to_path(str(directory / name))
    hashed = bcrypt.hashpw(b"p@ss:word", bcrypt.gensalt(4)).decode()
    (directory / "web.yml").write_text(
        f"tls_server_config: {{cert_file: cert.pem, key_file: cert.pem}}\nbasic_auth_users: {{ops: {hashed}}}\n"
    )
    (directory / "password").write_text("p@ss:word\n")
    (directory / "wrong").write_text("other\n")
    documents = [view_document(view(migration("qemu-7.2-log-idle"), vm="done"))]
    with serving(config_file=str(directory / "web.yml"), migrations=lambda: documents) as server:
        yield f"{server.url} {directory}"


@pytest.mark.parametrize(
    ("user", "config", "expected"),
    [
        ("", "tls_config: {ca_file: ca.pem}\nbasic_auth: {username: ops, password_file: password}", ""),
        ("", "tls_config: {insecure_skip_verify: true}\nbasic_auth: {username: ops, password: 'p@ss:word'}", ""),
        ("ops:p%40ss%3Aword@", "tls_config: {ca_file: ca.pem, cert_file: client.pem, key_file: client.pem}", ""),
        ("", "tls_config: {ca_file: ca.pem}", "expects a user and a password"),
        ("", "tls_config: {ca_file: ca.pem}\nauthorization: {credentials: token}", "expects a user and a password"),
        ("ops@", "tls_config: {ca_file: ca.pem}", "expects a user and a password"),
        ("", "tls_config: {ca_file: ca.pem}\nbasic_auth: {username: ops, password_file: wrong}", "others than these"),
        ("", "", "its certificate is not trusted"),
    ],
)
def test_feed_logs_in_over_tls(secured: str, user: str, config: str, expected: str) -> None:
    url, directory = secured.split()
    file = Path(directory) / "http.yml"
    file.write_text(config)

    feed = DaemonFeed(url.replace("://", f"://{user}"), str(file))
    feed.refresh()

    assert expected in feed.snapshot().problem
    assert bool(expected) == bool(feed.snapshot().problem)
    assert len(feed.snapshot().recent) == int(not expected)
    assert feed.snapshot().source == url, "no password on the screen"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("basic_auth: {username: ops}", "basic_auth: expected either password or password_file"),
        ("basic_auth: {username: a, password: b}\nauthorization: {credentials: c}", "basic_auth or authorization"),
        ("authorization: {type: Bearer}", "expected either credentials or credentials_file"),
        ("tls_config: {ca_file: none.pem}", "tls_config.ca_file: no such file"),
        ("tls_config: {ca_file: http.yml}", "expected certificates"),
        ("tls_config: {cert_file: http.yml}", "expected cert_file and key_file"),
        ("tls_confg: {}", "did you mean tls_config?"),
    ],
)
def test_client_config_names_mistake(tmp_path: Path, config: str, expected: str) -> None:
    path = tmp_path / "http.yml"
    path.write_text(config)

    with pytest.raises(ConfigError, match=re.escape(expected)):
        DaemonFeed("http://127.0.0.1:1", str(path))


def test_feed_names_wrong_scheme(secured: str) -> None:
    feed = DaemonFeed(secured.split(maxsplit=1)[0].replace("https", "http"))
    feed.refresh()
    assert re.search("does the daemon serve https|closed connection|reset", feed.snapshot().problem)

    with serving() as server:
        feed = DaemonFeed(server.url.replace("http", "https"))
        feed.refresh()
    assert "does the daemon serve http://" in feed.snapshot().problem


def test_feed_follows_no_redirection() -> None:
    """A login does not reach another address."""

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(301)
            self.send_header("Location", "https://other.example/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.handle_request).start()
        feed = DaemonFeed(f"http://127.0.0.1:{server.server_port}")
        feed.refresh()

    assert "301 with another address: https://other.example/" in feed.snapshot().problem
