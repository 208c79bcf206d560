"""Cost of tracing for a real QEMU, by `make overhead`; not a test, as its figures are of the machine it runs on.

Migrations with and without a probe take turns: the events of `probe log` or, as root and with a QEMU that has USDT
(`make overhead QEMU=/path/to/it`), the script of `probe bpftrace`. What is compared is the CPU time of QEMU's migration
thread, in which most events happen: under emulation the guest takes all the rest.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from qemu_migration_exporter.probes import bpftrace_script
from qemu_migration_exporter.probes.log import log_advice

from tests.support.qemu import Qemu, wait_for

_MIB = 1 << 20
_SECONDS = 10
_TURNS = 3


def _migration_thread_seconds(pid: int) -> float:
    """Ask the kernel for the CPU time of the thread, by the name that debug-threads=on gives it."""
    threads = [
        task for task in Path(f"/proc/{pid}/task").iterdir() if (task / "comm").read_text() == "live_migration\n"
    ]
    return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9


class _Probe:
    """A way to trace: QEMU's own log, or a script beside it."""

    def __init__(self, directory: Path) -> None:
        self.binary = os.environ.get("QEMU") or "qemu-system-x86_64"
        self._script = directory / "probe.bt" if "QEMU" in os.environ else None
        self._output = directory / "probe.out"
        events = directory / "events"
        events.write_text(log_advice(None))
        self._log_arguments = () if self._script else (f"events={events}",)
        if self._script:
            self._script.write_text(bpftrace_script(Path(self.binary)))

    def arguments(self, *, on: bool) -> tuple[str, ...]:
        """Return the trace arguments of QEMU."""
        return self._log_arguments if on else ()

    def attached(self, *, on: bool) -> AbstractContextManager[None]:
        """Have the script attached."""
        return self._attached(self._script) if on and self._script else nullcontext()

    def written(self, log: Path, *, on: bool) -> int:
        """Return the bytes that were printed."""
        return (self._output if on and self._script else log).stat().st_size

    @contextmanager
    def _attached(self, script: Path) -> Iterator[None]:
        with self._output.open("wb") as out:
            probe = subprocess.Popen(["bpftrace", "-B", "line", str(script)], stdout=out)
        try:
            wait_for(lambda: b"anchor" in self._output.read_bytes(), 60, "the probe is attached")
            yield
        finally:
            probe.terminate()
            probe.wait(timeout=60)


def _stuck(directory: Path, probe: _Probe, max_bandwidth: int, *, on: bool) -> tuple[float, float]:
    """Migrate a guest that dirties 47 MiB over and over; give CPU seconds and bytes printed, each for a second."""
    trace = probe.arguments(on=on)
    destination = Qemu("destination", directory, working_set_mib=47, incoming=True, trace=(), binary=probe.binary)
    source = Qemu("source", directory, working_set_mib=47, trace=trace, binary=probe.binary)
    try:
        with probe.attached(on=on):
            source.migrate(max_bandwidth=max_bandwidth, downtime_limit=1)
            time.sleep(_SECONDS)
            assert source.query()["status"] == "active"
            cpu = _migration_thread_seconds(source.process.pid)
            return cpu / _SECONDS, probe.written(source.log, on=on) / _SECONDS
    finally:
        source.quit()
        destination.quit()


def _converging(directory: Path, probe: _Probe, *, on: bool) -> float:
    """Migrate a guest that dirties 8 MiB, with bandwidth enough; give QEMU's total time in seconds."""
    trace = probe.arguments(on=on)
    destination = Qemu("destination", directory, working_set_mib=8, incoming=True, trace=(), binary=probe.binary)
    source = Qemu("source", directory, working_set_mib=8, trace=trace, binary=probe.binary)
    try:
        with probe.attached(on=on):
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
        probe = _Probe(directory)
        for mib in (32, 256):
            stuck: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            for _ in range(_TURNS):
                for on, runs in stuck.items():
                    runs.append(_stuck(directory, probe, mib * _MIB, on=on))
            for on, runs in stuck.items():
                cpu, printed = zip(*runs, strict=True)
                sys.stdout.write(
                    f"{mib} MiB/s, tracing {'on' if on else 'off'}: migration thread {_spread(cpu, 100, 2)} % of a core,"
                    f" {_spread(printed, 60 / 1e3, 0)} kB a minute\n"
                )
        totals: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(3 * _TURNS):
            for on, times in totals.items():
                times.append(_converging(directory, probe, on=on))
        for on, times in totals.items():
            sys.stdout.write(f"converging, tracing {'on' if on else 'off'}: total time {_spread(times, 1_000, 0)} ms\n")


if __name__ == "__main__":
    _main()
