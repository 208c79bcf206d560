"""Full or read-only disk: the daemon goes on, reports it, and catches up when the disk accepts data again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.ops.errors import Component, ErrorCounter

from tests.support.daemon import Daemon, running
from tests.support.disk import SmallDisk
from tests.support.paths import DATA
from tests.support.receiver import Receiver, receiving
from tests.support.recordings import as_of_now

_IDLE = as_of_now((DATA / "qemu-7.2-log-idle.log").read_bytes())
_CANCELLED = as_of_now((DATA / "qemu-7.2-log-cancelled.log").read_bytes())


class Damage(NamedTuple):
    """A defect of a disk."""

    name: str
    do: Callable[[SmallDisk], None]
    undo: Callable[[SmallDisk], None]
    reason: str


_DAMAGES = (
    Damage("full", SmallDisk.fill, SmallDisk.empty, "No space left on device"),
    Damage("read-only", SmallDisk.protect, SmallDisk.unprotect, "Read-only file system"),
)


class Host:
    """A daemon whose state and spool are on a small disk."""

    def __init__(self, directory: Path, damage: Damage, receiver: Receiver, stack: ExitStack) -> None:
        directory.mkdir()
        self.damage = damage
        self.disk = SmallDisk(directory / "disk", kib=1_024)
        self.disk.need()
        self.log = directory / "db-7.log"
        config = directory / "exporter.yml"
        config.write_text(
            f"spans: {{otlp_endpoint: '{receiver.url}', spool_directory: {directory}/disk/spool}}\n"
            f"state_file: {directory}/disk/state\n"
            f"sources: [file: {self.log}]\n"
        )
        started = running(directory, f"--config.file={config}", under=self.disk.under, OTEL_EXPORTER_OTLP_TIMEOUT="1")
        self.daemon: Daemon = stack.enter_context(started)
        self.disk.of(self.daemon.process.pid)

    def migrate(self, log: bytes) -> None:
        """Append a whole migration to the log."""
        with self.log.open("ab") as out:
            out.write(log)

    def spooled(self) -> list[Path]:
        """List the spooled batches on disk."""
        return list(self.disk.path.glob("spool/*.otlp"))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until something is so."""
        self.daemon.wait_until(condition, f"{self.damage.name}: {what}")


def test_full_disk_loses_nothing(tmp_path: Path) -> None:
    """The state is tried again by itself; spans that no receiver takes either wait in memory, then on disk, then leave.

    A full disk and a read-only one, at the same time, for each takes a while.
    """
    with ExitStack() as stack:
        with receiving(Receiver()) as receiver:
            port = int(receiver.url.rpartition(":")[2])
            hosts = [Host(tmp_path / each.name, each, receiver, stack) for each in _DAMAGES]
            for host in hosts:
                host.damage.do(host.disk)
                host.migrate(_IDLE)
            for host in hosts:
                host.wait(lambda host=host: host.daemon.failures(Component.STATE) > 0, "the state is not kept")  # type: ignore[misc]
        for host in hosts:
            host.migrate(_CANCELLED)
        for host in hosts:
            host.wait(lambda host=host: host.daemon.failures(Component.SPOOL) > 0, "the spans are not kept")  # type: ignore[misc]
            assert (
                host.daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="source")
                == 1
            )
            assert not list(host.disk.path.glob("**/*.tmp"))
            host.damage.undo(host.disk)
        for host in hosts:
            host.wait(lambda host=host: bool(host.spooled()), "the spans are kept")  # type: ignore[misc]
            host.wait((host.disk.path / "state").exists, "the state is kept")
        with receiving(receiver, port):
            for host in hosts:
                host.wait(lambda host=host: not host.spooled(), "the spans leave")  # type: ignore[misc]
        exported = [host.daemon.metric("qemu_migration_exporter_spans_total", outcome="exported", reason="") for host in hosts]  # fmt: skip
        kept = [checkpoint.load(host.disk.path / "state", ErrorCounter()) for host in hosts]

    assert sum(each or 0 for each in exported) == len(receiver.spans)
    assert len({(span.trace_id, span.span_id) for span in receiver.spans}) == len(receiver.spans) / 2
    assert [span.name for span in receiver.spans].count("migrate") == 4
    for host, each in zip(hosts, kept, strict=True):
        log, reason = host.daemon.log, host.damage.reason
        assert [stream.position.offset for stream in each.streams.values()] == [len(_IDLE + _CANCELLED)]
        assert log.count(f"state not saved: {host.log.parent}/disk/state: {reason}") == 1
        assert log.count(f"spans stay in memory: {host.log.parent}/disk/spool: {reason}") == 1
        assert [log.count(f"{what} again") for what in ("state saved", "spool write succeeded")] == [1, 1]
