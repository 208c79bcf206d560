"""Floods and pauses: a loud stream delays no other, and no line is lost."""

from __future__ import annotations

import os
import signal
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import Daemon, running
from tests.support.flood import flooding
from tests.support.paths import DATA
from tests.support.recordings import as_of_now

_LINES_PER_SECOND = 1_000_000
_SAMPLES = 40
_LATE_SECONDS = 5.0

_RECORDING = as_of_now((DATA / "qemu-7.2-log-nonconverging.log").read_bytes())
_HALF = b"".join(_RECORDING.splitlines(keepends=True)[:500])


def _lines(daemon: Daemon, stream: Path | str) -> int:
    outcomes = ("event", "noise", "malformed")
    read = [daemon.metric("qemu_migration_exporter_lines_total", outcome=each, stream=str(stream)) for each in outcomes]
    return round(sum(each or 0 for each in read))


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as log:
        log.write(data)


def _lateness(daemon: Daemon, log: Path, pending: int) -> float:
    """Write the rest of a round, and scrape until it is there."""
    now_us = time.time_ns() // 1_000
    stamp = f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}"
    _append(log, f"{stamp}:migrate_pending pending size {pending} max 9 (pre = 0 compat=0 post=0)\n".encode())
    began = time.monotonic()
    name = "qemu_migration_pending_bytes"
    daemon.wait_until(lambda: daemon.metric(name, vm=log.stem) == pending, f"{pending} is seen", _LATE_SECONDS)
    return time.monotonic() - began


def test_flood_of_one_vm_delays_no_other(tmp_path: Path) -> None:
    """Ten others are in `/metrics` as soon as they say something, and of the flood every line is counted."""
    others = [tmp_path / f"vm-{number}.log" for number in range(10)]
    for log in others:
        log.write_bytes(_HALF)
    flooded = tmp_path / "flood.log"
    flooded.write_bytes(_HALF)
    with running(tmp_path, f"--source={tmp_path}/*.log") as daemon:
        with flooding(flooded, _LINES_PER_SECOND) as flood:
            late = sorted(_lateness(daemon, others[each % 10], 1_000_001 + each) for each in range(_SAMPLES))
        written = flood.lines + 500
        daemon.wait_until(lambda: _lines(daemon, flooded) == written, "all of the flood is read", 20)

        assert [_lines(daemon, log) for log in others] == [500 + _SAMPLES // 10] * 10
        print(  # noqa: T201 - the figure for FAULTS.md, with -s
            f"{flood.lines / flood.seconds:,.0f} lines/s for {flood.seconds:.1f} s beside ten others: a line is seen"
            f" after {statistics.median(late) * 1e3:.0f} ms, at most {late[-1] * 1e3:.0f} ms; {written:,} lines read"
        )


def test_lines_written_during_stop_are_read(tmp_path: Path) -> None:
    """SIGSTOP, as a debugger or a frozen cgroup does it: a log that is rotated meanwhile, a FIFO and a socket."""
    log, fifo, address = tmp_path / "db-7.log", tmp_path / "probe", tmp_path / "probe.sock"
    os.mkfifo(fifo)
    log.touch()
    data = _RECORDING * 20  # more than a pipe or a socket holds: their writers wait
    lines = data.count(b"\n")

    def write_fifo() -> None:
        with fifo.open("wb", buffering=0) as out:
            out.write(data)

    def write_socket() -> None:
        with socket.socket(socket.AF_UNIX) as out:
            out.connect(str(address))
            out.sendall(data)

    with running(tmp_path, *(f"--source={each}" for each in (log, fifo, address))) as daemon:
        daemon.wait_until(address.exists, "it listens")
        daemon.process.send_signal(signal.SIGSTOP)
        writers = [threading.Thread(target=each) for each in (write_fifo, write_socket)]
        for writer in writers:
            writer.start()
        for number in range(3):
            _append(log, data)
            log.rename(f"{log}.{2 - number}")
        _append(log, data)
        daemon.process.send_signal(signal.SIGCONT)
        daemon.wait_until(lambda: (_lines(daemon, log), _lines(daemon, fifo)) == (4 * lines, lines), "all is read", 30)
        for writer in writers:
            writer.join()

        surprises = "qemu_migration_exporter_surprises_total"
        assert daemon.metric(surprises, kind="bytes_lost", stream=str(log)) == 0
        finished = {"kind": "live", "result": "completed", "side": "source"}
        daemon.wait_until(
            lambda: daemon.metric("qemu_migrations_finished_total", **finished) == 6 * 20, "all have ended"
        )
        assert "Traceback" not in daemon.log


def test_hundred_parallel_scrapes_agree(tmp_path: Path) -> None:
    """All are answered, whole and valid."""
    for number in range(10):
        (tmp_path / f"vm-{number}.log").write_bytes(_HALF)
    with running(tmp_path, f"--source={tmp_path}/*.log") as daemon:
        began = time.monotonic()
        with ThreadPoolExecutor(100) as pool:
            answers = list(pool.map(lambda _: daemon.get("/metrics"), range(100)))
        seconds = time.monotonic() - began

    assert {_active(answer) for answer in set(answers)} == {tuple((f"vm-{number}", 1.0) for number in range(10))}
    print(f"100 scrapes of ten migrations at once: {seconds:.2f} s")  # noqa: T201


def _active(exposition: str) -> tuple[tuple[str, float], ...]:
    families = {family.name: family for family in text_string_to_metric_families(exposition)}
    return tuple(sorted((sample.labels["vm"], sample.value) for sample in families["qemu_migration_active"].samples))
