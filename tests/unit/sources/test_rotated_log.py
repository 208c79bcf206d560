"""Files of one path, by calls that rotations and notices of inotify cause in any order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from qemu_migration_exporter.sources import Data, DataLost
from qemu_migration_exporter.sources.files.rotated_log import RotatedLog


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Iterator[RotatedLog]:
    path = tmp_path / "vm.log"
    path.write_bytes(b"0\n")
    log = RotatedLog(str(path), lambda _: True, lambda file: os.close(file.fd))
    log.start(None)
    yield log
    log.close()


def _rotate(log: RotatedLog, times: int) -> None:
    """Rotate by rename and create, with one backup."""
    path = Path(log.path)
    for _ in range(times):
        path.rename(f"{path}.0")
        path.write_bytes(b"next\n")


@pytest.mark.parametrize("noticed_first", [False, True])
def test_missed_files_are_counted_by_notices(log: RotatedLog, *, noticed_first: bool) -> None:
    """A file may be opened before its notice is read, or after it; two of five are gone before they are opened."""
    _rotate(log, 1)
    if noticed_first:
        log.arrived += 1
    assert log.refresh() == []
    if not noticed_first:
        log.arrived += 1
    assert log.account() == []

    _rotate(log, 4)
    log.arrived += 4

    assert log.refresh() == [DataLost(log.path, "2 files were gone before they were read")]
    assert log.account() == []


def test_files_beyond_room_are_found_again(log: RotatedLog) -> None:
    """Forty-five rotations come faster than the log is read."""
    path = Path(log.path)
    for number in range(1, 46):
        for backup in range(14, -1, -1):
            if Path(f"{path}.{backup}").exists():
                Path(f"{path}.{backup}").rename(f"{path}.{backup + 1}")
        path.rename(f"{path}.0")
        path.write_bytes(b"%d\n" % number)
        if number % 15 == 0:
            log.refresh()

    lines = b"".join(item.data for _ in range(46) for item in log.read(1_000) if isinstance(item, Data))

    assert lines == b"".join(b"%d\n" % number for number in range(46))


def test_recount_forgets_notices(log: RotatedLog) -> None:
    """After an overflow of inotify, the number of files that appeared is not known."""
    log.arrived += 3
    log.recount()
    _rotate(log, 3)

    assert log.refresh() == []
    assert log.account() == []
