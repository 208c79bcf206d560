"""Journal: one line for each event of a migration that an operator would look for, with fields."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.journal import Journal

from tests.support.paths import DATA


def _journal(caplog: pytest.LogCaptureFixture, name: str, *, end: bool = True) -> list[tuple[str, str, dict[str, Any]]]:
    """Return level, event and fields of each line about a recording."""
    caplog.set_level(logging.INFO)
    stream, journal = Stream("web-42.log", vm="web-42"), Journal()
    for line in (DATA / name).read_bytes().splitlines(keepends=True):
        journal.apply(stream.feed(line))
    if end:
        journal.apply(stream.close())
    return [(record.levelname, record.getMessage(), vars(record)) for record in caplog.records]


def test_stall_warns_with_reason_and_advice(caplog: pytest.LogCaptureFixture) -> None:
    lines = _journal(caplog, "qemu-7.2-log-nonconverging.log")

    assert [(level, event) for level, event, _ in lines] == [
        ("INFO", "migration started"),
        ("WARNING", "migration stalled"),
        ("INFO", "migration stall ended"),
        ("INFO", "migration ended"),
    ]
    assert len({(fields["vm"], fields["trace_id"]) for _, _, fields in lines}) == 1
    stalled = lines[1][2]
    assert stalled["reason"] == "bandwidth_cap"
    assert stalled["advice"].startswith("virsh migrate-setspeed web-42 ")


@pytest.mark.parametrize(
    ("name", "level", "fields"),
    [
        ("qemu-7.2-log-idle.log", "INFO", {"result": "completed", "error": None, "kind": None}),
        ("qemu-7.2-log-cancelled.log", "INFO", {"result": "cancelled", "downtime_seconds": None}),
        ("qemu-7.2-log-refused.log", "WARNING", {"result": "failed"}),
    ],
)
def test_end_has_figures(caplog: pytest.LogCaptureFixture, name: str, level: str, fields: dict[str, object]) -> None:
    last_level, event, found = _journal(caplog, name)[-1]

    assert (last_level, event) == (level, "migration ended")
    assert {key: found[key] for key in fields} == fields
    assert found["duration_seconds"] is not None


def test_completed_end_has_downtime(caplog: pytest.LogCaptureFixture) -> None:
    fields = _journal(caplog, "qemu-7.2-log-idle.log")[-1][2]

    assert 0 < fields["downtime_seconds"] < fields["duration_seconds"]
    assert fields["blackout_seconds"] is None or fields["blackout_seconds"] >= fields["downtime_seconds"]
    assert fields["summary"].startswith("web-42 completed in ")
