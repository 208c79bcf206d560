"""Notices of changes in a directory and its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qemu_migration_exporter.sources.files.inotify import Appeared, Changed, Notice, Vanished, Watches, Written


@pytest.fixture(name="watches")
def _watches(tmp_path: Path) -> Iterator[Watches]:
    watches = Watches()
    (tmp_path / "logs").mkdir()
    watches.watch_directory(str(tmp_path / "logs"))
    yield watches
    watches.close()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda at: (at / "a").touch(), [Appeared("a")]),
        (lambda at: (at.parent / "b").rename(at / "b"), [Appeared("b")]),
        (lambda at: (at / "there").unlink(), [Vanished("there", renamed=False)]),
        (lambda at: (at / "there").rename(at.parent / "c"), [Vanished("there", renamed=True)]),
        (lambda at: (at / "there").rename(at / "d"), [Vanished("there", renamed=True), Appeared("d")]),
        (lambda at: (at / "there").write_bytes(b"x"), []),
    ],
    ids=["created", "moved in", "deleted", "moved out", "renamed", "written"],
)
def test_directory_reports_names(
    watches: Watches, tmp_path: Path, change: Callable[[Path], object], expected: list[Notice]
) -> None:
    (tmp_path / "b").touch()
    (tmp_path / "logs" / "there").touch()
    list(watches.notices())

    change(tmp_path / "logs")

    assert list(watches.notices()) == expected


@pytest.mark.parametrize("leave", [Path.rmdir, lambda path: path.rename(f"{path}-old")], ids=["deleted", "moved"])
def test_directory_that_left_is_not_watched(watches: Watches, tmp_path: Path, leave: Callable[[Path], object]) -> None:
    """Another directory may have its name, and perhaps its inode."""
    before = watches.has_directory
    leave(tmp_path / "logs")

    assert list(watches.notices()) == []
    assert (before, watches.has_directory) == (True, False)

    (tmp_path / "logs").mkdir()
    watches.watch_directory(str(tmp_path / "logs"))
    (tmp_path / "logs" / "a").touch()
    assert list(watches.notices()) == [Appeared("a")]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda log: log.write_bytes(b"x"), {Written("vm")}),
        (lambda log: os.truncate(log, 0), {Written("vm")}),
        (lambda log: log.chmod(0o600), {Changed("vm")}),
        (lambda log: log.rename(f"{log}.1"), {Changed("vm")}),
        (Path.unlink, {Changed("vm")}),
        (lambda log: log.read_bytes(), set()),
    ],
    ids=["written", "truncated", "permission", "renamed", "deleted", "read"],
)
def test_file_reports_changes(tmp_path: Path, change: Callable[[Path], object], expected: set[Notice]) -> None:
    log = tmp_path / "vm.log"
    log.write_bytes(b"line\n")
    watches = Watches()
    with log.open("rb") as file:
        assert watches.watch(file.fileno(), "vm")
        change(log)
        assert set(watches.notices()) == expected
        watches.leave(file.fileno())
    watches.close()


def test_file_of_no_name_is_not_watched(tmp_path: Path) -> None:
    """It is polled instead."""
    watches = Watches()
    assert not watches.watch(str(tmp_path / "none"), "vm")
    watches.leave(str(tmp_path / "none"))
    watches.close()
