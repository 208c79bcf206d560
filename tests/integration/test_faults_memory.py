"""Writers that invent processes without end, within 150 MiB: memory is bounded, and other streams are served."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.model import SurpriseKind
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.pipeline import Pipeline
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.sources import Data

from tests.support.daemon import Daemon, running
from tests.support.paths import DATA
from tests.support.recordings import as_of_now

_LIMIT_BYTES = 150 * 1024 * 1024
_WRITERS = 12
_PROCESSES = 2_000

_RECORDING = as_of_now((DATA / "qemu-7.2-log-nonconverging.log").read_bytes())
_HALF = len(_RECORDING) // 2


_BEGINNING = (
    "migrate_set_state new state setup",
    "migration_thread_setup_complete",
    "migrate_set_state new state active",
)
_NOTHING = ("runstate_set current_run_state 9 (running) new_state 1 (paused)",)


def _said(events: tuple[str, ...], first: int, number: int) -> bytes:
    """Write lines of several processes."""
    now_ns = time.monotonic_ns()
    text = "".join(f"{each}/{each}@{now_ns} {event}\n" for each in range(first, first + number) for event in events)
    return b"anchor %d %f\n" % (now_ns, time.time()) + text.encode()


def _peak_mib(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


def test_invented_processes_take_bounded_memory(tmp_path: Path) -> None:
    """With 24,000 machines through a socket a log is followed to its end, scrapes are answered, and the excess is counted."""
    log, address = tmp_path / "db-7.log", tmp_path / "probe.sock"
    log.write_bytes(_RECORDING[:_HALF])
    is_over = threading.Event()

    def invent(first: int) -> None:
        with socket.socket(socket.AF_UNIX) as out:
            out.connect(str(address))
            with suppress(BrokenPipeError):  # if the daemon ends, that is seen below
                out.sendall(_said(_BEGINNING, first, _PROCESSES))
            is_over.wait()

    limit = ("prlimit", f"--data={_LIMIT_BYTES}")
    with running(tmp_path, f"--source={log}", f"--source={address}", under=limit) as daemon:
        daemon.wait_until(address.exists, "it listens")
        writers = [threading.Thread(target=invent, args=(1 + each * _PROCESSES,)) for each in range(_WRITERS)]
        for writer in writers:
            writer.start()
        try:
            limited = "qemu_migration_exporter_series_limited_total"
            daemon.wait_until(lambda: (daemon.metric(limited) or 0) > 1_000, "there are too many", 30)
            with log.open("ab") as out:
                out.write(_RECORDING[_HALF:])
            result = "qemu_migration_last_result"
            daemon.wait_until(
                lambda: daemon.metric(result, result="completed", vm="db-7") == 1, "a log is followed", 30
            )
            sample = r'^qemu_migration_exporter_surprises_total\{kind="too_many_processes",stream=".*"\} (\S+)$'
            refused = re.findall(sample, daemon.get("/metrics"), re.MULTILINE)
            assert sum(map(float, refused)) > _WRITERS * _PROCESSES
            print(f"{_WRITERS * _PROCESSES:,} invented machines, at most {_peak_mib(daemon)} MiB")  # noqa: T201
        finally:
            is_over.set()
            for writer in writers:
                writer.join()
        assert "Traceback" not in daemon.log
        unknown = {"kind": "live", "result": "unknown", "side": "source"}
        daemon.wait_until(
            lambda: (daemon.metric("qemu_migrations_finished_total", **unknown) or 0) > 2_000,
            "those who went are ended",
        )


def test_idle_processes_make_room() -> None:
    """In whichever stream they are; a log is one machine, which is followed however many there are."""
    streams = Pipeline(Config(), Sinks(MetricsSink(), MigrationHistory()))
    streams.settle([])
    source = SourceConfig(socket="/run/probe.sock")

    def write(name: str, data: bytes) -> None:
        streams.take(source, [Data(name, data, None)])

    for writer in range(5):
        write(f"probe#{writer}", _said(_NOTHING, 1, 1_000))
    streams.tick(time.time_ns() + 10**9)  # they are put in order, and fill all the room there is
    write("db-7.log", _RECORDING[:_HALF])
    streams.tick(time.time_ns() + 10**9)
    write("probe#9", _said(_BEGINNING, 1, 500))
    now_open = streams.tick(time.time_ns() + 10**9)

    assert len(now_open) == 501
    refused = {stream.name: stream.counts.surprises[SurpriseKind.TOO_MANY_PROCESSES] for stream, _ in streams.all()}
    assert sum(refused.values()) == 5_000 - 2_048
    assert refused["probe#9"] == refused["db-7.log"] == 0
