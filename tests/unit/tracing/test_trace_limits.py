"""Limits on the size of a trace, and the spans beyond them."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.core.changes import (
    Change,
    DeviceFinished,
    MigrationEnded,
    PhaseEnded,
    Resumed,
    RoundEnded,
    Started,
    SyncFinished,
)
from qemu_migration_exporter.core.model import (
    ClockKind,
    Device,
    Identity,
    Migration,
    Mode,
    Phase,
    PhaseName,
    Progress,
    Result,
    Round,
    Side,
    Sync,
    Verdict,
)
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.emitter import truncate
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.spans import SpansSink
from qemu_migration_exporter.tracing.trace_limits import TraceLimits

from tests.support.core_helpers import log_lines
from tests.support.paths import DATA
from tests.support.recordings import tree

SECOND = 1_000_000_000
IDENTITY = Identity(
    trace_id="5" * 32, vm="web-42", uuid=None, stream="s", side=Side.SOURCE, clock=ClockKind.PROBE, start_ns=SECOND
)
PROGRESS = Progress(
    phase=None, state=None, mode=Mode.PRECOPY, round=1, pending_bytes=None, threshold_bytes=None, ram_bytes=None,
    bandwidth_bytes_per_second=None, dirty_bytes_per_second=None, downtime_limit_seconds=None, throttle_ratio=None,
    transferred_bytes=None, bitmap_syncs=0, iterations=0, throttles=0, postcopy_requests=None, last_progress_ns=0,
    verdict=Verdict(),
)  # fmt: skip


def migration(*rounds: Round, devices: Iterable[Device] = (), end_ns: int = 1_000 * SECOND) -> Migration:
    """Return a migration that completed."""
    return Migration(
        identity=IDENTITY, result=Result.COMPLETED, result_inferred=False, partial=False, error=None, outcome_ns=end_ns,
        end_ns=end_ns, setup_ns=None, downtime_ns=None, downtime_start_ns=None, progress=PROGRESS, rounds=rounds,
        phases=(), devices=tuple(devices), stalls=(),
    )  # fmt: skip


def round_of(number: int, seconds: int = 7) -> Round:
    """Return a round of seven seconds; the fifth has the least pending."""
    start_ns = SECOND + (number - 1) * seconds * SECOND
    return Round(
        number=number, start_ns=start_ns, end_ns=start_ns + seconds * SECOND, iterations=2, transferred_bytes=100,
        pending_at_start_bytes=1_000 + abs(number - 5), pending_at_end_bytes=number, dirtied_bytes=10,
        bandwidth_bytes_per_second=7.0,
    )  # fmt: skip


def ended(number: int) -> RoundEnded:
    """Return the end of a round."""
    return RoundEnded(IDENTITY.trace_id, round_of(number))


class Sent:
    """A sink with limits and its spans."""

    def __init__(self, **limits: int) -> None:
        self._out = io.StringIO()
        self._delivery = BlockingSpanProcessor(OtlpJsonWriter(self._out))
        self.sink = SpansSink([self._delivery], limits=TraceLimits(**limits))

    def apply(self, *changes: Change) -> None:
        self.sink.apply(changes)

    @property
    def spans(self) -> list[dict[str, Any]]:
        """Spans so far."""
        self._delivery.force_flush()
        requests = map(json.loads, self._out.getvalue().splitlines())
        return [span for each in requests for span in each["resourceSpans"][0]["scopeSpans"][0]["spans"]]

    @property
    def names(self) -> list[str]:
        return [span["name"] for span in self.spans]

    def attributes(self, name: str) -> list[dict[str, Any]]:
        return [
            {
                pair["key"].removeprefix("qemu.migration."): next(iter(pair["value"].values()))
                for pair in each["attributes"]
            }
            for each in self.spans
            if each["name"] == name
        ]


def test_excess_rounds_share_minute_spans() -> None:
    sent = Sent(max_rounds=3)
    sent.apply(Started(IDENTITY, PROGRESS), *map(ended, range(1, 20)))
    assert sent.names == ["migrate.start", *["iterate"] * 3, *["iterate.batch"] * 2]

    sent.apply(MigrationEnded(IDENTITY.trace_id, migration(*map(round_of, range(1, 20)))))

    batches = sent.attributes("iterate.batch")
    assert [(each["round"], each["last_round"], each["rounds"]) for each in batches] == [
        ("4", "8", "5"),
        ("9", "17", "9"),
        ("18", "19", "2"),
    ]
    assert batches[0] == {
        "rounds": "5", "round": "4", "last_round": "8", "iterations": "10", "transferred_bytes": "500",
        "pending_at_start_bytes": "1001", "pending_at_end_bytes": "8", "best_pending_bytes": "1000", "best_round": "5",
        "dirtied_bytes": "50", "bandwidth_bytes_per_second": 7.0,
    }  # fmt: skip
    assert sent.attributes("migrate")[0]["rounds"] == "19"
    assert tree(sent.spans).count("iterate.batch") == 3


def test_batch_leaves_after_its_minute() -> None:
    """A migration whose next round takes an hour shows the rounds before it."""
    sent = Sent(max_rounds=0)
    sent.apply(Started(IDENTITY, PROGRESS), ended(1), ended(2))
    sent.sink.tick(SECOND + 61 * SECOND)
    assert sent.names == ["migrate.start"]  # a round that ended at 0:59 may still arrive

    sent.sink.tick(SECOND + 62 * SECOND)
    sent.sink.tick(SECOND + 63 * SECOND)

    assert sent.names == ["migrate.start", "iterate.batch"]

    sent.apply(ended(3), ended(9))  # the third is late: the source lags behind
    sent.sink.tick(SECOND + 200 * SECOND)
    batches = sent.attributes("iterate.batch")
    assert [(each["round"], each["last_round"]) for each in batches] == [("1", "2"), ("3", "9")]
    assert len({span["spanId"] for span in sent.spans}) == len(sent.spans)


def test_restart_makes_same_batches() -> None:
    """The batch that waited is made again, with the same id."""
    whole = Sent(max_rounds=3)
    whole.apply(Started(IDENTITY, PROGRESS), *map(ended, range(1, 20)))
    for last in range(20):
        before, after = Sent(max_rounds=3), Sent(max_rounds=3)
        before.apply(Started(IDENTITY, PROGRESS), *map(ended, range(1, last + 1)))
        after.apply(
            Resumed(IDENTITY, PROGRESS, tuple(map(round_of, range(1, last + 1)))), *map(ended, range(last + 1, 20))
        )

        assert [*before.spans, *after.spans] == whole.spans


def test_batched_rounds_omit_syncs() -> None:
    """They would have no parent."""
    sent = Sent(max_rounds=1)
    syncs = [
        Sync(number=number, start_ns=SECOND, end_ns=SECOND, dirtied_bytes=0, phase=PhaseName.ITERATE, round=number)
        for number in (1, 2)
    ]
    sent.apply(Started(IDENTITY, PROGRESS), *(SyncFinished(IDENTITY.trace_id, sync) for sync in syncs))

    assert [each["bitmap_sync"] for each in sent.attributes("bitmap_sync")] == ["1"]


def device(number: int) -> Device:
    """Return a device; a larger number takes longer."""
    return Device(
        number=number,
        name=f"0000:00:0{number}.0/vfio",
        vmsd_name="vfio",
        instance=0,
        start_ns=500 * SECOND + 100 * number,
        duration_ns=number * 10,
    )


def test_excess_devices_share_a_span() -> None:
    sent = Sent(max_devices=2)
    devices = [device(number) for number in range(1, 6)]
    phase = Phase(name=PhaseName.COMPLETE_PRECOPY, start_ns=500 * SECOND, end_ns=501 * SECOND)
    sent.apply(
        Started(IDENTITY, PROGRESS),
        *(DeviceFinished(IDENTITY.trace_id, each) for each in devices),
        PhaseEnded(IDENTITY.trace_id, phase),
        MigrationEnded(IDENTITY.trace_id, migration(devices=devices)),
    )

    assert sent.names == ["migrate.start", "save vfio", "save vfio", "complete_precopy", "save.batch", "migrate"]
    assert sent.attributes("save.batch") == [
        {
            "devices": "3",
            "devices_seconds": 120 / 1e9,
            "slowest_device.idstr": "0000:00:05.0/vfio",
            "slowest_device.duration_seconds": 50 / 1e9,
        }
    ]
    assert sent.attributes("migrate")[0]["devices"] == "5"
    tree(sent.spans)  # no orphan


def test_root_counts_excess_spans() -> None:
    """Phases, rounds and the root are always sent."""
    sent = Sent(max_spans=2)
    syncs = [
        Sync(number=number, start_ns=SECOND, end_ns=SECOND, dirtied_bytes=0, phase=None, round=None)
        for number in range(1, 6)
    ]
    sent.apply(Started(IDENTITY, PROGRESS), *(SyncFinished(IDENTITY.trace_id, sync) for sync in syncs))
    sent.sink.interrupt(SECOND)
    sent.apply(ended(1), MigrationEnded(IDENTITY.trace_id, migration(round_of(1))))

    assert sent.names == ["migrate.start", "bitmap_sync", "bitmap_sync", "iterate", "migrate"]
    assert sent.attributes("migrate")[0]["omitted_spans"] == "4"


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("short", 24, "short"),
        ("x" * 40, 40, "x" * 40),
        ("x" * 100, 40, "x" * 16 + "… and 84 more"),
        ("x" * 100, 5, "… and 100 more"),
        ("web-\udcff", 40, "web-?"),
    ],
)
def test_long_text_ends_with_missing_count(text: str, limit: int, expected: str) -> None:
    """Invalid Unicode must not lose the span."""
    assert truncate(text, limit) == expected


def _of(log: str) -> Sent:
    sent, stream = Sent(), Stream("x", vm="web-42")
    sent.apply(*stream.feed(log.encode()), *stream.close())
    return sent


def test_oversized_values_are_truncated() -> None:
    """Names of devices, texts of errors, and numbers and times that no protocol can encode."""
    sent = _of(
        log_lines(
            f"""
            M migrate_set_state new state setup
            savevm_state_header
            migration_thread_setup_complete
            migrate_pending pending size {2**63} max 0
            savevm_state_iterate
            migration_thread_low_pending 0
            savevm_state_complete_precopy
            savevm_section_start {"d" * 256}, section_id 5
            vmstate_save {"d" * 256}, {"v" * 5_000}
            savevm_section_end {"d" * 256}, section_id 5 -> 0
            M migrate_fd_error error={"e" * 5_000}
            M migrate_set_state new state failed
            """
        )
    )

    spans = {span["name"].partition(" ")[0]: span for span in sent.spans}
    assert len(spans["save"]["name"]) <= 128
    assert len(spans["migrate"]["status"]["message"]) <= 4_096
    assert spans["migrate"]["status"]["message"].endswith("e… and 928 more")
    assert all(len(each.get("device.idstr", "")) <= 4_096 for each in sent.attributes(spans["save"]["name"]))


@pytest.mark.parametrize("limit", ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_variables_make_texts_shorter(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setenv(limit, "64")
    sent, stream = Sent(), Stream("x", vm="w" * 100)
    sent.apply(*stream.feed((DATA / "qemu-7.2-log-idle.log").read_bytes()), *stream.close())

    assert sent.attributes("migrate")[0]["qemu.vm.name"] == "w" * 40 + "… and 60 more"


def test_config_limits_replay_too(tmp_path: Path) -> None:
    config, out = tmp_path / "exporter.yml", tmp_path / "spans.jsonl"
    config.write_text("spans: {max_rounds: 2, max_devices: 3, max_spans: 10}\n")
    recording = DATA / "qemu-7.2-log-nonconverging.log"

    assert main(["replay", str(recording), f"--config.file={config}", f"--spans.out={out}", "--report=none"]) == 0

    counts = Counter(re.findall(r'"name":"([a-z]+(?:\.batch)?)', out.read_text()))
    assert (counts["iterate"], counts["iterate.batch"]) == (2, 1)
    assert (counts["save"], counts["save.batch"]) == (3, 1)
    assert "qemu.migration.omitted_spans" not in out.read_text()
