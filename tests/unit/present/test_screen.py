"""Frames of the live view: their size, their order, and what is left out on a small terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from qemu_migration_exporter.core.model import PauseCause, Side
from qemu_migration_exporter.present.terminal.screen import Snapshot, frame, plain_lines, report_frame
from qemu_migration_exporter.present.view import PauseView
from rich.cells import cell_len

from tests.support.recordings import START_NS
from tests.support.web_helpers import migration, view

NOW = datetime.fromtimestamp(START_NS / 1e9 + 60, UTC)
NONCONVERGING = "qemu-7.2-log-nonconverging"
_SUSPENSION = PauseView(start_seconds=0.0, end_seconds=119.9, by=PauseCause.SUSPENDED)


def _snapshot(running: int, *, problem: str = "") -> Snapshot:
    stuck, early = migration(NONCONVERGING, part=0.7), migration(NONCONVERGING, part=0.3)
    views = [
        view(stuck if number % 3 == 0 else early, is_running=True, vm=f"guest-{number}", trace_id=f"{number:032x}")
        for number in range(running)
    ]
    recent = (view(migration("qemu-7.2-log-idle"), vm="done", start_time=NOW - timedelta(seconds=90)),)
    return Snapshot(source="http://host:9871", now=NOW, running=tuple(views), recent=recent, problem=problem)


@pytest.mark.parametrize("running", [0, 1, 12, 60])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (40, 10), (80, 3)])
def test_frame_fills_terminal_exactly(running: int, width: int, height: int) -> None:
    lines = frame(_snapshot(running), None, width, height)

    assert len(lines) == max(height, 2)
    assert [line for line in lines if cell_len(line.plain) > width] == []


def test_stalled_come_first_with_advice() -> None:
    text = plain_lines(frame(_snapshot(12), None, 80, 24))

    assert text.startswith("http://host:9871  12 running, 4 stalled")
    assert "▸ guest-0 " in text
    assert text.index("guest-9 ") < text.index("guest-1 ")
    assert "guest-0 is stalled after" in text
    assert "  virsh migrate-setspeed web-42 173\n    lifts QEMU's cap" in text
    assert "  done " in text


def test_tall_terminal_shows_everything() -> None:
    text = plain_lines(frame(_snapshot(12), None, 200, 60))

    assert text.count(" is stalled after") == 5  # the selected one's twice
    assert text.count(" has been migrating for") == 8
    assert "more" not in text.replace("or more pending", "").replace("more than another hour", "")


@pytest.mark.parametrize("selected", range(12))
def test_selected_migration_is_visible(selected: int) -> None:
    text = plain_lines(frame(_snapshot(12), f"{selected:032x}", 80, 24))

    assert f"▸ guest-{selected} " in text


def test_recent_migration_can_be_selected() -> None:
    snapshot = _snapshot(1)
    text = plain_lines(frame(snapshot, snapshot.recent[0].trace_id, 80, 24))

    assert "▸ done " in text
    assert "done completed in 28 ms" in text
    assert "90 s ago" in text.replace("89 s", "90 s")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "1.1 ms downtime"),
        ({"downtime_seconds": None}, "1.1 ms blackout"),
        ({"pauses": (_SUSPENSION,), "blackout_seconds": 119.9}, "119.9 s blackout"),
        ({"downtime_seconds": None, "blackout_seconds": None}, ""),
        ({"downtime_is_partial": True}, ""),
        ({"side": Side.DESTINATION}, ""),
    ],
)
def test_recent_migration_has_its_downtime(given: dict[str, Any], expected: str) -> None:
    of = view(migration("qemu-7.2-log-idle"), vm="done", start_time=NOW - timedelta(seconds=90), **given)
    (line,) = (
        line
        for line in plain_lines(frame(Snapshot(source="x", now=NOW, recent=(of,)), None, 80, 24)).splitlines()
        if " ago" in line
    )

    assert re.fullmatch(rf"▸ done +completed +28 ms  {expected:<16} (90|89) s ago", line)


def test_problem_shows_above_old_data() -> None:
    text = plain_lines(frame(_snapshot(1, problem="Connection refused"), None, 80, 24))

    assert text.splitlines()[1] == "Connection refused"
    assert "guest-0" in text


def test_cut_details_refer_to_report() -> None:
    assert "… enter shows the rest" in plain_lines(frame(_snapshot(12), None, 80, 24))
    assert "… enter" not in plain_lines(frame(_snapshot(12), None, 200, 60))


def test_notice_replaces_absence_of_migrations() -> None:
    """Without events a migration may run unseen."""
    quiet = plain_lines(frame(Snapshot(source="x.log", now=NOW), None, 80, 24))
    unseen = plain_lines(frame(Snapshot(source="x.log", now=NOW, notice="No trace event"), None, 80, 24))
    seen = plain_lines(frame(replace(_snapshot(1), notice="No trace event"), None, 80, 24))

    assert "No migration is running." in quiet
    assert "No migration is running." not in unseen
    assert all("No trace event" in text.splitlines()[1] for text in (unseen, seen))


def test_hostile_names_are_one_line() -> None:
    evil = view(migration(NONCONVERGING, part=0.3), is_running=True, vm="\x1b[2Ja\nb[red]" * 9)
    lines = frame(Snapshot(source="\x1b]0;x\x07", now=NOW, running=(evil,)), None, 80, 24)

    assert len(lines) == 24
    assert all(line.plain.isprintable() for line in lines)


@pytest.mark.parametrize(("offset", "first"), [(0, "web-42 completed"), (3, "that needed"), (10_000, "")])
def test_report_scrolls_to_end(offset: int, first: str) -> None:
    of = view(migration(NONCONVERGING))
    lines = report_frame(of, offset, 80, 24)

    assert len(lines) == 24
    assert first in lines[0].plain
    assert "enter back" in lines[-1].plain
