"""How large a trace may become, and what it says of the rest."""

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
from qemu_migration_exporter.tracing.emitter import cut
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
    """Make a migration that completed."""
    return Migration(
        identity=IDENTITY, result=Result.COMPLETED, result_inferred=False, partial=False, error=None, outcome_ns=end_ns,
        end_ns=end_ns, setup_ns=None, downtime_ns=None, downtime_start_ns=None, progress=PROGRESS, rounds=rounds,
        phases=(), devices=tuple(devices), stalls=(),
    )  # fmt: skip


def round_of(number: int, seconds: int = 7) -> Round:
    """Make a round; by default each takes seven seconds, and the fifth has the least pending."""
    start_ns = SECOND + (number - 1) * seconds * SECOND
    return Round(
        number=number, start_ns=start_ns, end_ns=start_ns + seconds * SECOND, iterations=2, transferred_bytes=100,
        pending_at_start_bytes=1_000 + abs(number - 5), pending_at_end_bytes=number, dirtied_bytes=10,
        bandwidth_bytes_per_second=7.0,
    )  # fmt: skip


def ended(number: int) -> RoundEnded:
    """Tell of a round that ended."""
    return RoundEnded(IDENTITY.trace_id, round_of(number))


class Sent:
    """A sink with limits, and the spans it sent."""

    def __init__(self, **limits: int) -> None:
        self._out = io.StringIO()
        self._delivery = BlockingSpanProcessor(OtlpJsonWriter(self._out))
        self.sink = SpansSink([self._delivery], limits=TraceLimits(**limits))

    def apply(self, *changes: Change) -> None:
        """Give it changes."""
        self.sink.apply(changes)

    @property
    def spans(self) -> list[dict[str, Any]]:
        """What it has sent so far."""
        self._delivery.force_flush()
        requests = map(json.loads, self._out.getvalue().splitlines())
        return [span for each in requests for span in each["resourceSpans"][0]["scopeSpans"][0]["spans"]]

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [span["name"] for span in self.spans]

    def attributes(self, name: str) -> list[dict[str, Any]]:
        """The attributes of the spans of one name."""
        return [
            {
                pair["key"].removeprefix("qemu.migration."): next(iter(pair["value"].values()))
                for pair in each["attributes"]
            }
            for each in self.spans
            if each["name"] == name
        ]


def test_rounds_past_the_limit_leave_once_a_minute_as_one_span_that_says_how_many() -> None:
    """Those that ended in the same minute of the migration; the sums are theirs."""
    sent = Sent(max_rounds=3)
    sent.apply(Started(IDENTITY), *map(ended, range(1, 20)))
    assert sent.names == ["migrate.start", *["iterate"] * 3, *["iterate and more"] * 2]

    sent.apply(MigrationEnded(IDENTITY.trace_id, migration(*map(round_of, range(1, 20)))))

    batches = sent.attributes("iterate and more")
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
    assert tree(sent.spans).count("iterate and more") == 3


def test_a_minute_that_is_over_is_sent_though_no_round_ends_any_more() -> None:
    """A migration whose next round takes an hour shows those before it."""
    sent = Sent(max_rounds=0)
    sent.apply(Started(IDENTITY), ended(1), ended(2))
    sent.sink.tick(SECOND + 61 * SECOND)
    assert sent.names == ["migrate.start"]  # a round that ended at 0:59 may still be told

    sent.sink.tick(SECOND + 62 * SECOND)
    sent.sink.tick(SECOND + 63 * SECOND)

    assert sent.names == ["migrate.start", "iterate and more"]

    sent.apply(ended(3), ended(9))  # the third is late: the source lags behind
    sent.sink.tick(SECOND + 200 * SECOND)
    batches = sent.attributes("iterate and more")
    assert [(each["round"], each["last_round"]) for each in batches] == [("1", "2"), ("3", "9")]
    assert len({span["spanId"] for span in sent.spans}) == len(sent.spans)


def test_a_restart_makes_the_same_batches() -> None:
    """Whatever of a minute was told before: the batch that waited is made again, with the same id."""
    whole = Sent(max_rounds=3)
    whole.apply(Started(IDENTITY), *map(ended, range(1, 20)))
    for last in range(20):
        before, after = Sent(max_rounds=3), Sent(max_rounds=3)
        before.apply(Started(IDENTITY), *map(ended, range(1, last + 1)))
        after.apply(
            Resumed(IDENTITY, PROGRESS, tuple(map(round_of, range(1, last + 1)))), *map(ended, range(last + 1, 20))
        )

        assert [*before.spans, *after.spans] == whole.spans


def test_the_syncs_of_batched_rounds_are_left_out() -> None:
    """They would have no parent."""
    sent = Sent(max_rounds=1)
    syncs = [
        Sync(number=number, start_ns=SECOND, end_ns=SECOND, dirtied_bytes=0, phase=PhaseName.ITERATE, round=number)
        for number in (1, 2)
    ]
    sent.apply(Started(IDENTITY), *(SyncFinished(IDENTITY.trace_id, sync) for sync in syncs))

    assert [each["bitmap_sync"] for each in sent.attributes("bitmap_sync")] == ["1"]


def device(number: int) -> Device:
    """Make a device; the one of the largest number takes longest."""
    return Device(
        number=number,
        name=f"0000:00:0{number}.0/vfio",
        vmsd_name="vfio",
        instance=0,
        start_ns=500 * SECOND + 100 * number,
        duration_ns=number * 10,
    )


def test_devices_past_the_limit_are_one_span_that_names_the_slowest() -> None:
    """Under the switchover, as the others."""
    sent = Sent(max_devices=2)
    devices = [device(number) for number in range(1, 6)]
    phase = Phase(name=PhaseName.COMPLETE_PRECOPY, start_ns=500 * SECOND, end_ns=501 * SECOND)
    sent.apply(
        Started(IDENTITY),
        *(DeviceFinished(IDENTITY.trace_id, each) for each in devices),
        PhaseEnded(IDENTITY.trace_id, phase),
        MigrationEnded(IDENTITY.trace_id, migration(devices=devices)),
    )

    assert sent.names == ["migrate.start", "save vfio", "save vfio", "complete_precopy", "save and more", "migrate"]
    assert sent.attributes("save and more") == [
        {
            "devices": "3",
            "devices_seconds": 120 / 1e9,
            "slowest_device.idstr": "0000:00:05.0/vfio",
            "slowest_device.duration_seconds": 50 / 1e9,
        }
    ]
    assert sent.attributes("migrate")[0]["devices"] == "5"
    tree(sent.spans)  # no orphan


def test_what_is_over_the_limit_of_a_trace_is_left_out_and_the_root_says_how_many() -> None:
    """Markers too; phases, rounds and the root always leave."""
    sent = Sent(max_spans=2)
    syncs = [
        Sync(number=number, start_ns=SECOND, end_ns=SECOND, dirtied_bytes=0, phase=None, round=None)
        for number in range(1, 6)
    ]
    sent.apply(Started(IDENTITY), *(SyncFinished(IDENTITY.trace_id, sync) for sync in syncs))
    sent.sink.interrupt(SECOND)
    sent.apply(ended(1), MigrationEnded(IDENTITY.trace_id, migration(round_of(1))))

    assert sent.names == ["migrate.start", "bitmap_sync", "bitmap_sync", "iterate", "migrate"]
    assert sent.attributes("migrate")[0]["omitted_spans"] == "4"


@pytest.mark.parametrize(
    ("text", "most", "expected"),
    [
        ("short", 24, "short"),
        ("x" * 40, 40, "x" * 40),
        ("x" * 100, 40, "x" * 16 + "… and 84 more"),
        ("x" * 100, 5, "… and 100 more"),
        ("web-\udcff", 40, "web-?"),
    ],
)
def test_a_text_that_is_too_long_says_how_much_is_missing(text: str, most: int, expected: str) -> None:
    """And what is no Unicode is no reason to lose the span."""
    assert cut(text, most) == expected


def _of(log: str) -> Sent:
    sent, stream = Sent(), Stream("x", vm="web-42")
    sent.apply(*stream.feed(log.encode()), *stream.close())
    return sent


def test_what_a_stream_that_goes_mad_says_is_cut_to_size() -> None:
    """Names of devices, texts of errors, numbers and times that no protocol can carry."""
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
def test_opentelemetrys_variables_make_texts_shorter(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    """A receiver may take less."""
    monkeypatch.setenv(limit, "64")
    sent, stream = Sent(), Stream("x", vm="w" * 100)
    sent.apply(*stream.feed((DATA / "qemu-7.2-log-idle.log").read_bytes()), *stream.close())

    assert sent.attributes("migrate")[0]["qemu.vm.name"] == "w" * 40 + "… and 60 more"


def test_the_configuration_sets_the_limits_of_a_replay_too(tmp_path: Path) -> None:
    """Of the sixteen rounds of this recording two are spans of their own."""
    config, out = tmp_path / "exporter.yml", tmp_path / "spans.jsonl"
    config.write_text("spans: {max_rounds: 2, max_devices: 3, max_spans: 10}\n")
    recording = DATA / "qemu-7.2-log-nonconverging.log"

    assert main(["replay", str(recording), f"--config.file={config}", f"--spans.out={out}", "--report=none"]) == 0

    counts = Counter(re.findall(r'"name":"([a-z]+(?: and more)?)', out.read_text()))
    assert (counts["iterate"], counts["iterate and more"]) == (2, 1)
    assert (counts["save"], counts["save and more"]) == (3, 1)
    assert "qemu.migration.omitted_spans" not in out.read_text()
