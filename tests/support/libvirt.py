"""Two real libvirt hosts on one machine.

A host is a mount, UTS and network namespace with a libvirtd and a virtlogd of its own. A veth pair joins the two
network namespaces, so that `virsh migrate --live --p2p` goes from the one to the other over TCP. Guests run under
TCG from the boot sector of `tests.support.qemu`, which dirties memory and needs no disk.

Needs root, unshare, nsenter, ip, virsh, libvirtd and virtlogd. Everything ends with `Hosts.close`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from tests.support.qemu import boot_sector, wait_for

TOOLS: Final = ("virsh", "libvirtd", "virtlogd", "unshare", "nsenter", "ip", "qemu-system-x86_64")

_PAGES_PER_MIB: Final = 256
_BIOS_TICKS_PER_SECOND: Final = 18.2065

#: Folders a libvirt of its own must not share, in the order in which they are mounted.
_PRIVATE: Final = ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")

_START = """
set -e
mount --make-rprivate /
for folder in {folders}; do
    mkdir -p "$folder" "{root}$folder"
    mount --bind "{root}$folder" "$folder"
done
mount -t tmpfs none /run
mkdir -p /run/libvirt /run/lock
hostname {name}
mount --bind {root}/hosts /etc/hosts
ip link set lo up
virtlogd -d
libvirtd -d -l
echo ready > {root}/ready
sleep infinity &
wait  # as process 1, bash reaps what libvirtd leaves
"""

_LIBVIRTD_CONF = """
host_uuid = "{uuid}"
listen_tls = 0
listen_tcp = 1
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
"""

_QEMU_CONF = """
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "logd"
user = "root"
group = "root"
remember_owner = 0
"""

_DOMAIN = """
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>{memory_mib}</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none'/>
      <source file='{image}'/>
      <target dev='hda' bus='ide'/>
      <shareable/>
    </disk>
  </devices>
  <qemu:commandline>{arguments}</qemu:commandline>
</domain>
"""


def domain_xml(name: str, guest: str, image: Path, *, memory_mib: int = 160, trace: Sequence[str] = ()) -> str:
    """Return the XML of a guest that boots from an image; `trace` becomes -trace arguments."""
    words = [word for pattern in trace for word in ("-trace", pattern)]
    arguments = "".join(f"<qemu:arg value='{word}'/>" for word in words)
    return _DOMAIN.format(name=escape(name), uuid=guest, memory_mib=memory_mib, image=image, arguments=arguments)


def missing_tools() -> list[str]:
    """Return the tools that this machine lacks; empty as root on a machine that has them all."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return missing if os.geteuid() == 0 else [*missing, "root"]


class Host:
    """One libvirt host.

    Attributes:
        name: Its host name.
        logs: Its folder of QEMU logs, as seen from outside.
    """

    def __init__(self, name: str, root: Path, hosts: str) -> None:
        self.name = name
        self.root = root
        self.logs = root / "var/log/libvirt/qemu"
        for folder in _PRIVATE:
            (root / folder[1:]).mkdir(parents=True)
        etc = root / "etc/libvirt"
        (etc / "libvirtd.conf").write_text(_LIBVIRTD_CONF.format(uuid=uuid.uuid4()))
        (etc / "qemu.conf").write_text(_QEMU_CONF)
        (etc / "qemu").mkdir()
        (root / "hosts").write_text(hosts)
        script = _START.format(folders=" ".join(_PRIVATE), root=root, name=name)
        with (root / "host.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "-m", "-u", "-n", "-p", "-f", "--mount-proc", "--kill-child", "bash", "-c", script],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        wait_for((root / "ready").exists, 60, f"{name} is up")
        self._pid = int(subprocess.check_output(["pgrep", "-P", str(self.process.pid)], text=True).split()[0])
        wait_for(lambda: self.run(["virsh", "list"], check=False).returncode == 0, 60, f"libvirtd of {name} answers")

    @property
    def pid(self) -> int:
        """The process to enter the namespaces of."""
        return self._pid

    def wrap(self, command: Sequence[str]) -> list[str]:
        """Return a command that runs another one on this host."""
        return ["nsenter", "-t", str(self._pid), "-m", "-u", "-n", "-p", "--", *command]

    def run(
        self, command: Sequence[str], *, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this host."""
        return subprocess.run(self.wrap(command), capture_output=True, text=True, check=check, timeout=timeout)

    @contextmanager
    def running(self, command: Sequence[str], log: Path) -> Iterator[int]:
        """Keep a command running on this host, its output in `log`; the value is the process id outside."""
        with log.open("wb") as out:
            process = subprocess.Popen(
                self.wrap(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        try:
            wait_for(lambda: _children(process.pid), 20, "nsenter has forked")
            yield _children(process.pid)[0]
        finally:
            os.killpg(process.pid, signal.SIGTERM)  # nsenter forks, and passes no signal on
            process.wait(20)

    def virsh(self, *arguments: str, check: bool = True, timeout: float = 120) -> str:
        """Run virsh and return its output."""
        done = self.run(["virsh", *arguments], check=False, timeout=timeout)
        if check and done.returncode:
            raise AssertionError(f"virsh {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def start_guest(
        self,
        name: str,
        *,
        working_set_mib: int,
        dirty_mib_per_second: float = 0,
        memory_mib: int = 160,
        trace: Sequence[str] = (),
    ) -> str:
        """Define and start a guest; return its uuid. `trace` becomes -trace arguments."""
        guest = str(uuid.uuid4())
        image = self.root.parent / f"{guest}.img"
        ticks = round(dirty_mib_per_second * _PAGES_PER_MIB / _BIOS_TICKS_PER_SECOND)
        image.write_bytes(boot_sector(working_set_mib, ticks).ljust(1 << 20, b"\0"))
        xml = self.root / f"{guest}.xml"
        xml.write_text(domain_xml(name, guest, image, memory_mib=memory_mib, trace=trace))
        self.virsh("define", str(xml))
        self.virsh("start", guest)
        return guest

    def close(self) -> None:
        """End the host and everything in it."""
        for guest in self.virsh("list", "--uuid", check=False).split():
            self.virsh("destroy", guest, check=False)
        self.process.send_signal(signal.SIGTERM)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self.process.wait(20)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def two_hosts(directory: Path) -> Iterator[tuple[Host, Host]]:
    """Start two libvirt hosts joined by a network; guests migrate between them."""
    entries = "127.0.0.1 localhost\n10.77.0.1 alpha\n10.77.0.2 beta\n"
    hosts: list[Host] = []
    try:
        hosts.extend(Host(name, directory / name, entries) for name in ("alpha", "beta"))
        alpha, beta = hosts
        link = f"qme{os.getpid() % 100_000}"
        subprocess.run(
            ["ip", "link", "add", link, "netns", str(alpha.pid), "type", "veth",
             "peer", "name", link, "netns", str(beta.pid)],
            check=True,
        )  # fmt: skip
        for number, host in enumerate(hosts, 1):
            host.run(["ip", "address", "add", f"10.77.0.{number}/24", "dev", link])
            host.run(["ip", "link", "set", link, "up"])
        yield alpha, beta
    finally:
        for host in reversed(hosts):
            host.close()
