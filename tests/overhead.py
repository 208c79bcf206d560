"""What tracing costs a real QEMU, by `make overhead`; not a test, as its figures are of the machine it runs on.

Migrations with and without the events of `probe log` take turns. What is compared is the CPU time of QEMU's migration thread,
which prints most of the lines: under emulation the guest takes all the rest. A probe on USDT needs a QEMU that has it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from exporter.probes.log import log_advice
from tests.qemu import Qemu

_MIB = 1 << 20
_SECONDS = 10
_TURNS = 3


def _migration_thread_seconds(pid: int) -> float:
    """Ask the kernel for the CPU time of the thread, by the name that debug-threads=on gives it."""
    threads = [
        task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text() == "live_migration\n"
    ]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


def _stuck(directory: Path, trace: tuple[str, ...], max_bandwidth: int) -> tuple[float, float]:
    """Migrate a guest that dirties 47 MiB over and over; give CPU seconds and bytes of log, each for a second."""
    destination = Qemu("destination", directory, working_set_mib=47, incoming=True, trace=())
    source = Qemu("source", directory, working_set_mib=47, trace=trace)
    try:
        source.migrate(max_bandwidth=max_bandwidth, downtime_limit=1)
        time.sleep(_SECONDS)
        assert source.query()["status"] == "active"
        cpu, log = _migration_thread_seconds(source.process.pid), source.log.stat().st_size
        return cpu / _SECONDS, log / _SECONDS
    finally:
        source.quit()
        destination.quit()


def _converging(directory: Path, trace: tuple[str, ...]) -> float:
    """Migrate a guest that dirties 8 MiB, with bandwidth enough; give QEMU's total time in seconds."""
    destination = Qemu("destination", directory, working_set_mib=8, incoming=True, trace=())
    source = Qemu("source", directory, working_set_mib=8, trace=trace)
    try:
        source.migrate(max_bandwidth=64 * _MIB)
        return float(source.wait_until("completed")["total-time"]) / 1_000
    finally:
        source.quit()
        destination.quit()


def _spread(values: Iterable[float], scale: float, digits: int) -> str:
    lowest, *_, highest = ordered = sorted(value * scale for value in values)
    return f"{statistics.median(ordered):.{digits}f} ({lowest:.{digits}f} to {highest:.{digits}f})"


def _main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "events").write_text(log_advice(None))
        traces: dict[str, tuple[str, ...]] = {"off": (), "on": (f"events={directory}/events",)}
        for mib in (32, 256):
            stuck: dict[str, list[tuple[float, float]]] = {key: [] for key in traces}
            for _ in range(_TURNS):
                for key, trace in traces.items():
                    stuck[key].append(_stuck(directory, trace, mib * _MIB))
            for key, runs in stuck.items():
                cpu, log = zip(*runs, strict=True)
                sys.stdout.write(
                    f"{mib} MiB/s, tracing {key}: migration thread {_spread(cpu, 100, 2)} % of a core,"
                    f" log {_spread(log, 60 / 1e3, 0)} kB a minute\n"
                )
        totals: dict[str, list[float]] = {key: [] for key in traces}
        for _ in range(3 * _TURNS):
            for key, trace in traces.items():
                totals[key].append(_converging(directory, trace))
        for key, times in totals.items():
            sys.stdout.write(f"converging, tracing {key}: total time {_spread(times, 1_000, 0)} ms\n")


if __name__ == "__main__":
    _main()
