"""The daemon with a real QEMU, a real Prometheus and a receiver of spans."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from qemu_migration_exporter.cli import main

from tests.support.daemon import running
from tests.support.prometheus import Prometheus, need, scraping
from tests.support.qemu import Qemu, wait_for
from tests.support.receiver import Receiver, receiving

_MIB = 1 << 20


#: Every histogram that a migration in pre-copy fills, and the counters of migrations.
_WITH_EXEMPLARS = (
    "qemu_migration_downtime_seconds_bucket",
    "qemu_migration_duration_seconds_bucket",
    "qemu_migration_round_duration_seconds_bucket",
    "qemu_migration_bitmap_sync_duration_seconds_bucket",
    "qemu_migration_phase_duration_seconds_bucket",
    "qemu_migration_bitmap_syncs_total",
    "qemu_migration_iterations_total",
    "qemu_migration_transferred_bytes_total",
    "qemu_migrations_started_total",
    "qemu_migrations_finished_total",
)


def _exemplars(prometheus: Prometheus, name: str) -> set[tuple[str, str]]:
    """Return the spans that a metric's exemplars lead to."""
    found = prometheus.ask("query_exemplars", query=name, start="2026-01-01T00:00:00Z", end="2100-01-01T00:00:00Z")
    return {
        (exemplar["labels"]["trace_id"], exemplar["labels"]["span_id"])
        for series in found
        for exemplar in series["exemplars"]
    }


def _by_id(spans: list[Span]) -> dict[tuple[bytes, bytes], Span]:
    """Return the content of every span but `exporter.stopped`; a span received twice must be the same twice."""
    told: dict[tuple[bytes, bytes], Span] = {}
    for span in spans:
        if span.name != "exporter.stopped":
            assert told.setdefault((span.trace_id, span.span_id), span) == span
    return told


@pytest.mark.timeout(120)
def test_stuck_trace_survives_restart(tmp_path: Path) -> None:
    """Finished spans arrive at once, a marker at the stop, the rest after it: in the end the spans of a replay."""
    need("qemu-system-x86_64")
    destination = Qemu("destination", tmp_path, working_set_mib=47, incoming=True)
    source = Qemu("source", tmp_path, working_set_mib=47)
    try:
        with receiving(Receiver()) as receiver:
            arguments = (
                f"--source={source.log}", f"--state.file={tmp_path}/state", f"--otlp.endpoint={receiver.url}"
            )  # fmt: skip
            with running(tmp_path, *arguments) as daemon:
                source.migrate()
                source.wait_until_synced(3)
                alive = {"migrate.start", "setup", "iterate", "bitmap_sync"}
                daemon.wait_until(lambda: alive <= receiver.names, "what is finished is there")
                assert receiver.names <= alive | {"stalled"}
                assert source.query()["status"] == "active"
                assert daemon.stop() == 0
            wait_for(lambda: "exporter.stopped" in receiver.names, 5, "the marker is there")
            assert "migrate" not in receiver.names

            synced = source.query()["ram"]["dirty-sync-count"]
            source.wait_until_synced(synced + 2)  # nobody sees it
            with running(tmp_path, *arguments) as daemon:
                source.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
                source.wait_until("completed")
                daemon.wait_until(lambda: "migrate" in receiver.names, "the trace is whole")
                assert daemon.stop() == 0

        with receiving(Receiver()) as undisturbed:
            assert main(["replay", str(source.log), f"--otlp.endpoint={undisturbed.url}", "--report=none"]) == 0
        assert _by_id(receiver.spans) == _by_id(undisturbed.spans)
        assert [span.name for span in receiver.spans].count("exporter.stopped") == 1
    finally:
        source.quit()
        destination.quit()


@pytest.mark.timeout(120)
def test_prometheus_sees_stuck_migration(tmp_path: Path) -> None:
    """Its trace grows while it is stuck; in the end the numbers are QEMU's."""
    need("qemu-system-x86_64", "prometheus")
    destination = Qemu("destination", tmp_path, working_set_mib=47, incoming=True)
    source = Qemu("source", tmp_path, working_set_mib=47)
    try:
        with (
            receiving(Receiver()) as receiver,
            running(tmp_path, f"--source={source.log}", f"--otlp.endpoint={receiver.url}") as daemon,
            scraping(tmp_path, daemon.url.removeprefix("http://")) as prometheus,
        ):
            source.migrate()
            source.wait_until_synced(4)
            wait_for(lambda: (prometheus.value("qemu_migration_round") or 0) >= 3, 20, "Prometheus sees round 3")
            wait_for(lambda: "iterate" in receiver.names, 10, "a round is in the trace")
            assert "migrate" not in receiver.names
            assert prometheus.value("qemu_migration_active") == 1
            # All the guest works on, or on a machine with much else to do, as much of it as it got round to.
            assert 10 * _MIB < (prometheus.value("qemu_migration_best_pending_bytes") or 0) < 48 * _MIB

            source.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
            truth = source.wait_until("completed")
            wait_for(lambda: prometheus.value("qemu_migration_active") == 0, 20, "Prometheus sees the end")
            wait_for(lambda: "migrate" in receiver.names, 10, "the trace is whole")

            said = {
                "qemu_migration_bitmap_syncs_total": truth["ram"]["dirty-sync-count"],
                "qemu_migration_transferred_bytes_total": truth["ram"]["precopy-bytes"],
                "qemu_migration_last_duration_seconds": truth["total-time"] / 1_000,
                "qemu_migration_last_downtime_seconds": truth["downtime"] / 1_000,
            }
            seen = {name: prometheus.value(name) for name in said}
            assert seen == pytest.approx(said, rel=0.02, abs=0.005)
            known = {(span.trace_id.hex(), span.span_id.hex()) for span in receiver.spans}
            for name in _WITH_EXEMPLARS:
                wait_for(lambda name=name: bool(_exemplars(prometheus, name)), 20, f"{name} has exemplars")  # type: ignore[misc]
                assert _exemplars(prometheus, name) <= known, name
            assert prometheus.value(f'qemu_migration_info{{trace_id="{receiver.spans[0].trace_id.hex()}"}}') == 1
            assert daemon.stop() == 0
    finally:
        source.quit()
        destination.quit()
