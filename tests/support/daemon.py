"""A daemon as a real process, and questions to it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qemu_migration_exporter.ops.errors import Component

from tests.support.patience import patience


class Daemon:
    """A running daemon: its log, its address, its end."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log
        self.url = ""

    @property
    def log(self) -> str:
        """Text of its log so far."""
        return self._log.read_text(encoding="utf-8")

    def get(self, path: str) -> str:
        """Ask it over HTTP."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=patience(10)) as answer:
            text: str = answer.read().decode()
        return text

    def post(self, path: str) -> tuple[int, str]:
        """Send an empty POST request; return the status and the text of the answer."""
        request = urllib.request.Request(f"{self.url}{path}", method="POST")
        try:
            with urllib.request.urlopen(request, timeout=patience(40)) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def metric(self, name: str, **labels: str) -> float | None:
        """Scrape one sample."""
        shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        match = re.search(
            rf"^{re.escape(name + (f'{{{shown}}}' if shown else ''))} (\S+)$", self.get("/metrics"), re.MULTILINE
        )
        return float(match[1]) if match else None

    def migrations(self) -> list[dict[str, Any]]:
        """Ask for the running and the recent migrations."""
        migrations: list[dict[str, Any]] = json.loads(self.get("/api/v1/migrations"))["data"]["migrations"]
        return migrations

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
        """Poll until something is so."""
        seconds = patience(seconds)
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"ended before {what}: {self.log}"
            assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}: {self.log}"
            time.sleep(0.02)

    def failures(self, part: Component) -> float:
        """Scrape how often a part of it failed."""
        return self.metric("qemu_migration_exporter_failures_total", part=part.value) or 0.0

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it and return its status."""
        self.process.send_signal(number)
        return self.process.wait(timeout=patience(20))


@contextmanager
def running(directory: Path, *arguments: str, under: Sequence[str] = (), **environment: str) -> Iterator[Daemon]:
    """Run a daemon until the test is over; `under` is a command that runs it."""
    log = directory / f"daemon-{time.monotonic_ns()}.stderr"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *under,
                sys.executable,
                "-m",
                "qemu_migration_exporter",
                "run",
                "--web.listen-address=127.0.0.1:0",
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stderr=out,
            env={**os.environ, **environment},
        )
    daemon = Daemon(process, log)
    try:
        daemon.wait_until(lambda: _event("listening").search(daemon.log) is not None, "listening")
        daemon.url = re.findall(r"\burl\W+(http[^\s\"]+)", daemon.log)[0]
        daemon.wait_until(lambda: _event("ready").search(daemon.log) is not None, "ready")
        yield daemon
    finally:
        process.kill()
        process.wait()


def _event(name: str) -> re.Pattern[str]:
    """Return the pattern of a log line, in logfmt or in JSON."""
    return re.compile(rf'msg"?[:=] ?"?{name}\b')
