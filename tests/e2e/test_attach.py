"""`attach` on two real libvirt hosts: events are switched on, stay on over migrations, and are switched off again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import pytest
from qemu_migration_exporter.attach.virsh import Virsh, VirshError
from qemu_migration_exporter.probes.log import PATTERNS

from tests.support.libvirt import Host, missing_tools, two_hosts
from tests.support.qemu import wait_for

PROGRAM = [sys.executable, "-m", "qemu_migration_exporter"]
_NO_EVENT: list[str] = []
_IDLE_SECONDS = 10


@pytest.fixture(name="hosts", scope="module")
def _hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Host]]:
    missing = missing_tools()
    if missing:
        reason = f"needs {', '.join(missing)}"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with two_hosts(tmp_path_factory.mktemp("libvirt")) as hosts:
        yield hosts


def attach(host: Host, *arguments: str) -> subprocess.CompletedProcess[str]:
    return host.run([*PROGRAM, "attach", *arguments], check=False)


def enabled(host: Host, vm: str) -> list[str]:
    """Return the migration events that QEMU itself reports as enabled."""
    command = '{"execute":"trace-event-get-state","arguments":{"name":"*"}}'
    states = json.loads(host.virsh("qemu-monitor-command", vm, command))["return"]
    names = [state["name"] for state in states if state["state"] == "enabled"]
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in PATTERNS)]


@pytest.mark.timeout(240)
def test_followed_vm_is_traced_both_ways(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    alpha, beta = hosts
    alpha.start_guest("web", working_set_mib=4)
    follow = [*PROGRAM, "attach", "--all", "--follow"]
    with alpha.running(follow, tmp_path / "alpha"), beta.running(follow, tmp_path / "beta"):
        for source, destination in ((alpha, beta), (beta, alpha)):
            wait_for(partial(enabled, source, "web"), 30, "events are on")
            source.virsh("migrate", "--live", "--p2p", "--unsafe", "web", f"qemu+tcp://{destination.name}/system")
            assert "migrate_set_state new state completed" in (source.logs / "web.log").read_text()
        wait_for(partial(enabled, alpha, "web"), 30, "events are on again")

    detached = attach(alpha, "--all", "--detach")

    assert (0, "web: no migration event is enabled\n") == (detached.returncode, detached.stdout)
    assert _NO_EVENT == enabled(alpha, "web")
    alpha.virsh("destroy", "web")


def run_time_ns(pid: int) -> tuple[int, int]:
    """Return the time on a processor, as the scheduler counts it, and how often the process gave it up."""
    spent = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    return spent, int(re.findall(r"(?m)^voluntary_ctxt_switches:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])


@pytest.mark.timeout(180)
def test_idle_follow_uses_no_cpu(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    """`attach` and its `virsh event` are not woken while nothing happens; nanoseconds show it within seconds."""
    alpha, _ = hosts
    alpha.start_guest("idle", working_set_mib=4)
    with alpha.running([*PROGRAM, "attach", "--all", "--follow"], tmp_path / "log") as pid:
        wait_for(lambda: "attached: vm=idle" in (tmp_path / "log").read_text(), 60, "the guest is attached")
        (virsh,) = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        time.sleep(2)  # for the last steps of the attaching
        before = {process: run_time_ns(process) for process in (pid, virsh)}
        time.sleep(_IDLE_SECONDS)

        assert before == {process: run_time_ns(process) for process in (pid, virsh)}
    alpha.virsh("destroy", "idle")


def test_killed_virsh_is_named() -> None:
    """As by the seccomp filter of a unit."""
    with pytest.raises(VirshError, match=r"virsh was killed by signal 31 \(Bad system call\)"):
        Virsh(program=["sh", "-c", "kill -s SYS $$"]).call()


def test_follow_ends_without_failure_when_stopped() -> None:
    """A unit that systemd stops would be marked as failed otherwise."""
    uri = "qemu+unix:///system?socket=/nonexistent/libvirt-sock"
    command = [*PROGRAM, "attach", "--all", "--follow", "--connect", uri]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as follow:
        assert follow.stderr is not None
        assert "libvirt not reachable" in follow.stderr.readline()
        follow.terminate()

        assert follow.wait(20) == 0


@pytest.mark.timeout(120)
def test_paused_vm_attaches_by_name_or_uuid(hosts: tuple[Host, Host]) -> None:
    alpha, _ = hosts
    uuid = alpha.start_guest("-db '7'", working_set_mib=4)
    alpha.virsh("suspend", "--domain", uuid)

    for key in (uuid, "-db '7'"):
        done = attach(alpha, "--", key)
        assert (0, "") == (done.returncode, done.stderr)
        assert f"-db '7': {len(enabled(alpha, uuid))} migration events are enabled" in done.stdout
    alpha.virsh("destroy", "--domain", uuid)


@pytest.mark.parametrize(
    ("arguments", "status", "error"),
    [
        (["nosuch"], 1, "nosuch: failed to get domain 'nosuch'"),
        (["--connect=qemu+unix:///system?socket=/nowhere", "--all"], 1, "is libvirtd (or virtqemud) running?"),
        ([], 2, "expected either names of machines or --all"),
        (["--all", "web"], 2, "expected either names of machines or --all"),
        (["--all", "--follow", "--detach"], 2, "--follow goes with neither"),
    ],
)
def test_mistake_is_explained(hosts: tuple[Host, Host], arguments: list[str], status: int, error: str) -> None:
    done = attach(hosts[0], *arguments)

    assert status == done.returncode
    assert error in done.stderr


def test_dry_run_commands_work_in_shell(hosts: tuple[Host, Host]) -> None:
    alpha, _ = hosts
    alpha.start_guest("cache", working_set_mib=4)

    printed = attach(alpha, "cache", "--dry-run").stdout

    assert _NO_EVENT == enabled(alpha, "cache")
    assert len(PATTERNS) == len(printed.splitlines())
    assert '{"return":{}' in alpha.run(["sh", "-c", printed]).stdout
    assert _NO_EVENT != enabled(alpha, "cache")
    alpha.virsh("destroy", "cache")
