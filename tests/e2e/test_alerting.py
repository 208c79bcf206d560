"""From QEMU to the pager: a real Alertmanager, one guest that is stuck and one that converges slowly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.prometheus import Webhook, delivering, need, scraping
from tests.support.qemu import Qemu, wait_for
from tests.support.receiver import receiving

_MIB = 1 << 20

#: One sentence with every number.
_SENTENCE = re.compile(
    r"stuck on 127\.0\.0\.1 has been stalled for (\d+m )?[\d.]+s \(since \d\d:\d\d:\d\d UTC\), is in round \d+, "
    r"had at best (?P<best>[\d.]+)MiB pending at the start of round \d+, "
    r"sends [\d.]+MiB/s while its guest dirties [\d.]+MiB/s again \([\d.]+ times as much\), "
    r"needs (?P<seconds>[\d.]+)(?P<milli>m?)s of downtime where the limit is 300ms, would take at best [^:]+: "
    r"virsh migrate-setmaxdowntime stuck (?P<ms>\d+)"
)


@pytest.fixture(name="guests")
def _guests(tmp_path: Path) -> Iterator[tuple[Qemu, Qemu]]:
    """Two guests and their destinations: one dirties memory without a limit, one at 0.8 times its bandwidth."""
    need("qemu-system-x86_64", "prometheus", "prometheus-alertmanager")
    with ExitStack() as stack:
        sources = []
        for name, dirty_mib_per_second in (("stuck", 0), ("slow", 13)):
            directory = tmp_path / name
            directory.mkdir()
            destination = Qemu("destination", directory, working_set_mib=0, incoming=True)
            stack.callback(destination.quit)
            sources.append(Qemu(name, directory, working_set_mib=47, dirty_mib_per_second=dirty_mib_per_second))
            stack.callback(sources[-1].quit)
        yield sources[0], sources[1]


@pytest.mark.timeout(180)
def test_only_stuck_migration_alerts(tmp_path: Path, guests: tuple[Qemu, Qemu]) -> None:
    """The alert is one sentence with the command; it resolves when the bandwidth is raised."""
    stuck, slow = guests
    webhook = Webhook()
    with (
        receiving(webhook),
        running(tmp_path, f"--source={stuck.log}", f"--source={slow.log}") as daemon,
        delivering(tmp_path, webhook.url) as alertmanager,
        scraping(tmp_path, daemon.url.removeprefix("http://"), alertmanager) as prometheus,
    ):
        wait_for(lambda: prometheus.value("up") == 1, 20, "Prometheus scrapes")
        slow.migrate(max_bandwidth=16 * _MIB, downtime_limit=100)
        stuck.migrate()

        wait_for(lambda: bool(webhook.alerts), 60, "the alert is delivered")
        firing = webhook.alerts[0]
        assert (firing["status"], firing["labels"]["alertname"]) == ("firing", "QemuMigrationNotConverging")
        assert firing["labels"]["vm"] == "stuck"
        said = _SENTENCE.fullmatch(firing["annotations"]["description"])
        assert said, firing["annotations"]["description"]
        # The guest's working set, or on a busy machine the part of it that the guest reached.
        assert 10 < float(said["best"]) < 48
        needed_ms = float(said["seconds"]) * (1 if said["milli"] else 1_000)
        assert needed_ms * 1.1 - 1 <= int(said["ms"]) <= needed_ms * 1.1 + 101

        slow.wait_until("completed", seconds=60)
        assert stuck.query()["status"] == "active"
        stuck.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
        stuck.wait_until("completed")
        wait_for(lambda: webhook.alerts[-1]["status"] == "resolved", 30, "the alert resolves")

        assert {alert["fingerprint"] for alert in webhook.alerts} == {firing["fingerprint"]}
        wait_for(lambda: prometheus.value('qemu_migration_active{vm="slow"}') == 0, 20, "Prometheus sees its end")
        assert (prometheus.value('qemu_migration_round{vm="slow"}') or 0) >= 10, "it took many rounds"
        assert prometheus.value('max_over_time(qemu_migration_stalled{vm="slow"}[5m])') == 0
        assert prometheus.ask("query", query='count_over_time(ALERTS{vm="slow"}[5m])') == []
        assert daemon.stop() == 0
