"""Connections of the program, as the kernel sees them: only those that are configured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import running
from tests.support.paths import DATA, ROOT
from tests.support.prometheus import need
from tests.support.receiver import Receiver, receiving
from tests.support.recordings import as_of_now
from tests.support.web_helpers import wait_for

_IDLE = DATA / "qemu-7.2-log-idle.log"

#: urllib3 asks when it is imported whether there is IPv6, by taking a port of ::1 and giving it back.
_HAS_IPV6 = ("bind", "::1", 0)


def _strace(out: Path) -> list[str]:
    """Trace all threads and what they start; the tracer is not the parent, so signals go to the program itself."""
    need("strace")
    traced = "trace=socket,connect,bind,sendto,sendmsg,sendmmsg"
    if subprocess.run(["strace", "-o", out, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine lets nobody trace")
    return ["strace", "-D", "-f", "-e", traced, "-o", str(out)]


def _spoken_to(out: Path) -> set[tuple[str, str, int]]:
    """Read whom a trace shows: call, address, port."""
    wait_for(lambda: "+++ exited with 0 +++" in out.read_text().splitlines()[-1])
    return {
        (call, four or six, int(port))
        for call, port, four, six in re.findall(
            r'(\w+)\(.*?sa_family=AF_INET6?, sin6?_port=htons\((\d+)\).*?(?:inet_addr\("([\d.]+)"\)|AF_INET6, "([^"]+)")',
            out.read_text(),
        )
    }


def _kinds_of_sockets(out: Path) -> set[str]:
    return set(re.findall(r"socket\((\w+)", out.read_text()))


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", str(_IDLE)],
        ["check", str(ROOT / "config" / "exporter.yml")],
        ["probe", "log"],
        ["--version"],
    ],
)
def test_commands_open_no_connection(tmp_path: Path, arguments: list[str]) -> None:
    """Commands fetch no file, report no usage and look up no name."""
    out = tmp_path / "trace"
    subprocess.run(
        [*_strace(out), sys.executable, "-m", "qemu_migration_exporter", *arguments], capture_output=True, check=True
    )

    assert _spoken_to(out) <= {_HAS_IPV6}
    assert "AF_NETLINK" not in _kinds_of_sockets(out)


@pytest.mark.parametrize("has_receiver", [False, True])
def test_daemon_connects_only_as_configured(tmp_path: Path, *, has_receiver: bool) -> None:
    """It listens and sends spans only at configured addresses; a scrape opens no connection."""
    out, log = tmp_path / "trace", tmp_path / "web-42.log"
    with receiving(Receiver()) as receiver:
        arguments = [f"--source={log}", *([f"--otlp.endpoint={receiver.url}"] if has_receiver else [])]
        with running(tmp_path, *arguments, under=_strace(out)) as daemon:
            log.write_bytes(as_of_now(_IDLE.read_bytes()))
            daemon.wait_until(lambda: bool(daemon.migrations()), "the migration is seen")
            daemon.wait_until(lambda: not has_receiver or "migrate" in receiver.names, "its trace is sent")
            assert "web-42" in daemon.get("/")
            assert daemon.stop() == 0

    expected = {("bind", "127.0.0.1", 0)}
    if has_receiver:
        expected.add(("connect", "127.0.0.1", int(receiver.url.rpartition(":")[2])))
    assert _spoken_to(out) - {_HAS_IPV6} == expected
    assert _kinds_of_sockets(out) <= {"AF_UNIX", "AF_INET", "AF_INET6"}
