"""Numbers of running migrations in an answer are of the moment of the request, not of the last second."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.support.daemon import running
from tests.support.paths import DATA
from tests.support.recordings import as_of_now

_LINES = 20


def test_scrape_has_numbers_of_lines_read(tmp_path: Path) -> None:
    """A line may be read between the numbers and the count of lines of one scrape, but not often."""
    whole = as_of_now((DATA / "qemu-7.2-log-nonconverging.log").read_bytes())
    log = tmp_path / "vm.log"
    log.write_bytes(whole[: len(whole) // 2].rpartition(b"\n")[0] + b"\n")
    fresh = 0
    with running(tmp_path, f"--source={log}") as daemon:
        before = _lines(daemon.get("/metrics"))
        for number in range(1, _LINES + 1):
            with log.open("ab") as out:
                out.write(_line(f"migrate_pending pending size {number} max 9 (pre = 0 compat=0 post=0)"))
            page = ""
            while _lines(page) < before + number:
                page = daemon.get("/metrics")
            fresh += f'qemu_migration_pending_bytes{{vm="vm"}} {number}.0\n' in page
        documents = daemon.migrations()
    assert fresh >= _LINES - 5
    assert [document["pending_bytes"] for document in documents] == [_LINES]


def _line(event: str) -> bytes:
    now_us = time.time_ns() // 1_000
    return f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:{event}\n".encode()


def _lines(page: str) -> float:
    return sum(map(float, re.findall(r"^qemu_migration_exporter_lines_total{.*} (\S+)$", page, re.MULTILINE)))
