"""What a daemon makes of the items its sources give, without sources, clocks or processes."""

from __future__ import annotations

import re
import time
import tracemalloc
from pathlib import Path

from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.model import Result
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.pipeline import Pipeline, Sinks
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sources import Data, Position

from tests.support.paths import DATA

_SOURCE = SourceConfig(file="/var/log/libvirt/qemu/*.log")
_NAME = "/var/log/libvirt/qemu/db-7.log"


def _halves() -> tuple[bytes, bytes]:
    """A cancelled migration, cut between the end of its loop and the line that says how it ended."""
    data = (DATA / "qemu-7.2-log-cancelled.log").read_bytes()
    place = data.index(b"savevm_state_cleanup")
    line = data.rindex(b"\n", 0, place) + 1
    return data[:line], data[line:]


def _streams() -> tuple[Pipeline, MigrationHistory]:
    board = MigrationHistory()
    return Pipeline(Config(), Sinks(MetricsSink(), board)), board


def test_no_time_passes_in_a_stream_that_is_still_being_read() -> None:
    """A log read late holds its end a chunk further on: the time now must not end what that chunk does."""
    streams, board = _streams()
    streams.caught_up(time.time_ns())
    first, second = _halves()

    streams.take(_SOURCE, [Data(_NAME, first, None)])
    running = streams.tick(time.time_ns(), behind=[_SOURCE])
    streams.take(_SOURCE, [Data(_NAME, second, None)])
    streams.tick(time.time_ns())

    assert [migration.identity.vm for migration in running] == ["db-7"]
    assert [(each.result, each.result_inferred) for each in board.recent] == [(Result.CANCELLED, False)]


def test_no_time_passes_while_what_was_there_before_is_read() -> None:
    """A restart, too, must read on before it judges."""
    streams, board = _streams()
    first, second = _halves()

    streams.take(_SOURCE, [Data(_NAME, first, None)])
    running = streams.tick(time.time_ns())
    streams.caught_up(int(1795387147.02e9))
    streams.take(_SOURCE, [Data(_NAME, second, None)])
    streams.tick(time.time_ns())

    assert [migration.identity.vm for migration in running] == ["db-7"]
    assert [(each.result, each.result_inferred) for each in board.recent] == [(Result.CANCELLED, False)]


def _later(log: bytes, seconds: int) -> bytes:
    return re.sub(rb"@(\d+)\.", lambda match: b"@%d." % (int(match[1]) + seconds), log)


def test_a_log_of_years_takes_no_more_memory_than_one_of_a_day() -> None:
    """Of what ended in it before it was opened nothing is kept."""
    streams, board = _streams()
    data = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes()
    kept = []
    tracemalloc.start()
    for number in range(15):
        streams.take(_SOURCE, [Data(_NAME, _later(data, number * 3_600), None)])
        kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    streams.caught_up(time.time_ns())

    assert kept[-1] < kept[4] * 1.2
    assert board.recent == ()


def test_time_ends_what_waits_for_lines_that_do_not_come() -> None:
    """With everything read, the state that is missing is missing: the result is inferred and says so."""
    streams, board = _streams()
    streams.caught_up(time.time_ns())

    streams.take(_SOURCE, [Data(_NAME, _halves()[0], None)])
    streams.tick(time.time_ns())

    assert [(each.result, each.result_inferred) for each in board.recent] == [(Result.CANCELLED, True)]


def test_what_is_remembered_of_a_silent_file_outlives_several_restarts(tmp_path: Path) -> None:
    """A migration that waits prints nothing; a daemon restarted twice meanwhile goes on with it all the same."""
    config = Config(state_file=str(tmp_path / "state"))
    first, second = _halves()
    before = Pipeline(config, Sinks(MetricsSink(), MigrationHistory()))
    before.caught_up(time.time_ns())
    before.take(_SOURCE, [Data(_NAME, first, Position(1, 2, len(first)))])
    before.save()

    Pipeline(config, Sinks(MetricsSink(), MigrationHistory())).close(time.time_ns())
    board = MigrationHistory()
    after = Pipeline(config, Sinks(MetricsSink(), board))
    positions = after.positions()
    after.take(_SOURCE, [Data(_NAME, second, Position(1, 2, len(first + second)))])
    after.caught_up(time.time_ns())
    after.tick(time.time_ns())

    assert positions == {_NAME: Position(1, 2, len(first))}
    assert [(each.result, each.partial) for each in board.recent] == [(Result.CANCELLED, False)]
