"""Prometheus and other clients that disconnect midway: an aborted scrape does not delay the next one."""

from __future__ import annotations

import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.daemon import Daemon, running
from tests.support.paths import DATA
from tests.support.prometheus import need, scraping
from tests.support.recordings import as_of_now
from tests.support.web_helpers import connect

_HALF = b"".join(as_of_now((DATA / "qemu-7.2-log-nonconverging.log").read_bytes()).splitlines(keepends=True)[:500])
_ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n"


@contextmanager
def _exporting(directory: Path) -> Iterator[Daemon]:
    for number in range(20):
        (directory / f"vm-{number}.log").write_bytes(_HALF)
    with running(directory, f"--source={directory}/*.log") as daemon:
        yield daemon


def _reset(connection: socket.socket) -> None:
    """Close it with a reset, as the kernel does for a client that was killed with an answer unread."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_aborted_scrapes_delay_no_other(tmp_path: Path) -> None:
    """Before the answer, in its middle, with others asked for behind it: none is an error, none is kept."""
    with _exporting(tmp_path) as daemon:
        whole = len(daemon.get("/metrics"))
        for said, read in ((_ASK[:-2], 0), *((_ASK * asked, read) for asked in (1, 5) for read in (0, 1, whole // 2))):
            connection = connect(daemon.url)
            connection.sendall(said)
            received = 0
            while received < read:
                received += len(connection.recv(read - received))
            _reset(connection)

        assert abs(len(daemon.get("/metrics")) - whole) < whole / 100
        assert "level=error" not in daemon.log
        daemon.wait_until(lambda: not _connections(daemon), "none is open")


def test_restarted_prometheus_goes_on(tmp_path: Path) -> None:
    """Its scrape was open while the daemon was stopped; both work as before when they run again."""
    need("prometheus")
    with _exporting(tmp_path) as daemon:
        target = daemon.url.removeprefix("http://")
        for is_killed in (True, False):
            with scraping(tmp_path, target) as prometheus:
                daemon.wait_until(lambda: prometheus.value("sum(qemu_migration_active)") == 20, "it scrapes", 30)
                if is_killed:
                    daemon.process.send_signal(signal.SIGSTOP)
                    daemon.wait_until(lambda: any(_connections(daemon)), "it asks")
                    prometheus.process.kill()
                    prometheus.process.wait()
                    daemon.process.send_signal(signal.SIGCONT)

        assert "level=error" not in daemon.log
        daemon.wait_until(lambda: not _connections(daemon), "none is open")


def _connections(daemon: Daemon) -> list[int]:
    """Return the unread bytes of each connection to the daemon: proc(5)."""
    port = f":{int(daemon.url.rpartition(':')[2]):04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return [int(each[4].partition(":")[2], 16) for each in sockets if each[1].endswith(port) and each[3] == "01"]
