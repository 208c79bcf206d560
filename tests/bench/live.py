"""The daemon: cost at rest, duration of a scrape, and delay of a line until it is in one."""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import measure
from tests.bench.table import Row
from tests.bench.throughput import LOG, repeated
from tests.support.daemon import Daemon, running
from tests.support.flood import flooding
from tests.support.recordings import as_of_now

_OPENMETRICS: Final = {"Accept": "application/openmetrics-text; version=1.0.0"}
_BURST_SECONDS: Final = 0.01
_PATIENCE_SECONDS: Final = 30
_FLOOD_LINES_PER_SECOND: Final = 1_000_000


def _half_way() -> bytes:
    """Return the first half of a real migration, dated as of now: it runs."""
    lines = as_of_now(LOG.read_bytes()).splitlines(keepends=True)
    return b"".join(lines[: len(lines) // 2])


def at_rest(directory: Path, *, seconds: float) -> Iterator[Row]:
    """Follow one idle file, then two hundred."""
    for files in (1, 200):
        logs = directory / f"idle-{files}"
        logs.mkdir()
        for number in range(files):
            (logs / f"vm-{number}.log").write_bytes(b"2026-11-22 22:39:13.610+0000: starting up libvirt\n")
        began = time.monotonic()
        with running(logs, f"--source={logs}/*.log") as daemon:
            ready_seconds = time.monotonic() - began
            daemon.get("/metrics")
            before, _ = measure.of_process(daemon.process.pid)
            time.sleep(seconds)  # the interval that is measured
            after, rss_mib = measure.of_process(daemon.process.pid)
            stats = measure.calls_per_second("%stat", daemon.process.pid, seconds) if files > 1 else None
        plural = "s" if files > 1 else ""
        yield Row(f"{files} idle file{plural}: ready after", f"{ready_seconds:.2f} s")
        yield Row(
            f"{files} idle file{plural}: memory",
            f"{rss_mib:.1f} MiB",
            "<= 44 MiB" if files == 1 else "",
            "59 MiB" if files == 1 else "",
        )
        share = (after - before) / seconds
        yield Row(f"{files} idle file{plural}: of a core", f"{share:.2%}", "< 0.5 %" if files == 1 else "")
        if stats is not None:
            yield Row(f"{files} idle files: stat calls", f"{stats:.1f} a second", "<= 10 a second", "401 a second")


def catching_up(directory: Path, lines: int) -> Iterator[Row]:
    """Begin with a log that is there already: its migrations but the last are over."""
    log = directory / "before.log"
    count = repeated(LOG, lines, log)
    began = time.monotonic()
    with running(directory, f"--source={log}") as daemon:
        seconds = time.monotonic() - began
        peak_mib = measure.peak_of_process(daemon.process.pid)
    log.unlink()
    yield Row(f"{count:,} lines from before: ready after", f"{seconds:.1f} s")
    yield Row(f"{count:,} lines from before: peak memory", f"{peak_mib:.0f} MiB", "<= 120 MiB")


def scrapes(directory: Path, numbers: tuple[int, ...]) -> Iterator[Row]:
    """Scrape as Prometheus does, with so many migrations running."""
    log = _half_way()
    for number in numbers:
        logs = directory / f"active-{number}"
        logs.mkdir()
        for vm in range(number):
            (logs / f"vm-{vm}.log").write_bytes(log)
        with running(logs, f"--source={logs}/*.log") as daemon:
            _scrape(daemon)
            times = sorted(_scrape(daemon) for _ in range(11))
            _, rss_mib = measure.of_process(daemon.process.pid)
        figure = f"{statistics.median(times) * 1e3:.0f} ms (best {times[0] * 1e3:.0f}), {rss_mib:.0f} MiB"
        yield Row(f"OpenMetrics scrape, {number} migrations", figure, "<= 50 ms" if number == 100 else "")


def _scrape(daemon: Daemon) -> float:
    request = urllib.request.Request(f"{daemon.url}/metrics", headers=_OPENMETRICS)
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
    return time.perf_counter() - began


def lateness(directory: Path, *, samples: int) -> Iterator[Row]:
    """Write a line, and scrape until it is there; at first nothing else happens, then 10,000 lines a second come."""
    for lines_per_second in (0, 10_000):
        log = directory / f"late-{lines_per_second}.log"
        log.write_bytes(_half_way())
        with running(directory, f"--source={log}") as daemon, log.open("ab", buffering=0) as out:
            stop, lock = threading.Event(), threading.Lock()
            writer = threading.Thread(target=_write, args=(out.fileno(), lines_per_second, stop, lock))
            writer.start()
            times = sorted(_until_seen(daemon, out.fileno(), lock, 1_000_000 + each) for each in range(samples))
            stop.set()
            writer.join()
        p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
        when = f"{lines_per_second:,} lines/s" if lines_per_second else "idle"
        target = "p99 <= 50 ms" if lines_per_second else ""
        yield Row(f"a line is in /metrics, {when}", f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms", target)


def beside_a_flood(directory: Path, *, samples: int) -> Iterator[Row]:
    """Write a line into one of ten logs, and scrape until it is there, while an eleventh gets a million a second."""
    logs = directory / "flood"
    logs.mkdir()
    flooded, *others = (logs / f"vm-{number}.log" for number in range(11))
    for log in (flooded, *others):
        log.write_bytes(_half_way())
    with running(logs, f"--source={logs}/*.log") as daemon, flooding(flooded, _FLOOD_LINES_PER_SECOND) as flood:
        times = []
        for each in range(samples):
            with others[each % len(others)].open("ab", buffering=0) as out:
                times.append(_until_seen(daemon, out.fileno(), threading.Lock(), 1_000_000 + each))
    times.sort()
    p50, p99 = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
    figure = f"p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms ({flood.lines / flood.seconds:,.0f}/s)"
    yield Row("a line is in /metrics, beside a flood of another", figure)


def _line(event: str) -> bytes:
    now_us = time.time_ns() // 1_000
    return f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:{event}\n".encode()


def _write(out: int, lines_per_second: int, stop: threading.Event, lock: threading.Lock) -> None:
    """Write the lines of a migration's slice, and as much noise, so many lines a second."""
    while not stop.wait(_BURST_SECONDS) and lines_per_second:
        burst = (
            _line("savevm_section_start ram, section_id 2")
            + _line("savevm_section_end ram, section_id 2 -> 0")
            + _line("migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0") * 2
        )
        with lock:
            os.write(out, burst * round(lines_per_second * _BURST_SECONDS / 4))


def _until_seen(daemon: Daemon, out: int, lock: threading.Lock, pending: int) -> float:
    with lock:
        os.write(out, _line(f"migrate_pending pending size {pending} max 9 (pre = 0 compat=0 post=0)"))
    began = time.perf_counter()
    while time.perf_counter() - began < _PATIENCE_SECONDS:
        seen = re.findall(r"^qemu_migration_pending_bytes{.*} (\S+)$", daemon.get("/metrics"), re.MULTILINE)
        if pending in map(float, seen):
            return time.perf_counter() - began
    raise RuntimeError(f"not in /metrics within {_PATIENCE_SECONDS} s: {pending}")
