"""Logs on bindfs, a FUSE file system that goes by paths and caches attributes: inodes and sizes may be a second old."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from qemu_migration_exporter.sources.files.follow import Follow

from tests.support.patience import patience
from tests.support.prometheus import need
from tests.support.source_reader import Reader

#: FUSE keeps names and attributes this long.
_CACHED_SECONDS = 1.0


@contextmanager
def _bindfs(source: Path, mount: Path) -> Iterator[None]:
    """Mount one directory on another; skip the test where that is not possible."""
    need("bindfs")
    with subprocess.Popen(["bindfs", "-f", source, mount], stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + patience(5)
            while not os.path.ismount(mount):
                if process.poll() is not None:
                    assert process.stderr is not None
                    pytest.skip(f"bindfs cannot mount: {process.stderr.read().decode()}")
                assert time.monotonic() < deadline
            yield
        finally:
            subprocess.run(["umount", "-l", mount], check=False)
            process.terminate()


def _rotate(log: Path) -> None:
    """Rotate as virtlogd does."""
    names = [log, *(Path(f"{log}.{number}") for number in range(3))]
    for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
        if newer.exists():
            newer.rename(older)
    log.touch()


@pytest.mark.parametrize("ticking", [True, False], ids=["read between", "read afterwards"])
def test_rotation_on_bindfs_loses_nothing(tmp_path: Path, *, ticking: bool) -> None:
    """Every byte is read once if writer and daemon use the same mount."""
    source, mount = tmp_path / "source", tmp_path / "mount"
    source.mkdir()
    mount.mkdir()
    with _bindfs(source, mount):
        logs = [mount / f"vm-{number}.log" for number in range(3)]
        expected = dict.fromkeys(logs, b"")
        with Reader(Follow(f"{mount}/*.log")) as reader:
            for turn in range(12):
                for log in logs:
                    line = b"line %d of %s\n" % (turn, log.name.encode())
                    with log.open("ab") as out:
                        out.write(line)
                    expected[log] += line
                if turn % 4 == 3:
                    _rotate(logs[turn // 4])
                if ticking:
                    reader.tick()
            end = time.monotonic() + 3 * _CACHED_SECONDS
            reader.until(lambda: time.monotonic() > end, ticking=True)

            assert [reader.data(str(mount / log.name)) for log in logs] == list(expected.values())
            assert reader.lost() == []
