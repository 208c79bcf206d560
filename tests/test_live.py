"""The whole of it: a real QEMU migrates, the daemon follows its log, a real Prometheus scrapes, a receiver gets spans."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.daemon import running
from tests.prometheus import need, scraping
from tests.qemu import Qemu, wait_for
from tests.receiver import Receiver, receiving

_MIB = 1 << 20


@pytest.mark.timeout(120)
def test_a_stuck_migration_is_seen_by_prometheus_and_its_trace_grows(tmp_path: Path) -> None:
    """While it is stuck its rounds are there; in the end the numbers are QEMU's."""
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
            wait_for(lambda: "iterate" in {span.name for span in receiver.spans}, 10, "a round is in the trace")
            assert "migrate" not in {span.name for span in receiver.spans}
            assert prometheus.value("qemu_migration_active") == 1
            assert prometheus.value("qemu_migration_best_pending_bytes") == pytest.approx(47 * _MIB, rel=0.02)

            source.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
            truth = source.wait_until("completed")
            wait_for(lambda: prometheus.value("qemu_migration_active") == 0, 20, "Prometheus sees the end")
            wait_for(lambda: "migrate" in {span.name for span in receiver.spans}, 10, "the trace is whole")

            said = {
                "qemu_migration_bitmap_syncs_total": truth["ram"]["dirty-sync-count"],
                "qemu_migration_transferred_bytes_total": truth["ram"]["precopy-bytes"],
                "qemu_migration_last_duration_seconds": truth["total-time"] / 1_000,
                "qemu_migration_last_downtime_seconds": truth["downtime"] / 1_000,
            }
            seen = {name: prometheus.value(name) for name in said}
            assert seen == pytest.approx(said, rel=0.02, abs=0.005)
            exemplars = prometheus.ask(
                "query_exemplars",
                query="qemu_migration_downtime_seconds_bucket",
                start="2026-01-01T00:00:00Z",
                end="2100-01-01T00:00:00Z",
            )
            assert f'"trace_id": "{receiver.spans[0].trace_id.hex()}"' in json.dumps(exemplars)
            assert daemon.stop() == 0
    finally:
        source.quit()
        destination.quit()
