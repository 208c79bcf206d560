"""Metrics as they are collected: numbers of virtual machines, totals, and the exporter's own health."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from qemu_migration_exporter.core.changes import Change, MigrationEnded, Started
from qemu_migration_exporter.core.model import Kind, Migration, Side, StallReason, SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION

from tests.support.core_helpers import made
from tests.support.paths import DATA
from tests.support.recordings import RECORDINGS, START_NS, Recording, run


def _registry(
    *changes: Iterable[Change], running: Iterable[Migration] = (), max_vms: int = 10
) -> tuple[CollectorRegistry, MetricsSink]:
    sink = MetricsSink(max_vms=max_vms)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(sink)
    for batch in changes:
        sink.apply(batch)
    sink.update(running)
    return registry, sink


def _replay(data: bytes, vm: str = "web-42") -> list[Change]:
    stream = Stream("x", vm=vm, start_ns=START_NS)
    return [*stream.feed(data), *stream.close()]


def _recording(name: str, vm: str = "web-42") -> list[Change]:
    return _replay((DATA / name).read_bytes(), vm)


def _half(name: str) -> tuple[list[Change], list[Migration]]:
    lines = (DATA / name).read_bytes().splitlines(keepends=True)
    stream = Stream("x", vm="web-42")
    return stream.feed(b"".join(lines[:600])), stream.running()


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def _finished(registry: CollectorRegistry, result: str, *, side: str = "source", kind: str = "live") -> float | None:
    return _value(registry, "qemu_migrations_finished_total", side=side, kind=kind, result=result)


def _family(registry: CollectorRegistry, name: str) -> list[Sample]:
    return [sample for family in registry.collect() if family.name == name for sample in family.samples]


def test_finite_series_start_at_zero() -> None:
    """A rate over the first failure is right only if the counter was 0 before it."""
    registry, _ = _registry()

    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert samples["qemu_migrations_started_total", (("side", "destination"),)] == 0
    finished = (("kind", "dump"), ("result", "cancelled"), ("side", "source"))
    assert samples["qemu_migrations_finished_total", finished] == 0
    assert samples["qemu_migration_phase_duration_seconds_count", (("phase", "postcopy"),)] == 0
    assert samples["qemu_migration_duration_seconds_bucket", (("le", "+Inf"),)] == 0
    assert not any("vm" in dict(labels) for _, labels in samples)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_promtool_accepts_exposition(recording: Recording) -> None:
    if shutil.which("promtool") is None and not os.environ.get("CI"):
        pytest.skip("promtool is not installed")
    metrics = run([recording.data], vm=recording.name).metrics

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_running_migration_has_numbers() -> None:
    changes, running = _half("qemu-7.2-log-nonconverging.log")
    registry, _ = _registry(changes, running=running)

    shown = {
        name: _value(registry, f"qemu_migration_{name}", vm="web-42")
        for name in ("active", "round", "pending_bytes", "best_pending_bytes", "threshold_bytes", "ram_bytes",
                     "downtime_limit_seconds", "bitmap_syncs_total", "end_timestamp_seconds", "last_duration_seconds")
    }  # fmt: skip
    assert shown == {
        "active": 1,
        "round": 7,
        "pending_bytes": 25829376,
        "best_pending_bytes": 49283072,
        "threshold_bytes": 10071270,
        "ram_bytes": 168304640,
        "downtime_limit_seconds": 0.3,
        "bitmap_syncs_total": 7,
        "end_timestamp_seconds": None,
        "last_duration_seconds": None,
    }
    assert _value(registry, "qemu_migration_phase", vm="web-42", phase="iterate") == 1
    assert _value(registry, "qemu_migration_required_downtime_seconds", vm="web-42") == pytest.approx(1.47, rel=0.02)
    assert _value(registry, "qemu_migration_stalled", vm="web-42") == 1
    assert _value(registry, "qemu_migration_stall_reason", vm="web-42", reason="bandwidth_cap") == 1
    assert _value(registry, "qemu_migration_stall_reason", vm="web-42", reason=StallReason.DIRTY_RATE) == 0


def test_first_numbers_come_with_start() -> None:
    """A scrape between the start and the first update finds no gap."""
    changes, _ = _half("qemu-7.2-log-nonconverging.log")
    registry, sink = _registry(changes)
    started = next(change for change in changes if isinstance(change, Started))

    assert _value(registry, "qemu_migration_active", vm="web-42") == 1
    assert _value(registry, "qemu_migration_phase", vm="web-42", phase=str(started.progress.phase)) == 1
    assert sink.limited == 0


def test_equal_numbers_keep_version() -> None:
    """Text of unchanged series is rendered once."""
    changes, running = _half("qemu-7.2-log-nonconverging.log")
    _, sink = _registry(changes, running=running)
    (before,) = sink.read_objects({})

    sink.update(running)

    assert [before.version] == [each.version for each in sink.read_objects({})]


def test_counters_continue_over_attempts() -> None:
    """A retry must not reset them; gauges describe the newest attempt."""
    registry, _ = _registry(_recording("qemu-7.2-log-cancelled.log"), _recording("qemu-7.2-log-idle.log"))

    assert _value(registry, "qemu_migration_bitmap_syncs_total", vm="web-42") == 1 + 2
    assert _value(registry, "qemu_migration_iterations_total", vm="web-42") == 40 + 1
    assert _value(registry, "qemu_migration_transferred_bytes_total", vm="web-42") == 130929890
    assert _value(registry, "qemu_migration_last_result", vm="web-42", result="completed") == 1
    assert _value(registry, "qemu_migration_last_result", vm="web-42", result="cancelled") == 0
    assert _value(registry, "qemu_migrations_started_total", side="source") == 2
    assert _finished(registry, "cancelled") == 1


def test_last_result_stays_during_retry() -> None:
    """It is the failure that the retry is for."""
    changes, running = _half("qemu-7.2-log-nonconverging.log")
    registry, _ = _registry(_recording("qemu-7.2-log-destination-killed.log"), changes, running=running)

    assert _value(registry, "qemu_migration_active", vm="web-42") == 1
    assert _value(registry, "qemu_migration_last_result", vm="web-42", result="failed") == 1
    assert _value(registry, "qemu_migration_end_timestamp_seconds", vm="web-42") is None


def test_untimed_log_fills_known_histograms() -> None:
    """Rounds and the iterate phase have a length there, syncs and the switchover have none."""
    registry, _ = _registry(_recording("qemu-kvm-2.6-systemtap.log"))

    assert _value(registry, "qemu_migration_round_duration_seconds_count") == 1
    assert _value(registry, "qemu_migration_phase_duration_seconds_count", phase="iterate") == 1
    assert _value(registry, "qemu_migration_phase_duration_seconds_count", phase="setup") == 0
    assert _value(registry, "qemu_migration_bitmap_sync_duration_seconds_count") == 0
    assert _value(registry, "qemu_migration_downtime_seconds_count") == 0


def test_vms_over_cap_are_counted() -> None:
    """Their migrations are in the totals all the same."""
    registry, sink = _registry(*(_recording("qemu-7.2-log-idle.log", f"vm-{number}") for number in range(4)), max_vms=3)

    assert sink.limited == 1
    assert _value(registry, "qemu_migration_active", vm="vm-3") is None
    assert _finished(registry, "completed") == 4


_INCOMING = (
    b"100@1700000000.000000:migration_socket_incoming_accepted \n"
    b"100@1700000000.000100:migrate_set_state new state active\n"
    b"100@1700000001.000000:migrate_set_state new state completed\n"
)


@pytest.mark.parametrize(
    ("log", "active", "duration", "load", "completed"),
    [
        (_INCOMING, 0, 1.0, None, 1),
        (_INCOMING[: _INCOMING.rindex(b"100@")], 1, None, None, None),
        (Recording(DATA / "versions" / "v8.2" / "onward.log.gz").data, 0, 3.357117, 0.057638, 1),
    ],
    ids=["ended", "running", "with-loads"],
)
def test_incoming_has_series_of_its_own(
    log: bytes, active: float, duration: float | None, load: float | None, completed: float | None
) -> None:
    """The series of an outgoing migration are not touched, because the same guest may leave again."""
    stream = Stream("x", vm="web-42")
    registry, sink = _registry(stream.feed(log))
    if completed:
        sink.apply(stream.close())

    assert _value(registry, "qemu_migration_incoming_active", vm="web-42") == active
    assert _value(registry, "qemu_migration_incoming_last_duration_seconds", vm="web-42") == duration
    assert _value(registry, "qemu_migration_incoming_last_load_seconds", vm="web-42") == load
    result = {"vm": "web-42", "result": "completed"}
    assert _value(registry, "qemu_migration_incoming_last_result", **result) == completed
    assert _finished(registry, "completed", side="destination") == (completed or 0)


def test_incoming_has_no_outgoing_series() -> None:
    stream = Stream("x", vm="web-42")
    registry, _ = _registry([*stream.feed(_INCOMING), *stream.close()])

    names = {sample.name for family in registry.collect() for sample in family.samples if "vm" in sample.labels}
    assert {name for name in names if "_incoming_" not in name} == {"qemu_migration_info"}
    infos = [sample.labels for sample in _family(registry, "qemu_migration_info")]
    assert [(labels["vm"], labels["side"]) for labels in infos] == [("web-42", "destination")]


def test_exemplars_name_existing_spans() -> None:
    recording = DATA / "qemu-10.0-log-nonconverging.log.gz"
    output = run([Recording(recording).data], vm="web-42")
    registry, _ = _registry(_replay(Recording(recording).data))

    text = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]  # the library's

    exemplars = [line.split(" # ")[1] for line in text.splitlines() if " # " in line]
    known = {f'{{span_id="{span["spanId"]}",trace_id="{span["traceId"]}"}}' for span in output.all_spans}
    assert len(exemplars) > 10
    assert {exemplar.split(" ")[0] for exemplar in exemplars} <= known
    assert any(line.startswith("qemu_migration_bitmap_syncs_total{") and " # " in line for line in text.splitlines())


def test_buckets_are_cumulative() -> None:
    registry, _ = _registry(_recording("qemu-7.2-log-nonconverging.log"))

    buckets = [
        sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == "qemu_migration_round_duration_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == _value(registry, "qemu_migration_round_duration_seconds_count") == 16


def test_second_collector_is_refused() -> None:
    """A clash shows when the program starts, not in a scrape."""
    registry, _ = _registry()

    with pytest.raises(ValueError, match="qemu_migration"):
        registry.register(MetricsSink())


def test_health_counts_lines_and_surprises() -> None:
    stream = Stream("web-42.log", vm="web-42")
    stream.feed((DATA / "qemu-kvm-2.6-systemtap.log").read_bytes())
    stream.surprise(SurpriseKind.DAMAGED, "cut")
    registry = CollectorRegistry(auto_describe=True)
    registry.register(ExporterCollector(lambda: [(stream, True)], None, lambda: 7))

    prefix, labels = "qemu_migration_exporter_", {"stream": "web-42.log"}
    lines = {
        outcome: _value(registry, f"{prefix}lines_total", outcome=outcome, **labels)
        for outcome in ("event", "noise", "malformed")
    }
    assert lines == {"event": 341, "noise": 3, "malformed": 1}
    assert _value(registry, f"{prefix}surprises_total", kind="damaged", **labels) == 1
    assert _value(registry, f"{prefix}surprises_total", kind="duplicate", **labels) == 0
    assert _value(registry, f"{prefix}stream_up", **labels) == 1
    assert _value(registry, f"{prefix}series_limited_total") == 7


def test_no_metric_uses_reserved_label() -> None:
    """`job` and `instance` are the scrape's, `host` is the target's."""
    metrics = [*MIGRATION, *EXPORTER]

    assert len({metric.name for metric in metrics}) == len(metrics)
    assert not {label for metric in metrics for label in metric.labels} & {"job", "instance", "host", "type"}


# Kinds of jobs


def _of_kind(kind: Kind) -> list[Change]:
    """Return a migration whose kind the stream shows only at its end."""
    *before, ended = _recording("qemu-7.2-log-nonconverging.log")
    assert isinstance(ended, MigrationEnded)
    migration = ended.migration
    identity = replace(migration.identity, kind=kind)
    return [*before, replace(ended, migration=replace(migration, identity=identity))]


HISTOGRAMS = [metric.name for metric in MIGRATION if metric.kind == "histogram"]


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.LIVE])
def test_other_kinds_fill_no_histogram(kind: Kind) -> None:
    """`virsh save` takes seconds of downtime by design; live migrations must not look like that."""
    registry, _ = _registry(_of_kind(kind))

    counts = [sample for name in HISTOGRAMS for sample in _family(registry, name) if sample.name.endswith("_count")]
    assert {sample.value for sample in counts} == {0}
    assert _finished(registry, "completed", kind=kind) == 1
    assert _finished(registry, "completed") == 0
    infos = [sample.labels["kind"] for sample in _family(registry, "qemu_migration_info")]
    assert infos == [kind]


def test_live_fills_every_histogram() -> None:
    registry, _ = _registry(_of_kind(Kind.LIVE))

    counted = {
        sample.name.removesuffix("_count")
        for name in HISTOGRAMS
        for sample in _family(registry, name)
        if sample.name.endswith("_count") and sample.value > 0
    }
    assert counted >= set(HISTOGRAMS) - {"qemu_migration_blackout_seconds"}


def test_incoming_fills_no_histogram() -> None:
    registry, _ = _registry(
        [
            replace(change, identity=replace(change.identity, side=Side.DESTINATION))
            if isinstance(change, Started)
            else replace(
                change,
                migration=replace(change.migration, identity=replace(change.migration.identity, side=Side.DESTINATION)),
            )
            if isinstance(change, MigrationEnded)
            else change
            for change in _of_kind(Kind.LIVE)
        ]
    )

    counts = [sample for name in HISTOGRAMS for sample in _family(registry, name) if sample.name.endswith("_count")]
    assert {sample.value for sample in counts} == {0}


def test_blackout_of_last_migration() -> None:
    *before, ended = _recording("qemu-7.2-log-idle.log")
    assert isinstance(ended, MigrationEnded)
    migration = replace(ended.migration, blackout_ns=12_500_000_000)

    registry, _ = _registry([*before, replace(ended, migration=migration)])

    assert _value(registry, "qemu_migration_last_blackout_seconds", vm="web-42") == 12.5
    assert _value(registry, "qemu_migration_blackout_seconds_sum") == 12.5


_BUCKETS = {metric.name.removeprefix("qemu_migration_"): metric.buckets for metric in MIGRATION if metric.buckets}
_SHORT, _LONG = (0.02, 2), (5, 300)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("duration_seconds", *_LONG),
        ("downtime_seconds", *_SHORT),
        ("blackout_seconds", *_SHORT),
        ("blackout_seconds", *_LONG),
        ("round_duration_seconds", *_SHORT),
        ("round_duration_seconds", *_LONG),
        ("bitmap_sync_duration_seconds", *_SHORT),
        ("phase_duration_seconds", *_SHORT),
        ("phase_duration_seconds", *_LONG),
    ],
)
def test_buckets_double_at_most(name: str, low: float, high: float) -> None:
    """Coarser ones show a 95th percentile above the maximum."""
    bounds = _BUCKETS[name]

    assert list(bounds) == sorted(set(bounds))
    within = [bound for bound in bounds if low <= bound <= high]
    assert (within[0], within[-1]) == (low, high)
    assert all(longer <= 2 * shorter for shorter, longer in pairwise(within))


# The stall at the outcome


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled"])
def test_stall_is_zero_at_outcome(state: str) -> None:
    """Also in the second in which trailing lines still belong to the migration."""
    changes, (running,) = _half("qemu-7.2-log-nonconverging.log")
    registry, sink = _registry(changes, running=[running])
    assert _value(registry, "qemu_migration_stalled", vm="web-42") == 1

    sink.update([replace(running, progress=replace(running.progress, state=state))])

    assert _value(registry, "qemu_migration_stalled", vm="web-42") == 0
    assert _value(registry, "qemu_migration_stalled_since_timestamp_seconds", vm="web-42") == 0
    assert {sample.value for sample in _family(registry, "qemu_migration_stall_reason")} == {0}


def test_series_expire_after_retention() -> None:
    registry, sink = _registry(_recording("qemu-7.2-log-idle.log"), _replay(made("8.2-destination"), "db-7"))
    for now_ns in (1_000, 1_900):
        sink.expire(now_ns, 900)
        assert _value(registry, "qemu_migration_active", vm="web-42") == 0
        assert len(_family(registry, "qemu_migration_info")) == 2

    sink.expire(1_901, 900)

    assert _value(registry, "qemu_migration_active", vm="web-42") is None
    assert _family(registry, "qemu_migration_info") == []
    assert _finished(registry, "completed") == 1


@pytest.mark.parametrize(
    ("recording", "share", "reason", "remains"),
    [
        ("qemu-7.2-log-nonconverging.log", 0.5, "destroyed", False),
        ("qemu-7.2-log-nonconverging.log", 0.5, "crashed", False),
        ("qemu-7.2-log-destination-killed.log", 1, "shutdown", False),
        ("qemu-7.2-log-idle.log", 1, "migrated", True),
    ],
)
def test_gone_guest_loses_series_at_once(recording: str, share: float, reason: str, *, remains: bool) -> None:
    """No alert may outlive a guest, be it that its QEMU ends the migration or ends after it failed."""
    lines = (DATA / recording).read_bytes().splitlines(keepends=True)
    end = f"2026-11-22 22:45:13.610+0000: shutting down, reason={reason}\n".encode()
    registry, sink = _registry(_replay(b"".join([*lines[: round(len(lines) * share)], end])))

    sink.expire(1_000, 900)

    assert (_value(registry, "qemu_migration_active", vm="web-42") is not None) == remains
    assert _finished(registry, "completed" if remains else "failed") == 1


@pytest.mark.parametrize(
    ("path", "downtime"),
    [
        ("streams/A05-excerpt-from-completion.log", None),
        ("streams/A04-vmstate-downtime-only.log", 0.975),
        ("made/made-7.2-joined.log", 0.1),
    ],
)
def test_joined_migration_has_no_total_time(path: str, downtime: float | None) -> None:
    """Its duration includes the missed part, and so do its first phase and round."""
    registry, _ = _registry(_replay((DATA / path).read_bytes()))
    assert registry.get_sample_value("qemu_migration_duration_seconds_count") == 0
    assert registry.get_sample_value("qemu_migration_last_duration_seconds", {"vm": "web-42"}) is None
    found = registry.get_sample_value("qemu_migration_downtime_seconds_sum")
    assert found == pytest.approx(downtime or 0.0, abs=0.1)
