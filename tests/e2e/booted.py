"""The README's commands and the hardened units on a booted Debian 12, where a real guest is stuck.

    alpha: Debian 12 in systemd-nspawn, libvirt ── virsh migrate --p2p ──> beta: a libvirt host in namespaces

The package is installed by the letter of the README while the guest `web-42` migrates, and the figures are printed.
Needs root and the tools of `make packages`; downloads Debian's packages. `make booted`
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import IO, Final

import pytest
from qemu_migration_exporter.probes.log import PATTERNS

from tests.support.booted import TOOLS, Booted, booted, build_root
from tests.support.libvirt import Host, domain_xml, missing_tools
from tests.support.paths import ROOT
from tests.support.prometheus import need
from tests.support.qemu import boot_sector, wait_for

pytestmark = pytest.mark.timeout(1800)

_NAME: Final = "qemu-migration-exporter"
_VM: Final = "web-42"
_LOG: Final = f"/var/log/libvirt/qemu/{_VM}.log"
_HOSTS: Final = "127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n"
_ADVICE: Final = re.compile(rf"virsh migrate-set\w+ {_VM} \d+")
_DAEMON: Final = "http://127.0.0.1:9871"


def report(text: str) -> None:
    """Print a part of the transcript."""
    print(text)  # noqa: T201 - for a manual run


def readme_commands() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## One stuck VM, now")[2].partition("\n![")[0]
    return [line.partition("#")[0].strip() for line in section.splitlines() if line.startswith("    ")]


@pytest.fixture(name="alpha", scope="module")
def _alpha(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    """Boot alpha with a guest that is stuck on its way to beta; the package lies in root's home."""
    assert not missing_tools()
    need(*TOOLS, "dh", "fakeroot")
    directory = tmp_path_factory.mktemp("booted")
    root, images = directory / "root", directory / "images"
    build_root(root)
    subprocess.run([ROOT / "deploy/packages/build", directory / "dist", "deb"], check=True, stdout=subprocess.DEVNULL)
    shutil.copy(max((directory / "dist").glob("*.deb")), root / "root")
    (root / "etc/hosts").write_text(_HOSTS)
    images.mkdir()
    image = images / "guest.img"
    image.write_bytes(boot_sector(47).ljust(1 << 20, b"\0"))
    image.chmod(0o666)
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o011)  # QEMU has a user of its own
    (images / "guest.xml").write_text(domain_xml(_VM, str(uuid.uuid4()), image))
    beta = Host("beta", directory / "beta", _HOSTS)
    try:
        with booted(root, "alpha", images) as alpha:
            link = f"qme{alpha.pid % 100_000}"
            subprocess.run(
                ["ip", "link", "add", link, "netns", str(alpha.pid), "type", "veth",
                 "peer", "name", link, "netns", str(beta.pid)],
                check=True,
            )  # fmt: skip
            for host, address in ((alpha.wrap, "10.77.0.1/24"), (beta.wrap, "10.77.0.2/24")):
                subprocess.run(host(["ip", "address", "add", address, "dev", link]), check=True)
                subprocess.run(host(["ip", "link", "set", link, "up"]), check=True)
            alpha.run("virsh", "define", str(images / "guest.xml"))
            alpha.run("virsh", "start", _VM)
            migrate = ["virsh", "migrate", "--live", "--p2p", "--unsafe", "--bandwidth", "16", _VM]
            with subprocess.Popen(alpha.wrap([*migrate, "qemu+tcp://beta/system"])) as job:
                wait_for(lambda: _iteration(alpha) >= 3, 120, "the guest is stuck")
                yield alpha
                alpha.run("virsh", "destroy", _VM, check=False)
                job.wait(60)
    finally:
        beta.close()


def _iteration(alpha: Booted) -> int:
    time.sleep(0.5)  # virsh on every poll would take the processor from the guest, which then dirties too little
    found = re.search(r"Iteration: +(\d+)", alpha.run("virsh", "domjobinfo", _VM, check=False).stdout)
    return int(found[1]) if found else 0


def _watched(alpha: Booted, command: str) -> str:
    """Run a command on a terminal of 100 columns until it advises something; return its last screen."""
    terminal = ["script", "-qec", f"stty cols 100 rows 30; exec {command}", "/dev/null"]
    with subprocess.Popen(alpha.wrap(terminal), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            return _read_until_advice(process.stdout)
        finally:
            process.stdin.write(b"q")
            process.stdin.close()
            process.stdout.read()


def _read_until_advice(output: IO[bytes]) -> str:
    text = ""
    while not _ADVICE.search(text):
        data = output.read1(65_536)  # type: ignore[attr-defined]
        assert data, text
        text += data.decode(errors="replace")
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.rpartition("\x1b[H")[2])
    return "\n".join(line.rstrip() for line in screen.splitlines() if line.strip())


def _metrics(alpha: Booted) -> str:
    program = f"import urllib.request as r; print(r.urlopen('{_DAEMON}/metrics').read().decode())"
    return alpha.run("python3", "-c", program).stdout


def test_readme_leads_to_advice(alpha: Booted) -> None:
    commands = readme_commands()
    assert len(commands) <= 3
    began = time.monotonic()
    for command in commands:
        started = time.monotonic()
        if " watch" in command:
            shown = _watched(alpha, command)
        else:
            shown = "\n".join(alpha.run("bash", "-c", f"cd /root && {command}").stdout.splitlines()[-8:])
        report(f"\n# {command}\n{shown}\n({time.monotonic() - started:.1f} s)")
    report(f"\nfrom nothing to the advice: {time.monotonic() - began:.1f} s")


def test_unit_runs_hardened(alpha: Booted) -> None:
    """The daemon reads a log of mode 0600 with one capability, and may see nothing else of the host's secrets."""
    assert alpha.run("stat", "--format=%a %U", _LOG).stdout == "600 root\n"
    wait_for(lambda: f'qemu_migration_stalled{{vm="{_VM}"}} 1.0' in _metrics(alpha), 60, "the daemon calls it stalled")
    pid = alpha.run("systemctl", "show", "--value", "--property=MainPID", _NAME).stdout.strip()
    status = dict(re.findall(r"(?m)^(\w+):\s+(\S+)", alpha.run("cat", f"/proc/{pid}/status").stdout))
    assert status["Uid"] != "0"
    assert (status["CapEff"], status["NoNewPrivs"], status["Seccomp"]) == (f"{1 << 2:016x}", "1", "2")
    for secret in ("/etc/shadow", "/etc/libvirt"):
        inside = ["nsenter", "-t", pid, "-m", "-S", status["Uid"], "ls", "-l", secret]
        assert alpha.run("bash", "-c", f"{shlex.join(inside)} | grep --count '^-r'", check=False).stdout.strip() == "0"
    for unit in (_NAME, f"{_NAME}-attach"):
        found = alpha.run("systemd-analyze", "security", "--no-pager", f"{unit}.service").stdout
        exposure = re.search(r"Overall exposure level for .*: ([\d.]+)", found)
        assert exposure is not None
        report(exposure[0])
        assert float(exposure[1]) < 2.5, found
    journal = alpha.run("journalctl", "--unit", _NAME, "--output=cat").stdout
    report("\n".join(line for line in journal.splitlines() if "stalled" in line))
    assert f"vm={_VM} " in journal


def test_attach_unit_switches_events(alpha: Booted) -> None:
    """Its hardening leaves it what virsh needs."""
    alpha.run(_NAME, "attach", "--all", "--detach")
    assert _enabled(alpha) == 0
    alpha.run("systemctl", "enable", "--now", f"{_NAME}-attach")
    wait_for(lambda: _enabled(alpha) > 50, 60, "the unit switches the events on")
    alpha.run("systemctl", "disable", "--now", f"{_NAME}-attach")
    assert alpha.run("systemctl", "is-failed", f"{_NAME}-attach", check=False).stdout == "inactive\n"


def _enabled(alpha: Booted) -> int:
    """Return the number of migration events that QEMU itself reports as enabled."""
    command = '{"execute":"trace-event-get-state","arguments":{"name":"*"}}'
    states = json.loads(alpha.run("virsh", "qemu-monitor-command", _VM, command).stdout)["return"]
    names = [state["name"] for state in states if state["state"] == "enabled"]
    return sum(any(fnmatchcase(name, pattern) for pattern in PATTERNS) for name in names)


def test_upgrade_continues_migration(alpha: Booted) -> None:
    info = re.compile(rf'qemu_migration_info{{[^}}]*vm="{_VM}"[^}}]*}}')
    before = info.findall(_metrics(alpha))

    alpha.run("bash", "-c", "dpkg --install ~/*.deb")

    wait_for(lambda: _metrics(alpha), 60, "the daemon answers")
    assert before == info.findall(_metrics(alpha))
    assert len(before) == 1


def test_advice_ends_migration(alpha: Booted) -> None:
    program = f"import urllib.request as r; print(r.urlopen('{_DAEMON}/api/v1/migrations').read().decode())"
    (migration,) = json.loads(alpha.run("python3", "-c", program).stdout)["data"]["migrations"]
    (command,) = [line.partition("  #")[0] for line in migration["verdict"]["advice"] if "maxdowntime" in line]
    alpha.run("bash", "-c", command)
    done = f'qemu_migration_last_result{{result="completed",vm="{_VM}"}} 1.0'
    wait_for(lambda: done in _metrics(alpha), 60, "the migration completes")
    report(f"# {command}\ncompleted")


def test_removal_stops_daemon(alpha: Booted) -> None:
    alpha.run("apt-get", "purge", "--yes", _NAME)

    assert alpha.run("systemctl", "is-active", _NAME, check=False).stdout == "inactive\n"
    assert not (alpha.root / "etc" / _NAME).exists()
