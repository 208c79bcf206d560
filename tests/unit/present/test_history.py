"""The history behind page and API."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.history import MigrationHistory

from tests.support.paths import DATA

_LOG = (DATA / "qemu-7.2-log-idle.log").read_bytes()


@pytest.mark.parametrize("share", [1, 2], ids=["ended", "cut"])
def test_ended_migration_is_not_running(share: int) -> None:
    """The running migrations are replaced once a second, and not at all after the end of a replay."""
    history, stream = MigrationHistory(), Stream("x", vm="web-42")
    history.apply(stream.feed(_LOG[: len(_LOG) // 2]))
    history.set_running(stream.running())
    assert len(history.running) == 1

    history.apply([*(stream.feed(_LOG[len(_LOG) // 2 :]) if share == 1 else []), *stream.close()])

    assert (len(history.running), len(history.recent)) == (0, 1)


def test_end_keeps_other_running_migrations() -> None:
    history, streams = MigrationHistory(), [Stream(vm, vm=vm) for vm in ("web-1", "web-2")]
    for stream in streams:
        history.apply(stream.feed(_LOG[: len(_LOG) // 2]))
    history.set_running([migration for stream in streams for migration in stream.running()])

    history.apply(streams[0].close())

    assert [migration.identity.vm for migration in history.running] == ["web-2"]
