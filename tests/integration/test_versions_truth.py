"""Real migrations of QEMU 2.6, 5.2, 8.2 and 11.1 against QEMU's own answer to query-migrate."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import pytest
from qemu_migration_exporter.core.model import Kind, Migration, Result, Side

from tests.support.core_helpers import NS_PER_MS, Reading, read
from tests.support.paths import DATA

VERSIONS: Final = DATA / "versions"
TOLERANCE_MS: Final = 2

#: Without `runstate_set` or `vmstate_downtime_checkpoint`, the wait for QEMU's lock after the state is not printed
#: (5.2); nor is the time between the state `setup` and the start of total-time (8.2, cpr).
UNPRINTED: Final = {
    ("v5.2/busy", "total-time"), ("v5.2/busy", "downtime"), ("v5.2/idle", "total-time"), ("v8.2/cpr", "total-time"),
    # 3 ms between the channel's mark and the beginning of the migration thread, on a busy machine.
    ("v11.1/postcopy-probe", "setup-time"),
}  # fmt: skip

NAMES: Final = sorted(f"{path.parent.name}/{path.name.removesuffix('.log.gz')}" for path in VERSIONS.glob("*/*.log.gz"))


@cache
def replayed(name: str) -> Reading:
    return read(gzip.decompress((VERSIONS / f"{name}.log.gz").read_bytes()))


def _answers(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if value.get("status") == "completed" and value.get("total-time"):
            yield value
        for member in value.values():
            yield from _answers(member)


@cache
def answer(name: str) -> dict[str, Any] | None:
    """Return QEMU's last answer about a migration that completed."""
    lines = gzip.decompress((VERSIONS / f"{name}.qmp.jsonl.gz").read_bytes()).splitlines()
    found = [each for line in lines for each in _answers(json.loads(line)) if each.get("setup-time") is not None]
    return found[-1] if found else None


def outgoing(name: str) -> Migration:
    """Return the last migration that this QEMU sent and completed."""
    return [
        migration
        for migration in replayed(name).migrations
        if migration.identity.side is Side.SOURCE and migration.result is Result.COMPLETED
    ][-1]


COMPLETED: Final = [name for name in NAMES if answer(name) is not None]


@pytest.mark.parametrize("name", NAMES)
def test_no_malformed_line_or_surprise(name: str) -> None:
    reading = replayed(name)
    assert (0, []) == (reading.counts.malformed, reading.surprises)


@pytest.mark.parametrize("name", COMPLETED)
def test_times_are_qemus_own(name: str) -> None:
    migration, truth = outgoing(name), answer(name)
    assert truth is not None
    ours = {
        "total-time": migration.duration_ns,
        "downtime": migration.downtime_ns,
        "setup-time": migration.setup_ns,
    }
    for key, ns in ours.items():
        if (name, key) in UNPRINTED or (migration.identity.kind is Kind.SNAPSHOT and key == "downtime"):
            continue
        assert ns is not None, key
        assert truth[key] == pytest.approx(ns / NS_PER_MS, abs=TOLERANCE_MS), key


@pytest.mark.parametrize("name", COMPLETED)
def test_dirty_sync_count_matches_qemu(name: str) -> None:
    truth, count = answer(name), outgoing(name).dirty_sync_count
    assert truth is not None
    if name != "v11.1/file":  # no event in it is of 11.1 alone, so the count is unknown
        assert truth["ram"]["dirty-sync-count"] == count
    else:
        assert None is count


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("v2.6/busy", [Kind.LIVE]),
        ("v5.2/snapsave", [Kind.SNAPSHOT, Kind.LIVE, Kind.SNAPSHOT, Kind.LIVE]),
        ("v8.2/snapsave", [Kind.SNAPSHOT, Kind.LIVE, Kind.SNAPSHOT, Kind.FILE]),
        ("v8.2/bgsnap", [Kind.SNAPSHOT]),
        ("v8.2/loadvm", [Kind.SNAPSHOT]),
        ("v8.2/cpr", [Kind.CPR]),
        ("v8.2/onward", [Kind.LIVE, Kind.LIVE]),
        ("v11.1/cpr", [Kind.CPR]),
        ("v11.1/file", [Kind.FILE]),
        ("v11.1/mapped", [Kind.FILE]),
        ("v11.1/snapjob", [Kind.SNAPSHOT, Kind.FILE]),
        ("v11.1/recover", [Kind.LIVE]),
    ],
)
def test_job_has_its_kind(name: str, kinds: list[Kind]) -> None:
    assert kinds == [migration.identity.kind for migration in replayed(name).migrations]


@pytest.mark.parametrize("name", ["v2.6/refused", "v5.2/refused"])
def test_unconnected_attempt_is_outgoing(name: str) -> None:
    (migration,) = replayed(name).migrations
    assert (Side.SOURCE, Result.FAILED) == (migration.identity.side, migration.result)
