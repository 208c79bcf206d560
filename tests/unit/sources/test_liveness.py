"""Ends of traced processes, as /proc shows them."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from qemu_migration_exporter.sources.liveness import Process, ProcessWatch, read_process

_SECOND = 1_000_000_000
_TAIL = "1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0"


def _write(proc: Path, process: int, *, name: str = "qemu-system-x86", state: str = "S", ticks: int = 70) -> None:
    (proc / str(process)).mkdir(exist_ok=True)
    (proc / str(process) / "stat").write_text(f"{process} ({name}) {state} {_TAIL} {ticks} 0 0\n")


class Clock:
    """Monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture(name="watch")
def _watch(tmp_path: Path) -> ProcessWatch:
    return ProcessWatch(tmp_path, Clock())


@pytest.fixture(name="qemu")
def _qemu(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = tmp_path / "qemu-system-x86_64"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("name", "state", "expected"),
    [
        ("qemu-kvm", "S", Process(b"qemu-kvm", 70)),
        ("a) R (b c", "R", Process(b"a) R (b c", 70)),
        ("qemu-kvm", "Z", None),
        ("qemu-kvm", "X", None),
    ],
)
def test_process_is_read_from_its_stat(tmp_path: Path, name: str, state: str, expected: Process | None) -> None:
    _write(tmp_path, 4711, name=name, state=state)
    assert read_process(4711, tmp_path) == expected


def test_no_process_without_an_entry(tmp_path: Path) -> None:
    assert read_process(4711, tmp_path) is None


def test_start_is_that_of_a_real_process(qemu: subprocess.Popen[bytes]) -> None:
    process = read_process(qemu.pid)
    assert process is not None
    assert process.name == b"qemu-system-x86"
    assert abs(process.started_ns - time.time_ns()) < 60 * _SECOND


def test_killed_process_is_gone_after_the_grace(qemu: subprocess.Popen[bytes]) -> None:
    """Though its parent has not waited for it, so that it is a zombie."""
    watch, since = ProcessWatch(clock=Clock()), {qemu.pid: time.time_ns()}
    assert watch.ended(since, 1) == []
    qemu.kill()
    while read_process(qemu.pid) is not None:
        time.sleep(0.001)  # the kernel ends it a moment later
    assert [watch.ended(since, now_ns) for now_ns in (2, 3, 4)] == [[], [], [(qemu.pid, 2)]]


@pytest.mark.parametrize("change", ["vanishes", "is reused"])
def test_process_is_gone_when_its_entry(tmp_path: Path, watch: ProcessWatch, change: str) -> None:
    _write(tmp_path, 7)
    since = {7: time.time_ns()}
    assert watch.ended(since, 1) == []
    if change == "vanishes":
        shutil.rmtree(tmp_path / "7")
    else:
        _write(tmp_path, 7, ticks=71)
    assert [watch.ended(since, now_ns) for now_ns in (2, 3, 4)] == [[], [], [(7, 2)]]


@pytest.mark.parametrize(
    ("name", "since_ns"),
    [("bash", time.time_ns()), ("qemu-kvm", 5)],
    ids=["another program", "began after the migration"],
)
def test_namesake_is_not_watched(tmp_path: Path, watch: ProcessWatch, name: str, since_ns: int) -> None:
    """The lines are from another host, or from before a reboot."""
    _write(tmp_path, 7, name=name)
    assert watch.ended({7: since_ns}, 1) == []
    shutil.rmtree(tmp_path / "7")
    assert [watch.ended({7: since_ns}, now_ns) for now_ns in (2, 3, 4)] == [[], [], []]


def test_process_never_seen_is_not_gone(watch: ProcessWatch) -> None:
    assert [watch.ended({7: 5}, now_ns) for now_ns in (1, 2, 3, 4)] == [[], [], [], []]


def test_number_of_an_ended_process_is_used_again(tmp_path: Path, watch: ProcessWatch) -> None:
    """The number belongs to another QEMU, which begins another migration."""
    _write(tmp_path, 7)
    since = {7: time.time_ns()}
    watch.ended(since, 1)
    watch.ended({}, 1)
    _write(tmp_path, 7, ticks=71)
    assert [watch.ended(since, now_ns) for now_ns in (2, 3, 4, 5)] == [[], [], [], []]
    shutil.rmtree(tmp_path / "7")
    assert [watch.ended(since, now_ns) for now_ns in (6, 7, 8)] == [[], [], [(7, 6)]]


def test_grace_begins_anew_with_a_migration(tmp_path: Path, watch: ProcessWatch) -> None:
    """The last migration ended by its own line, although its process was gone."""
    since = {7: time.time_ns()}
    _write(tmp_path, 7)
    watch.ended(since, 1)
    shutil.rmtree(tmp_path / "7")
    assert watch.ended(since, 2) == []
    assert watch.ended({}, 3) == []

    assert [watch.ended(since, now_ns) for now_ns in (4, 5, 6)] == [[], [], [(7, 4)]]


def test_renamed_qemu_is_known_by_its_program(tmp_path: Path, watch: ProcessWatch) -> None:
    """`-name web,process=web` changes the name in /proc."""
    _write(tmp_path, 7, name="web")
    (tmp_path / "7" / "cmdline").write_bytes(b"/usr/bin/qemu-system-x86_64\0-name\0web,process=web\0")
    since = {7: time.time_ns()}
    watch.ended(since, 1)
    shutil.rmtree(tmp_path / "7")
    assert [watch.ended(since, now_ns) for now_ns in (2, 3, 4)] == [[], [], [(7, 2)]]


def test_process_that_ends_at_once_is_gone(tmp_path: Path, watch: ProcessWatch) -> None:
    """Before the first check; its first line was enough, or another process of the stream shows the host."""
    _write(tmp_path, 7)
    watch.look(7)
    shutil.rmtree(tmp_path / "7")
    since = {7: time.time_ns(), 8: time.time_ns()}
    assert [watch.ended(since, now_ns) for now_ns in (1, 2, 3)] == [[], [], [(7, 1), (8, 1)]]


@pytest.mark.parametrize(
    ("known", "boot", "ends"),
    [({7: 70}, "a", False), ({7: 69}, "a", True), ({7: 70}, "b", True), ({}, "a", False)],
    ids=["it runs", "its number is another's", "another boot", "nothing known"],
)
def test_process_may_end_while_no_daemon_runs(
    known: dict[int, int], boot: str, tmp_path: Path, watch: ProcessWatch, *, ends: bool
) -> None:
    """The time of its end is not known then."""
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    (tmp_path / "sys/kernel/random/boot_id").write_text("a\n")
    _write(tmp_path, 7)
    watch.restore(known, boot)
    assert [watch.ended({7: 5}, now_ns) for now_ns in (1, 2, 3)] == [[], [], [(7, 0)] if ends else []]


def test_known_processes_are_kept_and_bounded(tmp_path: Path, watch: ProcessWatch) -> None:
    for process in range(2_050):
        _write(tmp_path, process, ticks=process)
        watch.look(process)
    watch.look(9_999)
    assert watch.known() == {process: process for process in range(2, 2_050)}


def test_process_is_looked_up_once_a_second(tmp_path: Path) -> None:
    _write(tmp_path, 7)
    since = {7: time.time_ns()}
    times = iter([0.0, 0.5, 1.0, 2.1, 3.2])
    watch = ProcessWatch(tmp_path, lambda: next(times))
    watch.ended(since, 1)
    shutil.rmtree(tmp_path / "7")
    assert [watch.ended(since, now_ns) for now_ns in (2, 3, 4, 5)] == [[], [], [], [(7, 3)]]
