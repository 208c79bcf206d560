"""Post-copy as a phase of its own, when not all of its marks are enabled."""

from __future__ import annotations

from typing import Final

import pytest
from qemu_migration_exporter.core.changes import PhaseEnded
from qemu_migration_exporter.core.model import Migration
from qemu_migration_exporter.present.view_builder import migration_view

from tests.property.test_properties import check
from tests.support.core_helpers import log_lines, new_stream, read

START: Final = (
    "T savevm_state_header\nT migrate_set_state new state active\nT migration_thread_setup_complete\n"
    "T savevm_state_iterate\n+500 T migrate_set_state new state postcopy-active\n"
)
CPU: Final = "T savevm_section_start cpu, section_id 4\n+2000 T savevm_section_end cpu, section_id 4 -> 0\n"
DONE: Final = "+900 T migrate_set_state new state completed"


def tenths(migration: Migration) -> dict[str, int]:
    """Return the phases and their tenths of a second."""
    return {phase.name: round(10 * (phase.duration_seconds or 0)) for phase in migration_view(migration).phases}


PHASES: Final = [
    (START + DONE, {"setup": 0, "iterate": 5, "postcopy": 9}),
    (START + "+9 M runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)\n" + DONE,
     {"setup": 0, "iterate": 5, "complete_precopy": 0, "postcopy": 9}),
    (START + "T postcopy_start\n" + CPU + "T savevm_send_ping 0x4\n" + DONE,
     {"setup": 0, "iterate": 5, "complete_precopy": 20, "postcopy": 9}),
    (START + "+2000 T savevm_state_iterate\n" + DONE, {"setup": 0, "iterate": 5, "postcopy": 29}),
    (START + "+300 T migrate_set_state new state failed", {"setup": 0, "iterate": 8}),
    (START + "+3000 T migrate_set_state new state failed", {"setup": 0, "iterate": 5, "postcopy": 30}),
    (START + "+3000 T migrate_set_state new state postcopy-paused", {"setup": 0, "iterate": 5, "postcopy": 0}),
    ("T migrate_set_state new state postcopy-active\n+100 T migration_completion_postcopy_end\n" + DONE, {"postcopy": 10}),
    ("T migrate_set_state new state postcopy-active\n+100 T savevm_state_iterate\n" + DONE, {"postcopy": 10}),
    ("T migrate_set_state new state setup\n+500 T migrate_set_state new state postcopy-active\n"  # active was lost
     "+100 T savevm_state_iterate\n" + DONE, {"setup": 5, "postcopy": 10}),
    ("T migrate_set_state new state setup\n+500 T migrate_set_state new state postcopy-active\n"  # out of order
     "+100 T migrate_set_state new state active\n+2000 T savevm_state_iterate\n" + DONE,
     {"setup": 6, "iterate": 0, "postcopy": 29}),
]  # fmt: skip


@pytest.mark.parametrize(("events", "phases"), PHASES, ids=range(len(PHASES)))
def test_post_copy_begins_with_the_last_mark_of_the_switch(events: str, phases: dict[str, int]) -> None:
    """If its end, a later state or a second of silence follows."""
    assert phases == tenths(read(log_lines(events)).migration)


ODD: Final = [
    # Lines that QEMU prints in another order, or that were lost, and the phases; a phase may be shown that was none.
    (("T savevm_section_start cpu, section_id 4\nT savevm_section_end cpu, section_id 4 -> 0\n"
     "+100 T migrate_set_state new state postcopy-recover"), {"iterate": 0}),
    ("T postcopy_start\n+1500 T migrate_fd_cleanup\nT migrate_set_state new state failed", {"complete_precopy": 15}),
    ("T savevm_state_header\n+1500 T postcopy_start\n+1500 T migrate_set_state new state active",
     {"setup": 30, "iterate": 0, "postcopy": 0}),
    (("T migrate_set_state new state active\n+100 T migration_thread_low_pending 0\n"
     "+100 T migration_completion_postcopy_end"), {"iterate": 0, "postcopy": 0}),
    (("T migrate_set_state new state postcopy-paused\n+1500 T savevm_state_iterate\n"
     "+100 T migrate_set_state new state cancelled\nT postcopy_start\nT migrate_set_state new state completed"),
     {"iterate": 15, "postcopy": 1}),
    (("T savevm_section_start cpu, section_id 4\nT savevm_state_header\nT migration_thread_low_pending 0\n"
     "+1500 T migrate_set_state new state postcopy-paused"),
     {"setup": 0, "iterate": 0, "postcopy": 0}),
    (("T savevm_state_complete\nT migrate_set_state new state postcopy-active\nT savevm_state_header\n"
     "+1500 T savevm_state_iterate"),
     {"setup": 0, "postcopy": 0}),
    (("T migrate_transferred transferred 900 time_spent 100 bandwidth 9 max_size 30\nT migrate_set_state new state setup\n"
     "T migration_thread_low_pending 0\nT migration_completion_postcopy_end"),
     {"setup": 0, "iterate": 0, "postcopy": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("events", "phases"), ODD, ids=range(len(ODD)))
def test_odd_lines_of_a_post_copy_break_no_rule(events: str, phases: dict[str, int]) -> None:
    reading = read(log_lines(events))
    check(reading)
    assert phases == tenths(reading.migration)


JOINED: Final = [
    # the events, and the marks that show post-copy
    (
        "T migrate_pending pending size 9 max 5 (pre = 0 compat=9 post=0)\nT savevm_state_iterate\n"
        "+500 T migrate_set_state new state postcopy-paused"
    ),
    (
        "T savevm_state_iterate\nT migrate_pending pending size 9 max 5 (pre = 0 compat=9 post=0)\n"
        "+500 T migration_thread_low_pending 0\nT migration_completion_postcopy_end"
    ),
    "T migration_thread_setup_complete\nT savevm_state_complete\nT migration_completion_postcopy_end",
]


@pytest.mark.parametrize("events", JOINED, ids=["state", "mark", "rounds"])
def test_all_of_a_post_copy_joined_in_its_middle_is_post_copy(events: str) -> None:
    reading = read(log_lines(events))
    assert {"postcopy"} == set(tenths(reading.migration))
    assert () == reading.migration.rounds
    assert ["postcopy" for _ in reading.of(PhaseEnded)] == [each.phase.name for each in reading.of(PhaseEnded)]


def test_phase_before_a_joined_switchover_is_reported_late() -> None:
    """Its next mark could show that it is post-copy."""
    stream = new_stream()
    events = "T savevm_state_iterate\n+500 T migration_thread_low_pending 0\n"
    assert [] == [each for each in stream.feed(log_lines(events).encode()) if isinstance(each, PhaseEnded)]
    assert ["iterate"] == [each.phase.name for each in read(log_lines(events)).of(PhaseEnded)]


def test_silence_begins_post_copy_of_a_running_migration() -> None:
    """QEMU prints nothing else if only its states are enabled."""
    stream = new_stream()
    stream.feed(log_lines(START + "T postcopy_start").encode())
    stream.tick(1_700_000_002_000_000_000)
    (running,) = stream.running()
    assert ["setup", "iterate", "complete_precopy", "postcopy"] == [phase.name for phase in running.phases]
    assert (None, ()) == (running.blackout_ns, running.pauses)


def test_open_section_is_no_silence() -> None:
    """A device with a large state is saved for seconds."""
    stream = new_stream()
    stream.feed(log_lines(START + "T postcopy_start\nT savevm_section_start cpu, section_id 4").encode())
    stream.tick(1_700_000_009_000_000_000)
    (running,) = stream.running()
    assert "complete_precopy" == running.phases[-1].name


def test_post_copy_joined_before_its_switch_keeps_the_rounds() -> None:
    """A bitmap sync is of pre-copy, so only the end is known to be post-copy."""
    events = (
        "T migrate_pending pending size 9 max 5 (pre = 0 compat=9 post=0)\nT migration_bitmap_sync_start\n"
        "T migration_bitmap_sync_end dirty_pages 5\n+500 T migration_thread_low_pending 0\n"
        "+300 T migration_completion_postcopy_end"
    )
    assert {"iterate": 5, "postcopy": 0} == tenths(read(log_lines(events)).migration)


def test_guest_that_left_has_no_present_pause() -> None:
    """It runs on the destination; when it stopped here is known, and when it ran again is not."""
    stopped = "M runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)"
    stream = new_stream()
    stream.feed(log_lines(START + stopped).encode())
    stream.tick(1_700_000_099_000_000_000)
    (running,) = stream.running()
    assert ("postcopy", None) == (running.phases[-1].name, running.blackout_ns)
    assert (None, None) == (running.progress.paused_since_ns, running.progress.pause_cause)
