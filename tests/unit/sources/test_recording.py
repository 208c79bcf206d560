"""Recordings: their sizes, and how much was read, for the progress bar."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from qemu_migration_exporter.sources.errors import DamagedError, SourceError
from qemu_migration_exporter.sources.recording import Recording

_DATA = b"a line\n" * 300_000


@pytest.mark.parametrize("compressed", [False, True])
def test_read_bytes_reach_size(tmp_path: Path, *, compressed: bool) -> None:
    """Compressed bytes count if the file is compressed."""
    path = tmp_path / "vm.log"
    path.write_bytes(gzip.compress(_DATA) if compressed else _DATA)
    os.utime(path, ns=(7, 7))
    recording = Recording(str(path))
    assert (recording.size, recording.read, recording.is_live) == (path.stat().st_size, 0, False)
    assert recording.modified_ns == 7

    read = [(chunk, recording.read) for chunk in recording.chunks()]
    recording.close()

    assert b"".join(chunk for chunk, _ in read) == _DATA
    assert [place for _, place in read] == sorted(place for _, place in read)
    assert read[-1][1] == path.stat().st_size


def test_empty_file_has_no_size(tmp_path: Path) -> None:
    """Files of /proc are empty too, until they are read."""
    path = tmp_path / "vm.log"
    path.touch()
    recording = Recording(str(path))

    assert (recording.size, recording.read, list(recording.chunks())) == (None, 0, [])
    recording.close()


def test_fifo_is_live(tmp_path: Path) -> None:
    path = tmp_path / "probe"
    os.mkfifo(path)
    writer = os.open(path, os.O_RDWR)
    os.write(writer, b"one\n")
    recording = Recording(str(path))
    os.close(writer)

    assert (recording.is_live, recording.size, recording.read) == (True, None, 0)
    assert list(recording.chunks()) == [b"one\n"]
    recording.close()


def test_damaged_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vm.log.gz"
    path.write_bytes(gzip.compress(_DATA)[:-10])
    recording = Recording(str(path))

    with pytest.raises(DamagedError, match="compressed data is damaged"):
        list(recording.chunks())
    recording.close()


@pytest.mark.parametrize(("name", "message"), [("none.log", "No such file"), (".", "is a directory")])
def test_unusable_path_is_an_error(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        Recording(str(tmp_path / name))
