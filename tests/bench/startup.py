"""Start of each command: processor time and peak memory, as a hypervisor pays them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import measure
from tests.bench.table import Row
from tests.support.daemon import running
from tests.support.paths import DATA, ROOT

_RECORDING: Final = str(DATA / "qemu-7.2-log-idle.log")


def commands(*, times: int) -> Iterator[Row]:
    """Run each command that ends by itself."""
    rows = {
        "--help": (["--help"], "<= 0.10 s, 16 MiB", "0.50 s, 46 MiB"),
        "check": (["check", str(ROOT / "config" / "exporter.yml")], "<= 0.25 s", "0.50 s"),
        "replay --report=json": (["replay", "--report=json", _RECORDING], "<= 0.40 s, 42 MiB", "0.67 s, 59 MiB"),
        "replay --report=text": (["replay", "--report=text", _RECORDING], "", ""),
    }
    costs = measure.in_turn({name: [measure.COMMAND, *row[0]] for name, row in rows.items()}, times=times)
    for name, (_, target, before) in rows.items():
        cost = costs[name]
        yield Row(f"{name}: start", f"{cost.cpu_seconds:.2f} s of CPU, {cost.rss_mib:.1f} MiB", target, before)


def daemon(directory: Path) -> Iterator[Row]:
    """Start the daemon on one file, without a receiver of spans."""
    (directory / "start.log").write_bytes(b"2026-11-22 22:39:13.610+0000: starting up libvirt\n")
    began = time.monotonic()
    with running(directory, f"--source={directory}/start.log") as started:
        ready_seconds = time.monotonic() - began
        cpu_seconds, rss_mib = measure.of_process(started.process.pid)
    figure = f"{cpu_seconds:.2f} s of CPU, {ready_seconds:.2f} s, {rss_mib:.1f} MiB"
    yield Row("run, one file: ready", figure, "<= 0.45 s of CPU, 44 MiB", "0.70 s of CPU, 59 MiB")
