"""A failing sink, stream or source is counted and logged, and stops no other part."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.checkpoint_data import StreamCheckpoint
from qemu_migration_exporter.config.schema import Config, SourceConfig
from qemu_migration_exporter.core.model import Result, Side, SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.pipeline import Pipeline
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.sources import CaughtUp, Data, Position
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts
from qemu_migration_exporter.tracing.export.processor import CountingProcessor
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.daemon import running
from tests.support.paths import DATA
from tests.support.recordings import as_of_now

_CANCELLED = as_of_now((DATA / "qemu-7.2-log-cancelled.log").read_bytes())
_IDLE = as_of_now((DATA / "qemu-7.2-log-idle.log").read_bytes())
_SOURCE = SourceConfig(file="/var/log/libvirt/qemu/*.log")


class _OnAFullDisk(CountingProcessor):
    """Writes each span to a disk that is full."""

    def __init__(self) -> None:
        self.asked = 0

    def on_end(self, span: ReadableSpan) -> None:
        self.asked += 1
        Path("/dev/full").write_text(span.name, encoding="ascii")

    def counts(self) -> SpanCounts:
        return {}


def _told(board: MigrationHistory) -> list[tuple[str, Result]]:
    return sorted((each.identity.vm, each.result) for each in board.recent)


def test_failing_sink_does_not_block_others(caplog: pytest.LogCaptureFixture) -> None:
    """Every failure is counted, the first one logged; the sink still gets all later changes."""
    broken, board, metrics = _OnAFullDisk(), MigrationHistory(), MetricsSink()
    parts = Sinks(metrics, board, SpansSink([broken]))
    streams = Pipeline(Config(), parts)
    streams.settle([])

    for vm, log in (("a", _CANCELLED), ("b", _IDLE)):
        streams.take(_SOURCE, [Data(f"/var/log/libvirt/qemu/{vm}.log", log, None)])
    streams.tick(time.time_ns() + 10**10)

    assert _told(board) == [("a", Result.CANCELLED), ("b", Result.COMPLETED)]
    samples = {sample.name: sample.value for family in metrics.collect() for sample in family.samples if sample.labels.get("side") == Side.SOURCE}  # fmt: skip
    assert samples["qemu_migrations_started_total"] == 2
    assert parts.failures.counts() == {**dict.fromkeys(Component, 0), Component.SPANS: broken.asked}
    assert broken.asked > 20
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == [
        "a change is lost to the spans: No space left on device"
    ]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"processes": [5]},
        {"format_name": "morse"},
        {"format_name": "qemu-log", "clock": 5},
        {"tail": 5},
        {"releases": [[10, 0], "x"]},
    ],
    ids=["no process", "no format", "no clock", "no bytes", "no release"],
)
def test_corrupt_state_costs_one_stream(tmp_path: Path, nonsense: dict[str, Any]) -> None:
    """The stream starts from its beginning, which is counted; later lines are read."""
    names = [str(tmp_path / name) for name in ("a.log", "b.log")]
    for name in names:
        Path(name).touch()
    file = tmp_path / "state"
    line = json.loads(
        checkpoint.encode_stream(
            names[0], StreamCheckpoint(position=Position(1, 2, 0), state=Stream("a", vm="a").snapshot())
        )
    )
    line["state"] |= nonsense
    checkpoint.save(file, checkpoint.encode([json.dumps(line).encode()]))
    board = MigrationHistory()
    parts = Sinks(MetricsSink(), board)
    streams = Pipeline(Config(state_file=str(file)), parts)
    streams.settle([])

    prelude = _CANCELLED.partition(b":")[0] + b":runstate_set current_run_state 9 (running) new_state 1 (paused)\n"
    streams.take(_SOURCE, [Data(name, chunk, Position(1, 2, 9)) for chunk in (prelude, _CANCELLED) for name in names])
    streams.take(_SOURCE, [CaughtUp(name) for name in names])
    streams.tick(time.time_ns() + 10**10)
    streams.close_store()

    assert _told(board) == [("a", Result.CANCELLED), ("b", Result.CANCELLED)]
    assert parts.failures.counts() == {**dict.fromkeys(Component, 0), Component.STATE: 1}
    surprises = {stream.name: stream.counts.surprises[SurpriseKind.BYTES_LOST] for stream, _ in streams.all()}
    assert surprises == dict.fromkeys(names, 0)
    assert set(checkpoint.load(file, ErrorCounter()).streams) == set(names)


def test_unreadable_source_blocks_no_other(tmp_path: Path) -> None:
    """A reload lists it first: it is counted and logged, and later sources are read."""
    config = tmp_path / "exporter.yml"
    first, second, third = (tmp_path / f"{name}.log" for name in "abc")
    config.write_text(f"sources:\n  - file: {first}\n")
    with running(tmp_path, f"--config.file={config}") as daemon:
        config.write_text(
            f"sources:\n  - file: {tmp_path}/*/never.log\n  - file: {first}\n  - file: {second}\n  - file: {third}\n"
        )
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: 'msg="config reloaded" sources=3' in daemon.log, "three are read")
        for log in (first, second, third):
            log.write_bytes(_IDLE)
        finished = {"kind": "live", "result": "completed", "side": "source"}
        daemon.wait_until(lambda: daemon.metric("qemu_migrations_finished_total", **finished) == 3, "all three")

        assert daemon.metric("qemu_migration_exporter_failures_total", part="source") == 1
        assert daemon.metric("qemu_migration_exporter_config_last_reload_successful") == 0
        assert "source cannot be read" in daemon.log
