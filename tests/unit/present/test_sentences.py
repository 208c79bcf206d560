"""Sentences on what is not in the recordings: other jobs, other pauses, waits, and how a stall ended."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from qemu_migration_exporter.core.model import (
    DowntimePartName,
    Kind,
    PauseCause,
    PhaseName,
    Result,
    StallReason,
)
from qemu_migration_exporter.present.downtime import downtime_rows, part_time
from qemu_migration_exporter.present.view import (
    DowntimePartView,
    MigrationView,
    PauseView,
    PhaseView,
    WaitView,
)
from qemu_migration_exporter.present.wording.sentences import headline_text, notes

from tests.support.web_helpers import migration, view

STUCK = "qemu-7.2-log-nonconverging"
IDLE = "qemu-7.2-log-idle"


def _ended(**given: Any) -> MigrationView:  # noqa: ANN401 - any of its fields
    return view(migration(STUCK), stalls=(), **given)


def _pause(by: PauseCause, start: float, end: float | None) -> PauseView:
    return PauseView(by=by, start_seconds=start, end_seconds=end)


@pytest.mark.parametrize(
    ("pauses", "blackout", "expected"),
    [
        ((), None, ": 31 ms of downtime within its limit of 300 ms, 659.7 MiB sent in 16 rounds."),
        (((PauseCause.DOWNTIME, 12.2, 12.231),), 0.031, ": 31 ms of downtime within its limit of 300 ms, 659.7"),
        (
            ((PauseCause.SUSPENDED, 5.0, 12.2), (PauseCause.DOWNTIME, 12.2, 12.231)),
            7.231,
            ": the guest stood still for 7.2 s, of which 7.2 s suspended, 31 ms of downtime within its limit of 300 ms, ",
        ),
        (
            ((PauseCause.IO_ERROR, 1.0, 2.0), (PauseCause.IO_ERROR, 3.0, 4.5), (PauseCause.SUSPENDED, 6.0, 7.0)),
            3.531,
            ": the guest stood still for 3.5 s, of which 2.5 s paused by an I/O error, 1.0 s suspended, 31 ms of downtime",
        ),
        (
            ((PauseCause.WATCHDOG, 1.0, 2.0),),
            1.031,
            ": the guest stood still for 1.0 s, of which 1.0 s in QEMU's state watchdog, 31 ms",
        ),
    ],
)
def test_blackout_differs_from_downtime(
    pauses: tuple[tuple[PauseCause, float, float], ...], blackout: float | None, expected: str
) -> None:
    of = _ended(blackout_seconds=blackout, pauses=tuple(_pause(*pause) for pause in pauses))

    assert expected in headline_text(of)


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (Kind.SAVE, "save to a file"),
        (Kind.DUMP, "memory dump"),
        (Kind.SNAPSHOT, "snapshot with memory"),
        (Kind.FILE, "migration to a file"),
        (Kind.CPR, "update of QEMU in place"),
    ],
)
def test_other_jobs_have_their_names(kind: Kind, label: str) -> None:
    """The limit is for live migrations, and nothing was sent anywhere."""
    ended = headline_text(_ended(kind=kind))
    running = headline_text(view(migration(STUCK, part=0.3), is_running=True, kind=kind))

    assert ended == (
        f"web-42 ({label}) completed in 12.3 s: the guest stood still for 31 ms, 659.7 MiB written in 16 rounds."
    )
    assert running.startswith(f"web-42 ({label}) has been running for 4.1 s")


@pytest.mark.parametrize("kind", set(Kind) - {Kind.LIVE})
def test_other_jobs_get_no_advice(kind: Kind) -> None:
    stuck = migration(STUCK, part=0.7)
    of = view(replace(stuck, identity=replace(stuck.identity, kind=kind)), is_running=True)

    assert [advice.virsh for advice in of.verdict.advice] == ["virsh domjobabort web-42"]


def test_failed_job_has_guest_pause() -> None:
    """Also when the guest went on at the source."""
    of = _ended(result=Result.CANCELLED, blackout_seconds=7.0)

    assert "The guest stood still for 7.0 s." in notes(of)


def test_lasting_pause_is_reported() -> None:
    of = view(migration(STUCK, part=0.3), is_running=True, paused_since_seconds=1.0, pause_cause=PauseCause.SUSPENDED)

    assert "The guest has stood still for 3.1 s: suspended." in notes(of)
    assert notes(replace(of, pause_cause=PauseCause.DOWNTIME)) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, "; QEMU gave no reason."),
        ("Broken pipe", "; QEMU says “Broken pipe”."),
        ("QEMU ended: shutting down, reason=crashed", "; QEMU ended: shutting down, reason=crashed."),
        (
            "the destination ended the migration: its log has the reason",
            "; the destination ended the migration: its log has the reason.",
        ),
    ],
)
def test_failure_has_cause(error: str | None, expected: str) -> None:
    assert headline_text(_ended(result=Result.FAILED, error=error)).endswith(expected)


@pytest.mark.parametrize(
    ("state", "reason", "seconds", "expected"),
    [
        (
            "pre-switchover",
            None,
            0.0,
            "where the guest has been stopped, waiting for migrate-continue, for less than 1 s; it goes on with",
        ),
        ("wait-unplug", None, 5.0, "where the guest has not given up its network device for 5.0 s; it goes on when"),
        ("postcopy-paused", None, 5.0, "where post-copy has been without its network for 5.0 s; it goes on with"),
        (
            "active",
            StallReason.SWITCHOVER_ACK,
            5.0,
            "where the destination has not acknowledged the switchover for 5.0 s; QEMU stops the guest when",
        ),
        ("device", None, 5.0, "in state device for 5.0 s."),
        (None, None, 5.0, "web-42 is unfinished: the recording ends 4.1 s into it, in the switchover."),
    ],
)
def test_wait_at_end_is_named(state: str | None, reason: StallReason | None, seconds: float, expected: str) -> None:
    """Which, since when, and what ends it."""
    of = view(migration(STUCK, part=0.3))
    phases = (PhaseView(name=PhaseName.COMPLETE_PRECOPY, start_seconds=0.0, duration_seconds=None, is_open=True),)
    wait = WaitView(state=state, reason=reason, since_seconds=of.elapsed_seconds - seconds)

    assert expected in headline_text(replace(of, phases=phases, wait=wait))


def test_raised_limit_ended_stall() -> None:
    of = view(migration(STUCK), downtime_limit_seconds=4.0)

    assert notes(of)[0].endswith("the limit was 0.3 s; then the limit was raised to 4 s.")


def test_suspension_ended_stall() -> None:
    of = view(migration(STUCK))
    end = of.stalls[-1].end_seconds or 0.0
    paused = replace(of, pauses=(_pause(PauseCause.SUSPENDED, end - 1, end + 0.5),))

    assert notes(paused)[0].endswith("the limit was 0.3 s; then the guest was suspended.")


def test_past_wait_gets_no_abort_advice() -> None:
    """Giving up would have ended it too; the sentence tells how to avoid it."""
    whole = migration(STUCK)
    stall = replace(whole.stalls[0], reason=StallReason.BLOCKED_WAIT_UNPLUG)
    verdict = replace(whole.progress.verdict, reason=StallReason.BLOCKED_WAIT_UNPLUG)
    of = view(replace(whole, stalls=(stall,), progress=replace(whole.progress, verdict=verdict)))

    assert (of.verdict.advice, of.verdict.past_advice) == ((), ())
    assert "To avoid it, detach that device before migrating" in notes(of)[0]


def _part(name: DowntimePartName, seconds: float, device: str | None = None) -> DowntimePartView:
    return DowntimePartView(name=name, device=device, start_seconds=0.0, duration_seconds=seconds)


def test_parts_add_up_in_their_order() -> None:
    """Five devices, the rest together, and the unexplained last."""
    parts = (
        _part(DowntimePartName.UNACCOUNTED, 0.1),
        _part(DowntimePartName.DESTINATION, 0.2),
        *(_part(DowntimePartName.DEVICE, 0.01 * number, f"nic-{number}") for number in range(1, 8)),
        _part(DowntimePartName.RAM, 0.3),
        _part(DowntimePartName.UNACCOUNTED, 0.1),
        _part(DowntimePartName.STOP, 18.4),
    )
    rows = downtime_rows(_ended(downtime_parts=parts))

    assert [row.name for row in rows] == [
        "stopping the CPUs, flushing disks", "sending the last memory",
        "nic-7", "nic-6", "nic-5", "nic-4", "nic-3", "and 2 more, together",
        "waiting for the destination", "not explained by the stream",
    ]  # fmt: skip
    assert sum(row.seconds for row in rows) == pytest.approx(sum(part.duration_seconds for part in parts))


def test_longest_downtime_part_is_named() -> None:
    """Over the limit only."""
    parts = (_part(DowntimePartName.STOP, 18.4), _part(DowntimePartName.RAM, 0.1))
    of = _ended(downtime_seconds=18.5, downtime_parts=parts)

    assert "Most of the downtime, 18.4 s, was stopping the CPUs, flushing disks." in notes(of)
    assert notes(replace(of, downtime_limit_seconds=20.0)) == []
    device = _part(DowntimePartName.DEVICE, 18.4, "0000:00:04.0/vfio")
    slow = replace(of, downtime_parts=(device, parts[1]))
    assert "Most of the downtime, 18.4 s, was saving the state of 0000:00:04.0/vfio." in notes(slow)


@pytest.mark.parametrize(
    ("seconds", "longest", "expected"),
    [(0.0005, 0.0009, "0.500 ms"), (0.0005, 0.02, "0.5 ms"), (0.0005, 18.4, "0.001 s"), (18.4, 18.4, "18.400 s")],
)
def test_part_unit_follows_longest(seconds: float, longest: float, expected: str) -> None:
    assert part_time(seconds, longest) == expected


def test_dirty_limit_is_mentioned() -> None:
    of = view(migration(STUCK, part=0.3), is_running=True, dirty_limit=True)

    assert any("beside which it refuses auto-converge" in note for note in notes(of))
