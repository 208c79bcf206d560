"""A Debian 12 with systemd, libvirt and QEMU that boots in a container of systemd-nspawn.

The container has the network of its own, processes and mounts of a host; it shares the kernel. `attach_network` joins
it to a host of `tests.support.libvirt`, so that guests can migrate there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.qemu import wait_for

TOOLS: Final = ("debootstrap", "systemd-nspawn", "nsenter", "ip")

_PACKAGES: Final = (
    "libvirt-clients", "libvirt-daemon-driver-qemu", "libvirt-daemon-system", "qemu-system-x86", "libpam-systemd",
    "python3", "iproute2",
)  # fmt: skip
_BASE: Final = "python3,systemd,systemd-sysv,dbus"

#: The container may not make control groups on every kernel, and libvirt needs none to run a guest.
_QEMU_CONF: Final = "cgroup_controllers = [ ]\n"


def build_root(root: Path) -> None:
    """Install Debian 12 with libvirt and QEMU into a directory."""
    subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={_BASE}", "bookworm", root],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    policy = root / "usr/sbin/policy-rc.d"  # no service starts before the boot
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    inside = ["unshare", "-m", "-p", "-f", "--kill-child", f"--mount-proc={root}/proc", "chroot", str(root)]
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *_PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    for command in (["apt-get", "update"], install):
        subprocess.run([*inside, *command], check=True, stdout=subprocess.DEVNULL, env=environment)
    policy.unlink()
    with (root / "etc/libvirt/qemu.conf").open("a") as config:
        config.write(_QEMU_CONF)


class Booted:
    """A booted root.

    Attributes:
        root: Its directory.
        pid: Its process 1, as seen from outside.
    """

    def __init__(self, root: Path, pid: int) -> None:
        self.root = root
        self.pid = pid

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one inside, as root's shell would."""
        environment = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=xterm", "LANG=C.UTF-8"]
        return ["nsenter", "-t", str(self.pid), "-a", "--wd=/", "--", "env", "-i", *environment, *command]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        done = subprocess.run(self.wrap(command), capture_output=True, text=True, check=False, timeout=120)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done


@contextmanager
def booted(root: Path, name: str, shared: Path) -> Iterator[Booted]:
    """Boot a root; `shared` is a directory at the same path inside and outside."""
    command = [
        "systemd-nspawn", "--quiet", f"--directory={root}", f"--hostname={name}", f"--machine={name}-{os.getpid()}",
        "--register=no", "--keep-unit", "--private-network", f"--bind={shared}", "--boot",
    ]  # fmt: skip
    with (root.parent / "boot.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        # Its first child is gone when process 1 of the container runs.
        wait_for(lambda: _is_running(process.pid, root), 120, "the container has booted")
        machine = Booted(root, _process_1(process.pid))
        yield machine
        os.kill(machine.pid, signal.SIGRTMIN + 4)  # systemd(1): power off
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(20)


def _process_1(nspawn: int) -> int:
    children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
    return int(children[0]) if children else 0


def _is_running(nspawn: int, root: Path) -> bool:
    pid = _process_1(nspawn)
    state = Booted(root, pid).run("systemctl", "is-system-running", check=False) if pid else None
    return state is not None and state.stdout.strip() == "running"
