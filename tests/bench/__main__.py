"""Measure everything and print it.

    python -m tests.bench [LINES] [PAGE]

LINES is how many lines a recording is repeated to; a tenth and ten times as many are read too. PAGE is a document whose
table is replaced by this one. A part that fails is reported and costs its own rows; the rows measured until then are
written, also after an interrupt.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.bench import calls, live, memory, scrape, startup, stuck, throughput
from tests.bench.table import Row, show, write

#: A smaller number only shows that the benchmark works.
_SERIOUS_LINES: Final = 100_000


def main(lines: int, page: Path | None) -> int:
    """Print the table; return the exit status, 1 if a part failed."""
    serious = lines >= _SERIOUS_LINES
    cores = os.sched_getaffinity(0)
    version = sys.version.split()[0]
    rows = [Row("the machine", f"{len(cores)} cores, load {os.getloadavg()[0]:.1f} before, Python {version}")]
    show(rows)
    failed, began = 0, time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as name:
            directory = Path(name)
            os.sched_setaffinity(0, {max(cores)})  # and all that is started from here: one core
            for part in _on_one_core(lines, directory, times=5 if serious else 1):
                failed += _measure(part, rows)
            os.sched_setaffinity(0, cores)
            for part in _on_all_cores(lines, directory, serious=serious):
                failed += _measure(part, rows)
    finally:
        if page is not None:
            write(rows, page)
    show([Row("the benchmark", f"{time.monotonic() - began:.0f} s")])
    return 1 if failed else 0


def _measure(part: Iterable[Row], rows: list[Row]) -> bool:
    """Print the rows of a part and add them to `rows`; return whether it failed before its last."""
    try:
        for row in part:
            rows += show([row])
    except Exception as error:  # noqa: BLE001 - the other parts have taken their time
        sys.stderr.write(f"not measured after {rows[-1].what!r}: {type(error).__name__}: {error}\n")
        return True
    return False


def _on_one_core(lines: int, directory: Path, *, times: int) -> Iterable[Iterable[Row]]:
    yield throughput.rates(lines, directory, times=times)
    yield throughput.probe(lines // 2, directory, times=times)
    yield throughput.new_stream()
    yield throughput.growth(lines, directory, times=min(times, 2))
    yield throughput.spans(lines // 4, directory, times=times)
    yield stuck.per_line(times=times)
    yield calls.per_line()
    yield scrape.renderings(scrape.HOSTS if times > 1 else scrape.HOSTS[:2])


def _on_all_cores(lines: int, directory: Path, *, serious: bool) -> Iterable[Iterable[Row]]:
    yield startup.commands(times=9 if serious else 1)
    yield startup.daemon(directory)
    yield stuck.save(directory, 1_000 if serious else 10)
    yield stuck.report(10_000 if serious else 100, times=3 if serious else 1)
    yield stuck.hosts(directory, seconds=20 if serious else 1, numbers=(10, 100) if serious else (2,))
    yield memory.per_vm(directory, 200 if serious else 5)
    yield live.at_rest(directory, seconds=20 if serious else 1)
    yield live.catching_up(directory, lines // 2)
    yield live.scrapes(directory, (10, 100, 1_000) if serious else (2,))
    yield live.lateness(directory, samples=200 if serious else 3)
    yield live.beside_a_flood(directory, samples=100 if serious else 3)


if __name__ == "__main__":
    sys.exit(
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    )
