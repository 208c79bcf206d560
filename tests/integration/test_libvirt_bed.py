"""Logs of the guests of `make libvirt`, real ones of two libvirt hosts, with what happened to each."""

from __future__ import annotations

import gzip

import pytest
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import Kind, Migration, PauseCause, Result, Side
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.support.paths import DATA

_NS = 1e9


def _migration(name: str) -> Migration:
    """Return the outgoing migration in a log."""
    stream = Stream(name, vm=name)
    changes = [*stream.feed(gzip.decompress((DATA / "libvirt" / f"bed-{name}.log.gz").read_bytes())), *stream.close()]
    (migration,) = (
        change.migration
        for change in changes
        if isinstance(change, MigrationEnded) and change.migration.identity.side is Side.SOURCE
    )
    return migration


@pytest.mark.parametrize(
    ("name", "kind", "result", "stalls"),
    [
        ("sped-up", Kind.LIVE, Result.COMPLETED, 1),
        ("destroyed", Kind.LIVE, Result.FAILED, 1),
        ("killed", Kind.LIVE, Result.FAILED, 1),
        ("suspended", Kind.LIVE, Result.COMPLETED, 1),
        ("saved", Kind.SAVE, Result.COMPLETED, 0),
        ("dumped", Kind.DUMP, Result.COMPLETED, 0),
    ],
)
def test_log_of_libvirt_guest(name: str, kind: Kind, result: Result, stalls: int) -> None:
    migration = _migration(name)

    assert (migration.identity.vm, migration.identity.kind) == (name, kind)
    assert (migration.result, len(migration.stalls)) == (result, stalls)
    assert migration.identity.uuid


@pytest.mark.parametrize("name", ["destroyed", "killed"])
def test_error_names_end_of_qemu(name: str) -> None:
    assert (_migration(name).error or "").startswith("QEMU ended: ")


def test_suspension_adds_to_blackout() -> None:
    """`virsh migrate --timeout-suspend`: domjobinfo counted 4003 ms of downtime, QEMU 6."""
    migration = _migration("suspended")

    assert [pause.by for pause in migration.pauses] == [PauseCause.SUSPENDED, PauseCause.DOWNTIME]
    assert (migration.downtime_ns or 0) / _NS == pytest.approx(0.006, abs=0.002)
    assert (migration.blackout_ns or 0) / _NS == pytest.approx(4.0, abs=0.01)
