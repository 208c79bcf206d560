"""Pipeline of a daemon, given the items of its sources, without sources, threads or processes."""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import tempfile
import time
import tracemalloc
from pathlib import Path

import pytest
from qemu_migration_exporter import checkpoint, state_store
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.model import Result, SurpriseKind
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.pipeline import Pipeline
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.sources import (
    CaughtUp,
    Data,
    DataLost,
    HistoryBegins,
    Item,
    Position,
    StatusChanged,
    StreamClosed,
)

from tests.support.paths import DATA
from tests.support.patience import patience
from tests.support.recordings import as_of_now
from tests.support.source_reader import unprivileged
from tests.support.web_helpers import wait_for

_SOURCE = SourceConfig(file="/var/log/libvirt/qemu/*.log")
_NAME = "/var/log/libvirt/qemu/db-7.log"
_OTHER = "/var/log/libvirt/qemu/web-1.log"
_IDLE = (DATA / "qemu-7.2-log-idle.log").read_bytes()


def _halves() -> tuple[bytes, bytes]:
    """A cancelled migration, cut between the end of its loop and the line with its outcome."""
    data = (DATA / "qemu-7.2-log-cancelled.log").read_bytes()
    place = data.index(b"savevm_state_cleanup")
    line = data.rindex(b"\n", 0, place) + 1
    return data[:line], data[line:]


_FIRST, _SECOND = _halves()
_PLACE = Position(1, 2, len(_FIRST))


class Run:
    """One life of a daemon's pipeline."""

    def __init__(self, state: Path | None = None, *, reports_past: bool = False) -> None:
        self.history, self.metrics = MigrationHistory(), MetricsSink()
        self.sinks = Sinks(self.metrics, self.history)
        config = Config(state_file=str(state) if state else None)
        self.pipeline = Pipeline(config, self.sinks, reports_past=reports_past)

    def settle(self) -> None:
        self.pipeline.settle([_SOURCE])

    def commit(self) -> None:
        """Write a checkpoint, the last one of this life."""
        self.pipeline.commit()
        self.kill()

    def kill(self) -> None:
        """Close the store of checkpoints as it is."""
        assert self.pipeline.store is not None
        self.pipeline.store.close()

    def take(self, *items: Item) -> None:
        self.pipeline.take(_SOURCE, items)

    def tick(self, *behind: str) -> list[str]:
        """Advance the time; return the names of the running machines."""
        return [each.identity.vm for each in self.pipeline.tick(time.time_ns(), behind)]

    @property
    def ended(self) -> list[tuple[str, Result]]:
        return [(each.identity.vm, each.result) for each in self.history.recent]

    def counter(self, name: str, **labels: str) -> float:
        samples = [sample for family in self.metrics.collect() for sample in family.samples]
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


_LIBVIRT = b"2026-11-27 23:29:00.000+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.9\n"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "No trace event of a migration was read yet"),
        (_LIBVIRT, "No trace event of a migration was read yet"),
        (_LIBVIRT + b"2026-11-27 23:31:00.000+0000: initiating migration\n", "web-1.log: a migration was started by"),
        (_FIRST, ""),
    ],
    ids=["nothing", "no migration", "untraced migration", "traced"],
)
def test_notice_explains_unseen_migrations(data: bytes, expected: str) -> None:
    run = Run()
    run.take(Data("web-1.log", data, None))

    assert run.pipeline.notice()[: len(expected) or None] == expected


_DENIED = StatusChanged("web-1.log", up=False, reason="Permission denied")


@pytest.mark.parametrize(
    ("items", "notice", "remarks"),
    [
        ([_DENIED], "web-1.log: Permission denied", []),
        (
            [Data("web-1.log", _LIBVIRT, None), _DENIED],
            "web-1.log: Permission denied",
            ["no trace event of a migration in 1 lines, and further lines cannot be read: Permission denied"],
        ),
        ([Data("web-1.log", _FIRST, None), _DENIED], "", []),
    ],
    ids=["nothing was read", "no migration was read", "traced"],
)
def test_silence_without_permission_names_it(
    items: list[Item], notice: str, remarks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Trace events that are not enabled are no likely cause then."""
    caplog.set_level(logging.INFO)
    run = Run()
    run.take(*items)
    run.tick()
    run.tick()
    assert run.pipeline.notice() == notice
    assert [vars(each)["reason"] for each in caplog.records if each.message == "stream silent"] == remarks

    run.take(StatusChanged("web-1.log", up=True, reason=""), Data("web-1.log", _LIBVIRT, None))
    run.tick()
    assert "Permission denied" not in run.pipeline.notice()


def test_past_migrations_are_reported_on_request() -> None:
    for reports_past, ended in ((True, [("db-7", Result.CANCELLED)]), (False, [])):
        run = Run(reports_past=reports_past)
        run.take(HistoryBegins(_NAME, 0), Data(_NAME, _FIRST + _SECOND, None), CaughtUp(_NAME))
        run.tick()

        assert ended == run.ended


def test_no_time_passes_in_late_stream() -> None:
    """The end of a log read late is a chunk further on: the current time must not end a migration that this chunk ends."""
    run = Run()
    run.settle()

    run.take(Data(_NAME, _FIRST, None))
    assert run.tick(_NAME) == ["db-7"]
    run.take(Data(_NAME, _SECOND, None))
    run.tick()

    assert [(each.result, each.result_inferred) for each in run.history.recent] == [(Result.CANCELLED, False)]


def test_late_stream_holds_no_other() -> None:
    """Time passes in the other streams of its pattern, and migrations that it ends are counted."""
    run = Run()
    run.settle()

    run.take(Data(_OTHER, b"something\n", None), Data(_NAME, _IDLE, None))
    run.tick(_OTHER)

    assert run.ended == [("db-7", Result.COMPLETED)]
    assert run.counter("qemu_migrations_finished_total", result="completed", side="source") == 1


def test_no_time_passes_during_history() -> None:
    """A daemon, too, must read on before it judges; others are judged meanwhile."""
    run = Run()

    run.take(HistoryBegins(_NAME, 0), Data(_NAME, _FIRST, None), Data(_OTHER, _IDLE, None))
    assert run.tick() == ["db-7"]
    run.take(Data(_NAME, _SECOND, None), CaughtUp(_NAME))
    run.tick()

    assert run.ended == [("web-1", Result.COMPLETED)]


def test_open_migration_shows_after_history() -> None:
    """And not before: it may end in the next chunk."""
    run = Run()

    run.take(HistoryBegins(_NAME, 0), Data(_NAME, as_of_now(_IDLE + _FIRST[:-3_000]), None))
    assert run.counter("qemu_migrations_started_total", side="source") == 0
    run.take(CaughtUp(_NAME))

    assert run.counter("qemu_migrations_started_total", side="source") == 1
    assert run.ended == []


def _later(log: bytes, seconds: int) -> bytes:
    return re.sub(rb"@(\d+)\.", lambda match: b"@%d." % (int(match[1]) + seconds), log)


def test_memory_is_independent_of_log_age() -> None:
    """Migrations that ended before the log was opened are not kept."""
    run = Run()
    data = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes()
    kept = []
    run.take(HistoryBegins(_NAME, 0))
    tracemalloc.start()
    for number in range(15):
        run.take(Data(_NAME, _later(data, number * 3_600), None))
        kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    run.take(CaughtUp(_NAME))

    assert kept[-1] < kept[4] * 1.5 + 100_000
    assert run.ended == []


def test_time_ends_wait_for_missing_lines() -> None:
    """With everything read, a missing state is final: the result is inferred and marked so."""
    run = Run()
    run.settle()

    run.take(Data(_NAME, _FIRST, None))
    run.tick()

    assert [(each.result, each.result_inferred) for each in run.history.recent] == [(Result.CANCELLED, True)]


def test_position_in_forbidden_directory_is_kept() -> None:
    """A restart with fewer rights ends neither the program nor what it was reading."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o777)
        state, folder = Path(directory, "state"), Path(directory, "logs")
        log = folder / "db-7.log"
        with unprivileged():
            folder.mkdir()
            log.write_bytes(_FIRST)
            first = Run(state)
            first.settle()
            first.take(Data(str(log), _FIRST, _PLACE))
            first.commit()
            folder.chmod(0)
            second = Run(state)
            second.settle()
            second.commit()
            folder.chmod(0o755)
            third = Run(state)

        assert third.pipeline.positions() == {str(log): _PLACE}


def test_silent_file_shows_after_restart(tmp_path: Path) -> None:
    """A migration that waits prints nothing; it is running all the same, and goes on with its first line."""
    state = tmp_path / "state"
    first = Run(state)
    first.settle()
    first.take(Data(_NAME, _FIRST, _PLACE))
    first.commit()

    for _ in range(2):
        again = Run(state)
        assert again.pipeline.positions() == {_NAME: _PLACE}
        again.take(CaughtUp(_NAME))
        assert [stream.name for stream, _ in again.pipeline.all()] == [_NAME]
        again.pipeline.close(time.time_ns())
        again.commit()
    last = Run(state)
    last.take(Data(_NAME, _SECOND, Position(1, 2, len(_FIRST + _SECOND))), CaughtUp(_NAME))
    last.tick()
    last.kill()

    assert [(each.result, each.partial) for each in last.history.recent] == [(Result.CANCELLED, False)]


@pytest.mark.parametrize("is_resumed", [True, False], ids=["resumed", "new"])
@pytest.mark.parametrize("ahead_seconds", [-3_600, 0, 3_600])
def test_log_read_at_start_ends_by_time(tmp_path: Path, *, is_resumed: bool, ahead_seconds: int) -> None:
    """Its lines are later than the wall time if the clock was set back, and have no later line to show it."""
    state = tmp_path / "state"
    if is_resumed:
        before = Run(state)
        before.settle()
        before.take(Data(_NAME, b"a line of another kind\n", Position(1, 2, 23)))
        before.commit()
    run = Run(state)
    lines = _later(as_of_now(_FIRST + _SECOND), ahead_seconds)
    opening = [] if is_resumed else [HistoryBegins(_NAME, 0)]
    run.take(*opening, Data(_NAME, lines[:5_000], _PLACE), Data(_NAME, lines[5_000:], _PLACE), CaughtUp(_NAME))

    wait_for(lambda: run.tick() == [], 10)
    run.kill()


def test_save_contains_the_moment_of_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that change, end or are left alone while it is encoded: one stream a part, as of a thousand streams."""
    monkeypatch.setattr(state_store, "_PART_SECONDS", 0.0)
    names = [f"/var/log/libvirt/qemu/vm-{number}.log" for number in range(6)]
    run = Run(tmp_path / "state")
    run.settle()
    run.take(*[Data(name, _FIRST, _PLACE) for name in names])
    run.pipeline.commit()
    store = run.pipeline.store
    assert store is not None
    assert store.is_encoding
    run.take(*[Data(name, _SECOND, Position(1, 2, len(_FIRST + _SECOND))) for name in names[:2]])
    run.take(StreamClosed(names[2]))
    store.encode_some()
    assert store.is_encoding
    run.kill()

    again = Run(tmp_path / "state")
    assert again.pipeline.positions() == dict.fromkeys(names, _PLACE)
    again.take(*[CaughtUp(name) for name in names])
    lines = {stream.name: stream.counts.lines for stream, _ in again.pipeline.all() if not stream.is_idle}
    assert lines == dict.fromkeys(names, _FIRST.count(b"\n"))
    assert again.counter("qemu_migrations_finished_total") == 0
    again.kill()


def test_counters_continue_after_restart(tmp_path: Path) -> None:
    """Bytes behind the checkpoint are read again and counted once, whichever counter they belong to."""
    state = tmp_path / "state"
    undisturbed, killed = Run(), Run(state)
    for run in (undisturbed, killed):
        run.settle()
        run.take(Data(_NAME, _IDLE + _FIRST[:9_000], Position(1, 2, len(_IDLE) + 9_000)))
    killed.commit()
    killed.take(Data(_NAME, _FIRST[9_000:], Position(1, 2, len(_IDLE + _FIRST))))
    again = Run(state)
    for run in (undisturbed, again):
        run.take(Data(_NAME, _FIRST[9_000:] + _SECOND, Position(1, 2, 0)), CaughtUp(_NAME), DataLost(_NAME, "x"))
        run.tick()

    again.kill()
    samples = [_counters(run) for run in (undisturbed, again)]
    assert samples[0] == samples[1]
    assert samples[0]["qemu_migrations_started_total", "side=source"] == 2
    counts = [run.pipeline.all()[0][0].counts for run in (undisturbed, again)]
    assert counts[0] == counts[1]
    assert counts[0].surprises[SurpriseKind.BYTES_LOST] == 1


def _counters(run: Run) -> dict[tuple[str, str], float]:
    return {
        (sample.name, ",".join(f"{key}={value}" for key, value in sample.labels.items())): sample.value
        for family in run.metrics.collect()
        for sample in family.samples
        if sample.name.endswith(("_total", "_count", "_sum", "_bucket"))
    }


@pytest.mark.parametrize(
    ("pattern", "is_newer", "ended"),
    [
        (_SOURCE, True, [("web-1", Result.COMPLETED)]),
        (_SOURCE, False, []),
        (SourceConfig(file="/elsewhere/*.log"), True, []),
    ],
    ids=["since the checkpoint", "before it", "of another pattern"],
)
def test_log_made_after_checkpoint_is_new(
    tmp_path: Path, pattern: SourceConfig, is_newer: bool, ended: list[tuple[str, Result]]
) -> None:
    """It is read from its beginning, and nothing of it has been reported."""
    state = tmp_path / "state"
    before = Run(state)
    before.pipeline.settle([pattern])
    before.kill()
    modified_ns = time.time_ns() if is_newer else time.time_ns() - 10**11

    after = Run(state)
    after.take(HistoryBegins(_OTHER, modified_ns), Data(_OTHER, _IDLE, Position(1, 3, 9)), CaughtUp(_OTHER))
    after.tick()
    after.kill()

    assert after.ended == ended


def test_half_read_history_is_not_new(tmp_path: Path) -> None:
    """The daemon is killed while it reads a log for the first time: the next one begins as the first did."""
    state = tmp_path / "state"
    first = Run(state)
    first.take(HistoryBegins(_OTHER, time.time_ns()), Data(_OTHER, _IDLE[:9_000], Position(1, 3, 9_000)))
    first.settle()
    first.kill()

    second = Run(state)
    second.take(HistoryBegins(_OTHER, time.time_ns()), Data(_OTHER, _IDLE, Position(1, 3, 9)), CaughtUp(_OTHER))
    second.tick()
    second.kill()

    assert second.ended == []


def test_start_is_committed_at_once(tmp_path: Path) -> None:
    """A daemon that is killed right after its start has followed its patterns."""
    state = tmp_path / "state"
    run = Run(state)
    run.settle()
    run.kill()

    kept = checkpoint.load(state, ErrorCounter())
    assert kept.sources == {_SOURCE.file}
    assert kept.saved_ns is not None


def test_flush_saves_what_was_read(tmp_path: Path) -> None:
    """Without the end of the daemon."""
    state = tmp_path / "state"
    run = Run(state)
    run.settle()
    run.take(Data(_NAME, _FIRST, _PLACE))
    run.pipeline.flush(patience(4))

    assert checkpoint.load(state, ErrorCounter()).streams[_NAME].position == _PLACE
    run.kill()


def test_lost_data_is_stream_surprise() -> None:
    """And of no other."""
    run = Run()
    run.settle()
    run.take(Data(_NAME, b"x\n", None), Data(_OTHER, b"x\n", None), DataLost(_NAME, "truncated"))

    surprises = {stream.name: stream.counts.surprises for stream, _ in run.pipeline.all()}
    assert surprises == {_NAME: {SurpriseKind.BYTES_LOST: 1}, _OTHER: {}}


def test_closed_stream_ends_migration() -> None:
    """The next stream of the name is another one."""
    run = Run()
    run.settle()
    run.take(Data(_NAME, _FIRST[:9_000], None), StreamClosed(_NAME))

    assert run.ended == [("db-7", Result.UNKNOWN)]
    assert run.pipeline.all() == []


_RUNNING = (
    "migrate_set_state new state setup",
    "savevm_state_header ",
    "migrate_set_state new state active",
    "migration_thread_setup_complete ",
)


def _traced(process: int, *events: str) -> bytes:
    """Write events of a process as a probe does, all of them now."""
    now_ns = time.time_ns()
    lines = [f"{process}/{process}@{number} {event}" for number, event in enumerate(events, 1_000_000)]
    return "\n".join([f"anchor 1000000 {now_ns}", *lines, ""]).encode()


def test_a_killed_process_ends_its_migration_only(tmp_path: Path) -> None:
    """It prints nothing about it, and the others of its stream go on."""
    program = tmp_path / "qemu-system-x86_64"
    shutil.copy("/bin/sleep", program)
    run = Run()
    run.settle()
    with subprocess.Popen([program, "600"]) as killed, subprocess.Popen([program, "600"]) as spared:
        try:
            for process in (killed, spared):
                run.take(Data("probe", _traced(process.pid, *_RUNNING), None))
            wait_for(lambda: len(run.tick()) == 2)
            killed.kill()
            wait_for(lambda: bool(run.tick()) and bool(run.history.recent))
        finally:
            killed.kill()
            spared.kill()
    (ended,) = run.history.recent
    assert (ended.identity.vm, ended.result) == (f"probe/{killed.pid}", Result.FAILED)
    assert ended.error == f"QEMU ended: process {killed.pid} is gone"


def test_a_process_that_ended_while_no_daemon_ran(tmp_path: Path) -> None:
    """Its migration ends with its last line, because the time of its end is not known."""
    program, state = tmp_path / "qemu-system-x86_64", tmp_path / "state"
    shutil.copy("/bin/sleep", program)
    with subprocess.Popen([program, "600"]) as process:
        try:
            data = _traced(process.pid, *_RUNNING)
            before = Run(state)
            before.settle()
            before.take(Data("probe", data, Position(1, 2, len(data))))
            wait_for(lambda: len(before.tick()) == 1)
            before.commit()
        finally:
            process.kill()
    again = Run(state)
    again.take(CaughtUp("probe"))
    wait_for(lambda: not again.tick())
    again.kill()
    (ended,) = again.history.recent
    assert ended.error == f"QEMU ended: process {process.pid} is gone"
    assert ended.duration_ns is not None
    assert ended.duration_ns < 10**9


def test_a_process_that_completed_and_left_has_not_failed(tmp_path: Path) -> None:
    """An orchestrator ends the source's QEMU as soon as the migration has completed."""
    program = tmp_path / "qemu-system-x86_64"
    shutil.copy("/bin/sleep", program)
    run = Run()
    run.settle()
    with subprocess.Popen([program, "600"]) as process:
        try:
            run.take(Data("probe", _traced(process.pid, *_RUNNING), None))
            wait_for(lambda: len(run.tick()) == 1)
            run.take(Data("probe", _traced(process.pid, "migrate_set_state new state completed"), None))
        finally:
            process.kill()
    wait_for(lambda: not run.tick())
    assert [each.result for each in run.history.recent] == [Result.COMPLETED]
