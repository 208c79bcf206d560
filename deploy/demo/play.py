"""Play recordings of migrations over and over, each line when its time comes and dated now: `play.py FILE...`.

A command for the daemon to read in deploy/compose.yml, where no QEMU migrates. It knows nothing of the exporter.
"""

from __future__ import annotations

import gzip
import itertools
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

#: QEMU's `-msg timestamp=on`: process or thread, seconds since 1970, microseconds.
_DATED: Final = re.compile(rb"(\d+)@(\d+\.\d{6}):")

#: Between two recordings; long enough to see that the last one ended.
_PAUSE_SECONDS: Final = 20


def lines(recording: Path) -> Iterator[tuple[float, bytes]]:
    """Yield the lines with their seconds since the first dated line; an undated line belongs to the line before it."""
    data = recording.read_bytes()
    first: float | None = None
    after = 0.0
    for line in (gzip.decompress(data) if recording.suffix == ".gz" else data).splitlines(keepends=True):
        if dated := _DATED.match(line):
            first = float(dated[2]) if first is None else first
            after = float(dated[2]) - first
        yield after, line


def play(recording: Path) -> None:
    """Write a recording's lines to standard output as if they were said now."""
    began = time.time()
    for after, line in lines(recording):
        time.sleep(max(0.0, began + after - time.time()))
        sys.stdout.buffer.write(_DATED.sub(lambda dated, at=began + after: b"%s@%.6f:" % (dated[1], at), line, count=1))  # type: ignore[misc]
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    for name in itertools.cycle(sys.argv[1:]):
        play(Path(name))
        time.sleep(_PAUSE_SECONDS)
