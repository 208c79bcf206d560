"""Rotated logs in a replay are one stream."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.sources.rotated_recording import group_by_log, with_backups

from tests.support.paths import DATA

_ROTATED = DATA / "rotated"
_NEWEST, _OLDER = "B19-web.log.gz", "B19-web.log.0.gz"


def _report(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    main(["replay", "--report=json", *map(str, arguments)])
    report: dict[str, Any] = json.loads(capsys.readouterr().out)
    return report


@pytest.mark.parametrize(
    ("names", "groups"),
    [
        (["a.log"], [["a.log"]]),
        (["a.log", "a.log.0", "a.log.1"], [["a.log.1", "a.log.0", "a.log"]]),
        (["a.log.10", "a.log.9.gz", "a.log"], [["a.log.10", "a.log.9.gz", "a.log"]]),
        (["b.log", "a.log", "b.log.0"], [["b.log.0", "b.log"], ["a.log"]]),
        (["x/a.log", "y/a.log.0"], [["x/a.log"], ["y/a.log.0"]]),
        (["-", "db.1"], [["-"], ["db.1"]]),
        (["a.log", "a.log"], [["a.log"]]),
    ],
)
def test_files_of_one_log_are_grouped(names: list[str], groups: list[list[str]]) -> None:
    """Oldest first, whatever the order they are named in."""
    assert group_by_log(names) == groups


@pytest.mark.parametrize(
    ("name", "cut", "expected"),
    [
        ("a.log", [], ["a.log"]),
        ("a.log", ["a.log"], ["a.log.0", "a.log"]),
        ("a.log", ["a.log", "a.log.0"], ["a.log.1.gz", "a.log.0", "a.log"]),
        ("a.log", ["a.log", "a.log.0", "a.log.1.gz"], ["a.log.1.gz", "a.log.0", "a.log"]),
        ("b.log", ["b.log"], ["b.log.1", "b.log"]),
        ("a.log.0", ["a.log.0"], ["a.log.0"]),
        ("notes", ["notes"], ["notes"]),
        ("-", ["-"], ["-"]),
    ],
    ids=["whole", "cut once", "cut twice", "always cut", "from 1", "a backup", "no log", "standard input"],
)
def test_backups_reach_to_first_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, cut: list[str], expected: list[str]
) -> None:
    """The backups end at the first gap; virtlogd counts from 0, and logrotate from 1."""
    monkeypatch.chdir(tmp_path)
    for file in ("a.log", "a.log.0", "a.log.1.gz", "a.log.3", "b.log", "b.log.1", "b.log.3", "notes", "notes.0"):
        Path(file).touch()

    assert with_backups(name, lambda file: file in cut) == expected


@pytest.mark.parametrize("order", [1, -1])
def test_named_backups_are_one_stream(capsys: pytest.CaptureFixture[str], order: int) -> None:
    """The migration begins in the older file and goes on in the newer one."""
    report = _report(capsys, *[_ROTATED / _OLDER, _ROTATED / _NEWEST][::order])

    assert [stream["lines"] for stream in report["streams"]] == [6_624]
    assert [migration["vm"] for migration in report["migrations"]] == ["B19-web"]


def test_cut_log_reads_backups(capsys: pytest.CaptureFixture[str]) -> None:
    """The report is that of all files named."""
    alone = _report(capsys, _ROTATED / _NEWEST)
    named = _report(capsys, _ROTATED / _OLDER, _ROTATED / _NEWEST)

    assert alone == named


def test_backups_can_be_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The file that is named is all that is read."""
    report = _report(capsys, "--no-backups", _ROTATED / _NEWEST)

    assert [stream["lines"] for stream in report["streams"]] == [4_416]


def test_whole_log_needs_no_backup(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An older migration in a backup stays there."""
    recording = DATA / "qemu-7.2-log-idle.log"
    for name in ("vm.log", "vm.log.0"):
        shutil.copy(recording, tmp_path / name)
    report = _report(capsys, tmp_path / "vm.log")

    assert len(report["migrations"]) == 1


def test_four_rotated_files_are_one_stream(capsys: pytest.CaptureFixture[str]) -> None:
    """Virtlogd keeps three backups; the beginning is gone, and the report mentions it."""
    names = [f"postcopy-paused-recovered.log{part}.gz" for part in ("", ".0", ".1", ".2")]
    report = _report(capsys, *(_ROTATED / name for name in names))

    assert len(report["streams"]) == 1
    assert [migration["partial"] for migration in report["migrations"]] == [True]
