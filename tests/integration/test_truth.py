"""Every real recording agrees with QEMU's own answer to query-migrate."""

from __future__ import annotations

from functools import cache

import pytest
from qemu_migration_exporter.core.changes import SyncFinished
from qemu_migration_exporter.core.model import Migration, Result, Side

from tests.support.core_helpers import NS_PER_MS, RECORDINGS, Reading, read, recording, truth

#: QEMU counts milliseconds and cuts them off; its clock is read beside the probe and not at it.
TOLERANCE_MS = 2


@cache
def replayed(name: str) -> Reading:
    """Read a recording, once for all tests."""
    return read(recording(name))


def outgoing(name: str) -> Migration:
    """Return the one migration of a recording that its source saw; a probe sees the destination's beside it."""
    (migration,) = (each for each in replayed(name).migrations if each.identity.side is Side.SOURCE)
    return migration


def those_with(key: str) -> list[str]:
    """Return the names of the recordings of which this is known."""
    return [name for name in RECORDINGS if key in truth(name)]


def milliseconds(duration_ns: int | None) -> float:
    """Return a known duration in ms."""
    assert duration_ns is not None
    return duration_ns / NS_PER_MS


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_is_one_whole_migration(name: str) -> None:
    """No recording is partial, and none holds a surprise."""
    reading = replayed(name)
    assert not outgoing(name).partial
    assert [] == reading.surprises
    assert len(reading.started) == len(reading.migrations)


@pytest.mark.parametrize("name", RECORDINGS)
def test_probe_also_saw_destination(name: str) -> None:
    """A recording of both processes has a whole incoming migration beside the outgoing one, a log has none."""
    others = [each for each in replayed(name).migrations if each is not outgoing(name)]
    assert [("destination", Result.COMPLETED, False, False)] * name.count("bpftrace") == [
        (each.identity.side, each.result, each.result_inferred, each.partial) for each in others
    ]
    assert len(others) + 1 == len({each.identity.vm for each in replayed(name).migrations})


@pytest.mark.parametrize("name", RECORDINGS)
def test_lines_add_up(name: str) -> None:
    """Every line is an event, noise or malformed; only the first trace, copied from a terminal, holds a torn one."""
    counts = replayed(name).counts
    assert recording(name).count(b"\n") == counts.lines == counts.events + counts.noise + counts.malformed
    assert truth(name).get("torn_lines", 0) == counts.malformed


@pytest.mark.parametrize("name", those_with("status"))
def test_result_is_qemus_status(name: str) -> None:
    """The outcome is stated by migrate_set_state and not inferred."""
    migration = outgoing(name)
    assert (truth(name)["status"], False) == (migration.result, migration.result_inferred)


@pytest.mark.parametrize("name", RECORDINGS)
def test_error_is_qemus_text(name: str) -> None:
    """The text of a failure is QEMU's own; a migration that did not fail has none."""
    assert truth(name).get("error") == outgoing(name).error


@pytest.mark.parametrize("name", those_with("dirty_sync_count"))
def test_bitmap_syncs_are_dirty_sync_count(name: str) -> None:
    """Syncs are counted as QEMU does, the ones in setup and in the switchover included."""
    migration = outgoing(name)
    syncs = [each for each in replayed(name).of(SyncFinished) if each.trace_id == migration.identity.trace_id]
    assert truth(name)["dirty_sync_count"] == migration.progress.bitmap_syncs == len(syncs)


@pytest.mark.parametrize("name", those_with("total_time"))
def test_times_are_qemus_own(name: str) -> None:
    """Setup, downtime and the whole agree with QEMU's own to within 2 ms."""
    migration = outgoing(name)
    expected = [truth(name)[key] for key in ("setup_time", "downtime", "total_time")]
    actual = [milliseconds(ns) for ns in (migration.setup_ns, migration.downtime_ns, migration.duration_ns)]
    assert expected == pytest.approx(actual, abs=TOLERANCE_MS)


@pytest.mark.parametrize("name", those_with("precopy_bytes"))
def test_transferred_is_precopy_bytes(name: str) -> None:
    """The bandwidth windows add up to precopy-bytes; there is none in a migration that takes less than 100 ms."""
    known, transferred = truth(name), outgoing(name).progress.transferred_bytes
    if known["total_time"] < 100:
        assert transferred is None
    elif known["postcopy_bytes"] == 0:
        assert known["precopy_bytes"] == pytest.approx(transferred, rel=1e-4)
    else:  # the last window can be missing
        assert transferred is not None
        assert known["precopy_bytes"] < transferred <= known["precopy_bytes"] + known["postcopy_bytes"]


@pytest.mark.parametrize("name", RECORDINGS)
def test_rounds_share_transferred_bytes(name: str) -> None:
    """In pre-copy the rounds' bytes add up to those of all windows, to a byte a round."""
    migration = outgoing(name)
    if migration.progress.mode == "precopy" and migration.rounds:
        shares = [each.transferred_bytes for each in migration.rounds]
        total = migration.progress.transferred_bytes
        assert total == (None if shares == [None] else pytest.approx(sum(filter(None, shares)), abs=len(shares)))


@pytest.mark.parametrize("name", those_with("postcopy_requests"))
def test_postcopy_requests_are_counted(name: str) -> None:
    """Every page that the destination asked for is one request."""
    assert truth(name)["postcopy_requests"] == outgoing(name).progress.postcopy_requests


@pytest.mark.parametrize("name", those_with("total"))
def test_ram_is_ram_total(name: str) -> None:
    """The first pending after setup is all of the guest's memory."""
    assert truth(name)["total"] == outgoing(name).progress.ram_bytes


def test_first_trace() -> None:
    """The SystemTap trace of QEMU 2.6 has no time, no states and few arguments, but still gives a useful report."""
    known = truth("qemu-kvm-2.6-systemtap")
    reading = replayed("qemu-kvm-2.6-systemtap")
    migration = reading.migration
    progress = migration.progress

    assert (Result.COMPLETED, True) == (migration.result, migration.result_inferred)
    assert known["bitmap_syncs"] == progress.bitmap_syncs
    assert known["iterations"] == progress.iterations
    assert known["transferred_sum"] == progress.transferred_bytes
    assert known["time_spent_sum"] * NS_PER_MS == migration.duration_ns
    assert known["downtime_limit"] / 1_000 == progress.downtime_limit_seconds
    assert known["ram_bytes"] == known["first_pending"] == progress.ram_bytes
    assert known["device_sections"] == len(migration.devices)
    assert known["torn_lines"] == reading.counts.malformed
    assert (None, None, None) == (migration.setup_ns, migration.downtime_ns, migration.downtime_start_ns)
    assert not migration.timed
    assert {None} == {device.duration_ns for device in migration.devices}


def test_first_trace_has_backtraces() -> None:
    """The backtraces of its function probes stand at the migration and at each of its syncs."""
    reading = replayed("qemu-kvm-2.6-systemtap")
    callers = ["ram_save_setup", "ram_save_pending", "ram_save_complete"]
    for sync, caller in zip(reading.of(SyncFinished), callers, strict=True):
        frames = sync.sync.stacktrace
        assert "migration_bitmap_sync+0x0" in frames[0]
        assert caller in frames[1]
    assert "qmp_migrate+0x0" in reading.started[0].identity.stacktrace[0]
