"""Memory that each virtual machine costs a daemon: while its migration runs, and after its end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import measure
from tests.bench.table import Row
from tests.bench.throughput import LOG
from tests.support.daemon import Daemon, running
from tests.support.recordings import as_of_now

#: Shorter than a read, so that the daemon holds no bytes.
_READ_BYTES: Final = 16 * 1024


def per_vm(directory: Path, number: int) -> Iterator[Row]:
    """Compare a daemon that follows so many logs with itself after a migration in each of them was read and scraped.

    Another log has a whole migration first, with which the daemon loads the parts that describe migrations.
    """
    log = as_of_now(LOG.read_bytes())
    half = log[: len(log) // 2].rpartition(b"\n")[0] + b"\n"
    logs = directory / "memory"
    logs.mkdir()
    paths = [logs / f"vm-{vm}.log" for vm in range(number)]
    another = logs / "another.log"
    for path in (*paths, another):
        path.write_bytes(b"")
    with running(directory, f"--source={logs}/*.log") as daemon:
        _read(daemon, [another], half, active=1)
        _read(daemon, [another], log[len(half) :], active=0)
        idle_mib = _settled(daemon)
        active_mib = _read(daemon, paths, half, active=number)
        ended_mib = _read(daemon, paths, log[len(half) :], active=0)
    for name, mib, target, before in (
        ("active", active_mib, "<= 30 KiB", "78 KiB"),
        ("ended", ended_mib, "<= 40 KiB", "135 KiB"),
    ):
        yield Row(
            f"memory of a VM whose migration is {name}", f"{(mib - idle_mib) * 1_024 / number:.0f} KiB", target, before
        )


def _read(daemon: Daemon, paths: list[Path], data: bytes, *, active: int) -> float:
    """Append data to all logs a part at a time, wait for its migrations, and return the memory in MiB."""
    for start in range(0, len(data), _READ_BYTES):
        for path in paths:
            with path.open("ab") as out:
                out.write(data[start : start + _READ_BYTES])
    daemon.wait_until(lambda: _active(daemon) == active, f"{active} migrations are active", 60)
    return _settled(daemon)


def _active(daemon: Daemon) -> int:
    return sum(
        line.endswith(" 1.0")
        for line in daemon.get("/metrics").splitlines()
        if line.startswith("qemu_migration_active{")
    )


def _settled(daemon: Daemon) -> float:
    daemon.get("/metrics")
    return measure.of_process(daemon.process.pid)[1]
