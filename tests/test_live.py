"""The whole of it: a real QEMU migrates, the daemon follows its log, a real Prometheus scrapes, a receiver gets spans."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon import running
from tests.qemu import Qemu, wait_for
from tests.receiver import Receiver, receiving

_MIB = 1 << 20


@contextmanager
def _prometheus(directory: Path, target: str) -> Iterator[str]:
    """Run a Prometheus that scrapes every second; give its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    config = directory / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        f"scrape_configs: [{{job_name: qemu, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/tsdb",
                f"--web.listen-address={address}", "--enable-feature=exemplar-storage",
            ],
            stdout=log,
            stderr=log,
        )  # fmt: skip
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=20)


def _ask(prometheus: str, path: str, **parameters: str) -> list[dict[str, object]]:
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
            data = json.loads(answer.read())["data"]
    except urllib.error.URLError:
        return []  # it is still starting
    result: list[dict[str, object]] = data["result"] if isinstance(data, dict) else data
    return result


def _value(prometheus: str, query: str) -> float | None:
    samples = _ask(prometheus, "query", query=query)
    return float(samples[0]["value"][1]) if samples else None  # type: ignore[index]  # JSON


@pytest.mark.timeout(120)
def test_a_stuck_migration_is_seen_by_prometheus_and_its_trace_grows(tmp_path: Path) -> None:
    """While it is stuck its rounds are there; in the end the numbers are QEMU's."""
    if not (shutil.which("qemu-system-x86_64") and shutil.which("prometheus")) and not os.environ.get("CI"):
        pytest.skip("QEMU or Prometheus is not installed")
    destination = Qemu("destination", tmp_path, working_set_mib=47, incoming=True)
    source = Qemu("source", tmp_path, working_set_mib=47)
    try:
        with (
            receiving(Receiver()) as receiver,
            running(tmp_path, f"--source={source.log}", f"--otlp.endpoint={receiver.url}") as daemon,
            _prometheus(tmp_path, daemon.url.removeprefix("http://")) as prometheus,
        ):
            source.migrate()
            source.wait_until_synced(4)
            wait_for(lambda: (_value(prometheus, "qemu_migration_round") or 0) >= 3, 20, "Prometheus sees round 3")
            wait_for(lambda: "iterate" in {span.name for span in receiver.spans}, 10, "a round is in the trace")
            assert "migrate" not in {span.name for span in receiver.spans}
            assert _value(prometheus, "qemu_migration_active") == 1
            assert _value(prometheus, "qemu_migration_best_pending_bytes") == pytest.approx(47 * _MIB, rel=0.02)

            source.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
            truth = source.wait_until("completed")
            wait_for(lambda: _value(prometheus, "qemu_migration_active") == 0, 20, "Prometheus sees the end")
            wait_for(lambda: "migrate" in {span.name for span in receiver.spans}, 10, "the trace is whole")

            said = {
                "qemu_migration_bitmap_syncs_total": truth["ram"]["dirty-sync-count"],
                "qemu_migration_transferred_bytes_total": truth["ram"]["precopy-bytes"],
                "qemu_migration_last_duration_seconds": truth["total-time"] / 1_000,
                "qemu_migration_last_downtime_seconds": truth["downtime"] / 1_000,
            }
            seen = {name: _value(prometheus, name) for name in said}
            assert seen == pytest.approx(said, rel=0.02, abs=0.005)
            exemplars = _ask(
                prometheus,
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
