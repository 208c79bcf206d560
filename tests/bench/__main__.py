"""Measure everything and print it.

    python -m tests.bench [LINES]

LINES is how many lines a recording is repeated to; a tenth and ten times as many are read too.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.bench import calls, live, startup, stuck, throughput
from tests.bench.table import Row, show

#: A smaller number only shows that the benchmark works.
_SERIOUS_LINES: Final = 100_000


def main(lines: int) -> int:
    """Print the table; return the exit status."""
    if shutil.which("mtail") is None:
        sys.stderr.write("mtail is what the exporter is measured against; on Debian: apt install mtail\n")
        return 1
    serious = lines >= _SERIOUS_LINES
    times = 5 if serious else 1
    cores = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        directory = Path(name)
        one_minute = os.getloadavg()[0]
        show([Row("the machine", f"{len(cores)} cores, load {one_minute:.1f}, Python {sys.version.split()[0]}")])
        os.sched_setaffinity(0, {max(cores)})  # and all that is started from here: one core
        for rows in _on_one_core(lines, directory, times):
            show(rows)
        os.sched_setaffinity(0, cores)
        show(startup.commands(times=times))
        show(startup.daemon(directory))
        show(stuck.save(directory, 1_000 if serious else 10))
        show(stuck.report(directory, 10_000 if serious else 100, times=times))
        show(stuck.hosts(directory, seconds=20 if serious else 1, numbers=(10, 100) if serious else (2,)))
        show(live.at_rest(directory, seconds=20 if serious else 1))
        show(live.catching_up(directory, lines // 2))
        show(live.scrapes(directory, (10, 100, 1_000) if serious else (2,)))
        show(live.lateness(directory, samples=200 if serious else 3))
        show(live.beside_a_flood(directory, samples=100 if serious else 3))
    return 0


def _on_one_core(lines: int, directory: Path, times: int) -> Iterable[Iterable[Row]]:
    yield throughput.rates(lines, directory, times=times)
    yield throughput.probe(lines // 2, directory, times=times)
    yield throughput.new_stream()
    yield throughput.growth(lines, directory, times=times)
    yield throughput.spans(lines // 4, directory, times=times)
    yield stuck.per_line(times=times)
    yield calls.per_line()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
