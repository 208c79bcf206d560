"""The metrics sink: what each change does to the numbers that are scraped."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.model import SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION

from tests.support.paths import DATA
from tests.support.recordings import RECORDINGS, START_NS, Recording, run

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def _registry(*changes: Iterable[Change], max_vms: int = 10) -> tuple[CollectorRegistry, MetricsSink]:
    sink = MetricsSink(max_vms=max_vms)
    registry = CollectorRegistry(auto_describe=True)
    registry.register(sink)
    for batch in changes:
        sink.apply(batch)
    return registry, sink


def _replayed(recording: str, vm: str = "web-42") -> list[Change]:
    stream = Stream("x", vm=vm, start_ns=START_NS)
    return [*stream.feed((DATA / recording).read_bytes()), *stream.close()]


def _value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_every_finite_series_without_vm_is_there_at_zero_from_the_start() -> None:
    """A rate over the first failure is right only if the counter was 0 before it."""
    registry, _ = _registry()

    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert samples["qemu_migrations_started_total", (("side", "destination"),)] == 0
    assert samples["qemu_migrations_finished_total", (("result", "cancelled"), ("side", "source"))] == 0
    assert samples["qemu_migration_phase_duration_seconds_count", (("phase", "postcopy"),)] == 0
    assert samples["qemu_migration_duration_seconds_bucket", (("le", "+Inf"),)] == 0
    assert not any("vm" in dict(labels) for _, labels in samples)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_promtool_has_nothing_to_say(recording: Recording) -> None:
    """Names, units, types and help texts satisfy Prometheus's own linter."""
    if shutil.which("promtool") is None and not os.environ.get("CI"):
        pytest.skip("promtool is not installed")
    metrics = run([recording.data], vm=recording.name).metrics

    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_a_running_migration_shows_its_numbers() -> None:
    """In the middle of a recording that does not converge."""
    lines = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes().splitlines(keepends=True)
    registry, _ = _registry(Stream("x", vm="web-42").feed(b"".join(lines[:600])))

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
    assert _value(registry, "qemu_migration_stall_reason", vm="web-42", reason="dirty_rate") == 0


def test_counters_of_a_vm_go_on_over_its_attempts_and_gauges_describe_the_newest() -> None:
    """A retry does not reset what Prometheus takes rates of."""
    registry, _ = _registry(_replayed("qemu-7.2-log-cancelled.log"), _replayed("qemu-7.2-log-idle.log"))

    assert _value(registry, "qemu_migration_bitmap_syncs_total", vm="web-42") == 1 + 2
    assert _value(registry, "qemu_migration_iterations_total", vm="web-42") == 40 + 1
    assert _value(registry, "qemu_migration_transferred_bytes_total", vm="web-42") == 130929890
    assert _value(registry, "qemu_migration_last_result", vm="web-42", result="completed") == 1
    assert _value(registry, "qemu_migration_last_result", vm="web-42", result="cancelled") == 0
    assert _value(registry, "qemu_migrations_started_total", side="source") == 2
    assert _value(registry, "qemu_migrations_finished_total", side="source", result="cancelled") == 1


def test_the_failed_attempt_before_shows_until_the_next_one_has_ended() -> None:
    """While a retry runs, the last result is the failure that caused it."""
    lines = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes().splitlines(keepends=True)
    registry, _ = _registry(
        _replayed("qemu-7.2-log-destination-killed.log"), Stream("x", vm="web-42").feed(b"".join(lines[:300]))
    )

    assert _value(registry, "qemu_migration_active", vm="web-42") == 1
    assert _value(registry, "qemu_migration_last_result", vm="web-42", result="failed") == 1
    assert _value(registry, "qemu_migration_end_timestamp_seconds", vm="web-42") is None


def test_a_reconstructed_clock_fills_no_histogram_of_times_it_does_not_know() -> None:
    """Rounds and the iterate phase have a length there, syncs and the switchover have none."""
    registry, _ = _registry(_replayed("qemu-kvm-2.6-systemtap.log"))

    assert _value(registry, "qemu_migration_round_duration_seconds_count") == 1
    assert _value(registry, "qemu_migration_phase_duration_seconds_count", phase="iterate") == 1
    assert _value(registry, "qemu_migration_phase_duration_seconds_count", phase="setup") == 0
    assert _value(registry, "qemu_migration_bitmap_sync_duration_seconds_count") == 0
    assert _value(registry, "qemu_migration_downtime_seconds_count") == 0


def test_virtual_machines_over_the_cap_get_no_series_and_are_counted() -> None:
    """The number of series is bounded, and nobody has to guess that something is missing."""
    registry, sink = _registry(*(_replayed("qemu-7.2-log-idle.log", f"vm-{number}") for number in range(4)), max_vms=3)

    assert sink.limited == 1
    assert _value(registry, "qemu_migration_active", vm="vm-3") is None
    assert _value(registry, "qemu_migrations_finished_total", side="source", result="completed") == 4


_INCOMING = (
    b"100@1700000000.000000:migration_socket_incoming_accepted \n"
    b"100@1700000000.000100:migrate_set_state new state active\n"
    b"100@1700000001.000000:migrate_set_state new state completed\n"
)


def test_an_incoming_migration_has_an_info_and_counters_but_no_series_of_its_own() -> None:
    """Per-VM series describe outgoing migrations."""
    stream = Stream("x", vm="web-42")
    registry, _ = _registry([*stream.feed(_INCOMING), *stream.close()])

    assert _value(registry, "qemu_migrations_finished_total", side="destination", result="completed") == 1
    assert _value(registry, "qemu_migration_active", vm="web-42") is None
    infos = [sample.labels for sample in _family(registry, "qemu_migration_info")]
    assert [(labels["vm"], labels["side"]) for labels in infos] == [("web-42", "destination")]


def _family(registry: CollectorRegistry, name: str) -> list[Sample]:
    return [sample for family in registry.collect() if family.name == name for sample in family.samples]


def test_histograms_and_counters_carry_exemplars_that_lead_to_a_span_of_the_trace() -> None:
    """In OpenMetrics; every exemplar's span is one that was sent."""
    recording = DATA / "qemu-10.0-log-nonconverging.log.gz"
    output = run([Recording(recording).data], vm="web-42")
    registry, _ = _registry(_replayed_gz(Recording(recording)))

    text = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]  # the library's

    exemplars = [line.split(" # ")[1] for line in text.splitlines() if " # " in line]
    known = {f'{{span_id="{span["spanId"]}",trace_id="{span["traceId"]}"}}' for span in output.all_spans}
    assert len(exemplars) > 10
    assert {exemplar.split(" ")[0] for exemplar in exemplars} <= known
    assert any(line.startswith("qemu_migration_bitmap_syncs_total{") and " # " in line for line in text.splitlines())


def _replayed_gz(recording: Recording) -> list[Change]:
    stream = Stream("x", vm="web-42", start_ns=START_NS)
    return [*stream.feed(recording.data), *stream.close()]


def test_buckets_are_cumulative_and_end_in_the_count() -> None:
    """The exposition is a histogram Prometheus can take quantiles of."""
    registry, _ = _registry(_replayed("qemu-7.2-log-nonconverging.log"))

    buckets = [
        sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if sample.name == "qemu_migration_round_duration_seconds_bucket"
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == _value(registry, "qemu_migration_round_duration_seconds_count") == 16


def test_two_collectors_of_the_same_names_are_refused() -> None:
    """A clash of names is seen when the program starts, not in a scrape."""
    registry, _ = _registry()

    with pytest.raises(ValueError, match="qemu_migration"):
        registry.register(MetricsSink())


def test_health_counts_lines_by_outcome_and_surprises_by_kind() -> None:
    """What could not be read is visible, and all kinds are there at 0."""
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


def test_no_metric_has_a_label_that_belongs_to_prometheus() -> None:
    """`job` and `instance` are the scrape's, `host` is the target's."""
    metrics = [*MIGRATION, *EXPORTER]

    assert len({metric.name for metric in metrics}) == len(metrics)
    assert not {label for metric in metrics for label in metric.labels} & {"job", "instance", "host", "type"}
