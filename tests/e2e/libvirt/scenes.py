"""Alerts while a libvirt guest is destroyed, killed, suspended, saved, dumped, sped up or cut off.

    alpha ── virsh migrate --p2p ──> beta          two libvirt hosts in namespaces, a veth pair between them
      │ VM.log                        │ VM.log
    daemon                          daemon         one exporter for each host's logs
      └──────────── Prometheus ───────┘            the shipped rules, at one second

Needs root, libvirt, QEMU and Prometheus, and a core for several minutes: `make libvirt`. With LIBVIRT_LOGS=DIR the logs of
both hosts and `domjobinfo` are kept there.
"""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.daemon import Daemon, running
from tests.support.libvirt import Host, missing_tools, two_hosts
from tests.support.prometheus import CONFIG, Prometheus, free_address
from tests.support.qemu import TRACE, wait_for

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(missing_tools()), reason=f"missing: {', '.join(missing_tools())}"),
]

_DESTINATION: Final = "qemu+tcp://beta/system"
#: The time in which every alert of a guest that is gone must have ended.
_GONE_SECONDS: Final = 30


@dataclass(slots=True)
class Bed:
    """Both hosts, their daemons, and the Prometheus that scrapes them."""

    alpha: Host
    beta: Host
    source: Daemon
    destination: Daemon
    prometheus: Prometheus

    def migrate(self, vm: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Begin a migration from alpha to beta."""
        command = self.alpha.wrap(["virsh", "migrate", "--live", "--p2p", "--unsafe", *arguments, vm, _DESTINATION])
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def alerts(self, vm: str) -> set[str]:
        """Return the alerts of a guest that are pending or firing now."""
        found = self.prometheus.ask("query", query=f'ALERTS{{vm="{vm}"}}')
        return {f"{alert['metric']['alertname']} {alert['metric']['alertstate']}" for alert in found}

    def wait_for_alert(self, vm: str, name: str) -> None:
        """Wait until an alert fires."""
        wait_for(lambda: f"{name} firing" in self.alerts(vm), 90, f"{name} fires")

    def wait_for_silence(self, vm: str) -> float:
        """Wait until no alert of a guest is left; return the seconds."""
        began = time.monotonic()
        wait_for(lambda: not self.alerts(vm), _GONE_SECONDS, f"no alert is left: {self.alerts(vm)}")
        return time.monotonic() - began

    def migration(self, vm: str) -> dict[str, Any]:
        """Return the newest outgoing migration of a guest, as the daemon of alpha reports it."""
        found = [each for each in self.source.migrations() if each["vm"] == vm and each["side"] != "destination"]
        assert found, f"no migration of {vm}: {self.source.migrations()}"
        return max(found, key=lambda each: str(each["start_time"]))

    def ended(self, vm: str) -> dict[str, Any]:
        """Wait for the end of the newest outgoing migration of a guest and return it."""
        wait_for(lambda: self.metric("qemu_migration_active", vm) in {0, None}, 20, f"the migration of {vm} ends")
        return self.migration(vm)

    def metric(self, name: str, vm: str) -> float | None:
        """Return a sample of the daemon of alpha."""
        return self.source.metric(name, vm=vm)

    def _public(self, log: bytes) -> bytes:
        """Return a log without the paths of this machine."""
        folder = str(self.alpha.root.parent).encode()
        return re.sub(
            rb"(?m)^PATH=.*", b"PATH=/usr/sbin:/usr/bin \\\\", log.replace(folder, b"/var/lib/libvirt/images")
        )

    def keep(self, name: str, vm: str) -> None:
        """Keep the logs of a guest, if a folder for them is named."""
        if directory := os.environ.get("LIBVIRT_LOGS"):
            for host, suffix in ((self.alpha, ""), (self.beta, ".dst")):
                # virtlogd rotates: the highest number is the oldest.
                parts = sorted(host.logs.glob(f"{vm}.log.*"), reverse=True)
                log = b"".join(part.read_bytes() for part in (*parts, host.logs / f"{vm}.log") if part.exists())
                if log:
                    target = Path(directory) / f"{name}{suffix}.log.gz"
                    target.write_bytes(gzip.compress(self._public(log), mtime=0))
                info = host.virsh("domjobinfo", "--completed", vm, check=False)
                (Path(directory) / f"{name}{suffix}.domjobinfo.txt").write_text(info)


@contextmanager
def _scraping(directory: Path, targets: dict[str, str]) -> Iterator[Prometheus]:
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["rule_files"] = [str(CONFIG / name) for name in config["rule_files"]]
    del config["alerting"]
    hosts = [{"targets": [address], "labels": {"instance": f"{host}:9871"}} for host, address in targets.items()]
    config["scrape_configs"][0]["static_configs"] = hosts
    path, address = directory / "prometheus.yml", free_address()
    path.write_text(yaml.safe_dump(config))
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={path}", f"--web.listen-address={address}",
             f"--storage.tsdb.path={directory}/tsdb", "--enable-feature=exemplar-storage"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(address, process)
    finally:
        process.terminate()
        process.wait(timeout=20)


@pytest.fixture(name="bed", scope="module")
def _bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    directory = tmp_path_factory.mktemp("libvirt")
    with ExitStack() as stack:
        alpha, beta = stack.enter_context(two_hosts(directory))
        daemons = []
        for host in (alpha, beta):
            host.logs.mkdir(parents=True, exist_ok=True)
            daemons.append(stack.enter_context(running(host.root, f"--source={host.logs}/*.log")))
        targets = {
            name: daemon.url.removeprefix("http://") for name, daemon in zip(("alpha", "beta"), daemons, strict=True)
        }
        prometheus = stack.enter_context(_scraping(directory, targets))
        wait_for(lambda: len(prometheus.ask("query", query="up == 1")) == len(targets), 30, "both daemons are scraped")
        yield Bed(alpha, beta, daemons[0], daemons[1], prometheus)


@contextmanager
def _guest(bed: Bed, name: str, *, working_set_mib: int = 47, dirty_mib_per_second: float = 0) -> Iterator[str]:
    """Run a guest on alpha; it is gone from both hosts afterwards, and its logs are kept."""
    bed.alpha.start_guest(name, working_set_mib=working_set_mib, dirty_mib_per_second=dirty_mib_per_second, trace=TRACE)
    try:
        yield name
    finally:
        bed.keep(name, name)
        for host in (bed.alpha, bed.beta):
            host.virsh("destroy", name, check=False)
            host.virsh("undefine", name, check=False)


def _report(figures: str) -> None:
    """Print figures for a manual run."""
    print(figures)  # noqa: T201


def test_destroyed_while_stuck(bed: Bed) -> None:
    """`virsh destroy` ends the migration at once, and its alerts within 30 s."""
    with _guest(bed, "destroyed") as vm:
        job = bed.migrate(vm, "--bandwidth", "32")
        bed.wait_for_alert(vm, "QemuMigrationNotConverging")

        bed.alpha.virsh("destroy", vm)
        silent_after = bed.wait_for_silence(vm)

        job.wait(60)
        assert bed.ended(vm)["result"] == "failed"
        _report(f"destroyed: silent after {silent_after:.1f} s, {bed.migration(vm)['error']}")


def test_killed_while_stuck(bed: Bed) -> None:
    """SIGKILL leaves no line of QEMU's, only libvirt's `shutting down, reason=crashed`."""
    with _guest(bed, "killed") as vm:
        job = bed.migrate(vm, "--bandwidth", "32")
        bed.wait_for_alert(vm, "QemuMigrationNotConverging")

        pid = bed.alpha.run(["pgrep", "-f", f"guest={vm},"]).stdout.split()[0]
        bed.alpha.run(["kill", f"-{signal.SIGKILL.value}", pid])
        silent_after = bed.wait_for_silence(vm)

        job.wait(60)
        assert bed.ended(vm)["result"] == "failed"
        _report(f"killed: silent after {silent_after:.1f} s, {bed.migration(vm)['error']}")


def test_suspended_by_timeout(bed: Bed) -> None:
    """The guest is suspended after 12 s: a long blackout, a short downtime, and no stall of a paused guest."""
    with _guest(bed, "suspended", working_set_mib=40) as vm:
        job = bed.migrate(vm, "--bandwidth", "16", "--timeout", "12", "--timeout-suspend")
        job.wait(180)
        migration = bed.ended(vm)
        assert migration["result"] == "completed"
        assert migration["blackout_seconds"] > migration["downtime_seconds"] + 0.5
        _report(
            f"suspended: {migration['blackout_seconds']} s of blackout, {migration['downtime_seconds']} s of downtime"
        )
        bed.wait_for_silence(vm)


def test_saved_and_restored(bed: Bed) -> None:
    """A save is no live migration: no alert, and no entry in the statistics of live migrations."""
    with _guest(bed, "saved") as vm:
        path = bed.alpha.root / "saved.img"
        bed.alpha.virsh("save", vm, str(path))
        assert bed.ended(vm)["kind"] == "save"
        bed.alpha.virsh("restore", str(path))
        time.sleep(15)  # three times the `for` of the alerts
        assert bed.alerts(vm) == set()


def test_dumped_while_it_runs(bed: Bed) -> None:
    """A dump of the memory is distinguished from a migration."""
    with _guest(bed, "dumped") as vm:
        bed.alpha.virsh("dump", "--live", vm, str(bed.alpha.root / "dump"))
        time.sleep(15)
        assert bed.ended(vm)["kind"] == "dump"
        assert bed.alerts(vm) == set()


def test_sped_up_while_stuck(bed: Bed) -> None:
    """After `migrate-setspeed` the numbers are those of now; the alert resolves."""
    with _guest(bed, "sped-up") as vm:
        job = bed.migrate(vm, "--bandwidth", "32")
        bed.wait_for_alert(vm, "QemuMigrationNotConverging")

        bed.alpha.virsh("migrate-setspeed", vm, "936")
        job.wait(120)
        bed.wait_for_silence(vm)
        migration = bed.ended(vm)
        assert (migration["result"], migration["verdict"]["stalled_since_seconds"]) == ("completed", None)
        assert len(migration["stalls"]) == 1
        _report(f"sped up: {migration['stalls']}, {migration['downtime_seconds']} s of downtime")


def test_postcopy_paused_and_recovered(bed: Bed) -> None:
    """A network that breaks in post-copy raises the critical alert; the resume ends it."""
    with _guest(bed, "cut-off", working_set_mib=120) as vm:
        job = bed.migrate(vm, "--bandwidth", "4", "--postcopy", "--postcopy-bandwidth", "4")
        wait_for(lambda: (bed.metric("qemu_migration_round", vm) or 0) >= 1, 60, "it iterates")
        time.sleep(5)
        bed.alpha.virsh("migrate-postcopy", vm)
        wait_for(
            lambda: bed.source.metric("qemu_migration_phase", vm=vm, phase="postcopy") == 1, 30, "it is in post-copy"
        )
        ports = bed.alpha.run(["ss", "-tnp", "state", "established"]).stdout
        port = next(
            line.split()[3].rpartition(":")[2] for line in ports.splitlines() if ":4915" in line and "qemu" in line
        )
        bed.alpha.run(["ss", "-K", "dst", "10.77.0.2", "dport", "=", port])
        bed.wait_for_alert(vm, "QemuMigrationPostcopyPaused")

        resumed = bed.migrate(vm, "--postcopy", "--postcopy-resume")
        assert resumed.wait(300) == 0
        bed.wait_for_silence(vm)
        job.wait(30)
        assert bed.ended(vm)["result"] == "completed"
