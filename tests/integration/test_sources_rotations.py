"""All short series of changes to a log between two reads: no line is lost that is in a file, and none comes twice."""

from __future__ import annotations

import os
import time
from itertools import product
from pathlib import Path
from typing import IO

import pytest
from qemu_migration_exporter.sources import Data, Position
from qemu_migration_exporter.sources.files.follow import Follow

from tests.support.source_reader import Reader

#: All ways to change a log by up to three steps before a last line. A log is rotated in one way.
_SERIES = sorted({"".join(steps) for number in range(4) for steps in product("actd", repeat=number)})
_SERIES += [series.replace("c", "r") for series in _SERIES if "c" in series]

#: Changes before the first read, among them none, and a log that is empty at its position.
_BEFORE = ["", "a", "ac", "ar", "aca", "ara"]


class _Log:
    """A log, what was written to it, and its deleted files, which are kept open so that no inode is used again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self.written: list[bytes] = []
        self._deleted: list[IO[bytes]] = []

    def change(self, series: str) -> None:
        for step in series:
            {"a": self._append, "c": self._copytruncate, "r": self._create, "t": self._truncate, "d": self._delete}[
                step
            ]()

    def lines(self) -> list[bytes]:
        """Return the lines in the files, oldest first."""
        files = [*(Path(f"{self.path}.{number}") for number in range(9, 0, -1)), self.path]
        return [line for file in files if file.exists() for line in file.read_bytes().splitlines(keepends=True)]

    def make_older(self, at_ns: int) -> None:
        """Set the time of last write of all files."""
        for file in self.path.parent.iterdir():
            os.utime(file, ns=(at_ns, at_ns))

    def close(self) -> None:
        for file in self._deleted:
            file.close()

    def _append(self) -> None:
        number = len(self.written)
        self.written.append(b"line %d %s\n" % (number, b"x" * (number * number % 17)))
        with self.path.open("ab") as out:
            out.write(self.written[-1])

    def _copytruncate(self) -> None:
        self._shift()
        Path(f"{self.path}.1").write_bytes(self.path.read_bytes() if self.path.exists() else b"")
        self._truncate()

    def _create(self) -> None:
        self._shift()
        if self.path.exists():
            self.path.rename(f"{self.path}.1")
        self.path.touch()

    def _truncate(self) -> None:
        if self.path.exists():
            os.truncate(self.path, 0)

    def _delete(self) -> None:
        if self.path.exists():
            self._deleted.append(self.path.open("rb"))
            self.path.unlink()

    def _shift(self) -> None:
        for number in range(9, 0, -1):
            if Path(f"{self.path}.{number}").exists():
                Path(f"{self.path}.{number}").rename(f"{self.path}.{number + 1}")


def _lines(reader: Reader) -> list[bytes]:
    return reader.data().splitlines(keepends=True)


def _position(reader: Reader, log: _Log) -> Position:
    status = log.path.stat()
    positions = [item.position for item in reader.items if isinstance(item, Data)]
    return (positions and positions[-1]) or Position(status.st_dev, status.st_ino, 0)


def _read_around(log: _Log, series: str, *, restarted: bool) -> Reader:
    """Read a log, change it, and read it again, by another reader if `restarted`; return the second reading."""
    with Reader(Follow(str(log.path))) as reader:
        reader.tick()
        position = _position(reader, log)
        reader.items.clear()
        if not restarted:
            log.change(series)
            reader.tick()
            reader.tick()
            return reader
    since_ns = time.time_ns() - 5_000_000_000
    log.make_older(since_ns)
    log.change(series)
    with Reader(Follow(str(log.path), {str(log.path): position}, since_ns)) as again:
        again.tick()
        again.tick()
        return again


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("before", _BEFORE)
def test_any_changes_between_two_reads(tmp_path: Path, before: str, *, restarted: bool) -> None:
    """A truncation or deletion may take lines before they are read, and be a loss although it took none."""
    for number, steps in enumerate(_SERIES):
        series = f"{steps}a"
        if {"c", "r"} <= {*before, *series}:
            continue
        directory = tmp_path / str(number)
        directory.mkdir()
        log = _Log(directory / "vm.log")
        log.change(before)
        known = len(log.written)
        reader = _read_around(log, series, restarted=restarted)
        kept = log.lines()
        log.close()

        lines = _lines(reader)
        unread = log.written[known:]
        assert [line for line in lines if line in kept] == [line for line in unread if line in kept], (before, series)
        assert lines == [line for line in unread if line in lines], (before, series)
        if not {"t", "d"} & set(steps):
            assert (lines, reader.lost()) == (unread, []), (before, series)
