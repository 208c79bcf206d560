"""The program as a process: standard input, a scrape, signals, a closed pipe, replay speed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.paths import DATA
from tests.support.patience import patience

PROGRAM = [sys.executable, "-m", "qemu_migration_exporter"]
NONCONVERGING = DATA / "qemu-7.2-log-nonconverging.log"


@contextmanager
def _serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a replay that serves metrics; yield it with its URL."""
    process = subprocess.Popen(
        [*PROGRAM, "replay", *arguments, "--web.listen-address=127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(line.split(" ")[1] for line in process.stderr if line.startswith("serving "))
        yield process, url
    finally:
        process.kill()
        process.communicate()


def test_standard_input_is_recording() -> None:
    """`zcat … | qemu-migration-exporter replay -`, plain or compressed."""
    for data in (NONCONVERGING.read_bytes(), (DATA / "qemu-10.0-log-nonconverging.log.gz").read_bytes()):
        done = subprocess.run([*PROGRAM, "replay", "-", "--report=json"], input=data, capture_output=True, check=True)

        (migration,) = json.loads(done.stdout)["migrations"]
        assert (migration["vm"], migration["result"]) == ("stdin", "completed")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_metrics_serve_until_interrupt(stop: signal.Signals) -> None:
    """The report is printed, /metrics stays; Ctrl-C or SIGTERM ends it with status 0."""
    with _serving(str(NONCONVERGING), "--report=json") as (process, url):
        with urllib.request.urlopen(url, timeout=patience(10)) as answer:
            scraped = answer.read().decode()
        process.send_signal(stop)
        out, _ = process.communicate(timeout=patience(20))

    assert 'qemu_migration_bitmap_syncs_total{vm="qemu-7.2-log-nonconverging"} 18.0' in scraped
    assert json.loads(out)["migrations"][0]["bitmap_syncs"] == 18
    assert process.returncode == 0


def test_closed_pipe_gives_no_traceback() -> None:
    """`… | head -1` ends the program quietly."""
    process = subprocess.Popen(
        [*PROGRAM, "replay", *[str(NONCONVERGING)] * 40, "--report=json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()

    complaints = process.stderr.read()

    process.stderr.close()
    assert process.wait(timeout=patience(20)) == 1
    assert b"Traceback" not in complaints


def test_speed_scales_replay_time() -> None:
    """At 20 times the speed, 12.3 s take at least 0.6 s."""
    began = time.monotonic()

    subprocess.run([*PROGRAM, "replay", str(NONCONVERGING), "--speed=20", "--report=none"], check=True)

    assert time.monotonic() - began > 12.2 / 20
