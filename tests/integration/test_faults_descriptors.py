"""No file descriptor is left: open files are read on, others wait, and the shortage is reported."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.spool import Spool

from tests.support.daemon import Daemon, running
from tests.support.paths import DATA
from tests.support.patience import patience
from tests.support.recordings import as_of_now
from tests.support.service_manager import managing
from tests.support.spans import batch_of, numbers_in
from tests.support.web_helpers import connect

_IDLE = as_of_now((DATA / "qemu-7.2-log-idle.log").read_bytes())
_CONNECTIONS = 300


def _open_files(daemon: Daemon) -> list[int]:
    return [int(each.name) for each in Path(f"/proc/{daemon.process.pid}/fd").iterdir()]


def test_descriptor_shortage_is_survived(tmp_path: Path) -> None:
    """Silent connections take all descriptors: open files are read, a scrape gets the place of a silent connection.

    systemd is told on, and a reload ends nothing. What could not be opened is, from its beginning, as soon as it can.
    """
    config, log, new = tmp_path / "exporter.yml", tmp_path / "logs" / "db-7.log", tmp_path / "logs" / "web-42.log"
    log.parent.mkdir()
    log.write_bytes(b"2026-11-22 22:39:13.610+0000: starting up libvirt\n")
    config.write_text(f"sources: [file: {log.parent}/*.log]\n")
    ended = "qemu_migration_last_result"
    with (
        managing(tmp_path) as manager,
        running(tmp_path, f"--config.file={config}", NOTIFY_SOCKET=manager.address) as daemon,
    ):
        before = len(_open_files(daemon))
        most = max(_open_files(daemon)) + 5
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, (most, most))
        with ExitStack() as silent:
            for _ in range(_CONNECTIONS):
                silent.enter_context(connect(daemon.url))
            daemon.wait_until(lambda: "accepting a connection failed" in daemon.log, "it has no more")
            for path in (log, new):
                with path.open("ab") as out:
                    out.write(_IDLE)
            daemon.process.send_signal(signal.SIGHUP)
            daemon.wait_until(lambda: "config reload" in daemon.log, "it tries to read its configuration again")
            daemon.wait_until(lambda: daemon.metric(ended, result="completed", vm="db-7") == 1, "what is open is read")
            manager.wait_for(b"WATCHDOG=1")
            assert daemon.failures(Component.WEB) > 0

        daemon.wait_until(lambda: daemon.metric(ended, result="completed", vm="web-42") == 1, "the new one is read")
        daemon.wait_until(lambda: len(_open_files(daemon)) <= before + 2, "no connection is left open")
        assert daemon.metric("qemu_migration_exporter_stream_up", stream=str(new)) == 1
        assert daemon.log.count("accepting a connection failed") == 1
        assert "Traceback" not in daemon.log
        assert daemon.stop() == 0


@pytest.mark.parametrize("most", [6, 8])
def test_failed_start_is_reported(tmp_path: Path, most: int) -> None:
    """Without a descriptor for its event loop or its sources the program prints a message and exits with status 1."""
    command = [
        sys.executable,
        "-m",
        "qemu_migration_exporter",
        "run",
        "--web.listen-address=127.0.0.1:0",
        f"--source={tmp_path}/a.log",
    ]
    done = subprocess.run(
        ["prlimit", f"--nofile={most}", *command], capture_output=True, text=True, timeout=patience(30), check=False
    )

    assert done.returncode == 1
    assert "Too many open files" in done.stderr


def test_unopenable_spooled_spans_stay(tmp_path: Path) -> None:
    """They are not given up as damaged; each is tried again after the others."""
    failures = ErrorCounter()
    spool = Spool(tmp_path / "spool", max_bytes=1 << 20, failures=failures)
    spool.open()
    for number in (1, 2):
        assert spool.put(batch_of([number]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            spool.first()
        assert not spool.put(batch_of([3]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert failures.counts()[Component.SPOOL] == 1
    seen = []
    while stored := spool.first():
        seen += numbers_in(stored.batch)
        spool.remove(stored.name)
    assert seen == [2, 1]
    assert sum(spool.counts().values()) == 0
    spool.close()
