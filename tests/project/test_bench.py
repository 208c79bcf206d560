"""The benchmark runs; its figures are for people to read, on a quiet machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.measure import MTAIL
from tests.support.paths import ROOT


@pytest.mark.skipif(shutil.which("mtail") is None, reason="mtail is not installed")
@pytest.mark.timeout(240)
def test_bench_prints_every_figure() -> None:
    """On a few lines: each part has its rows, with numbers in them."""
    command = [sys.executable, "-m", "tests.bench", "2000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    rows = {line[:52].rstrip(): line[52:].strip() for line in done.stdout.splitlines()}
    wanted = [
        "the machine",
        "systemtap, dense: exporter / mtail",
        "QEMU 10 log, 99 % noise: exporter / for line",
        "7.2 log, dense: exporter / mtail",
        "bpftrace: of a line",
        "a new stream",
        "systemtap, 20,010 lines: peak memory",
        "with spans / (metrics + SDK)",
        "--help: start",
        "replay --report=json: start",
        "run, one file: ready",
        "a line in a stall, line by line",
        "state of 10 migrations: reading thread",
        "text report of 100 rounds",
        "2 stuck migrations, state file",
        "1 idle file: memory",
        "200 idle files: of a core",
        "1,045 lines from before: peak memory",
        "OpenMetrics scrape, 2 migrations",
        "a line is in /metrics, 10,000 lines/s",
        "a line is in /metrics, beside a flood of another",
    ]
    assert [] == [row for row in wanted if not any(letter.isdigit() for letter in rows.get(row, ""))]


def test_mtail_and_exporter_agree(tmp_path: Path) -> None:
    """Its program finds what the exporter finds: the peer does the work it is compared for."""
    if shutil.which("mtail") is None:
        pytest.skip("mtail is not installed")
    counts = {}
    for name in ("qemu-kvm-2.6-systemtap", "qemu-7.2-log-nonconverging"):
        log = tmp_path / f"{name}.log"
        log.write_bytes((ROOT / "tests" / "data" / f"{name}.log").read_bytes())
        done = subprocess.run(
            [*MTAIL, f"--logs={log}"],
            capture_output=True,
            text=True,
            check=True,
        )
        samples = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if not line.startswith("#"))
        counts[name] = [
            float(value)
            for metric in ("iterations_total", "bitmap_syncs_total", "transferred_bytes_total")
            for key, value in samples.items()
            if key.startswith(f"qemu_migration_{metric}{{")
        ]
    assert {
        "qemu-kvm-2.6-systemtap": [35, 3, 264168903],
        "qemu-7.2-log-nonconverging": [128, 18, 691758611],
    } == counts
