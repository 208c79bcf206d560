"""Meaning of events in each state of one migration."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.changes import (
    DeviceFinished,
    DowntimePartEnded,
    PhaseEnded,
    PreSwitchoverEnded,
    RoundEnded,
    Surprised,
    SyncFinished,
)
from qemu_migration_exporter.core.events import (
    DeviceLoaded,
    FunctionCalled,
    SectionEnded,
    SectionStarted,
    SignalEvent,
    StateSet,
)
from qemu_migration_exporter.core.migration import summary
from qemu_migration_exporter.core.migration.apply import apply, finish
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.model import ClockKind, Kind, Mode, PhaseName, Result, SurpriseKind
from qemu_migration_exporter.core.terms import Signal

from tests.support.core_helpers import ANCHOR, EPOCH_NS, NS_PER_MS, Reading, log_lines, new_stream, probe_lines, read

#: A millisecond each: setup is 1 ms to 4 ms.
SETUP = """
    M migrate_set_state new state setup
    savevm_state_header
    migration_bitmap_sync_start
    migration_bitmap_sync_end dirty_pages 0
    migration_thread_setup_complete
"""
PENDING = "migrate_pending pending size 9 max 0"


def follow(events: str) -> Reading:
    """Read events a millisecond apart."""
    return read(log_lines(events))


def phases(reading: Reading) -> list[tuple[str, float, float | None]]:
    """Write the phases as name, start and end in ms since the first event."""

    def ms(ns: int | None) -> float | None:
        return None if ns is None else (ns - EPOCH_NS) / NS_PER_MS

    return [(each.name, ms(each.start_ns) or 0.0, ms(each.end_ns)) for each in reading.migration.phases]


# Phases


def test_setup_begins_with_header() -> None:
    """As QEMU's setup-time and total-time do."""
    reading = follow(SETUP)
    assert [("setup", 1, 4), ("iterate", 4, None)] == phases(reading)
    assert (EPOCH_NS, 3 * NS_PER_MS) == (reading.migration.identity.start_ns, reading.migration.setup_ns)


def test_without_header_state_begins_setup() -> None:
    """A connection that takes its time is part of it."""
    assert [("setup", 0, 2)] == phases(
        follow("M migrate_set_state new state setup\nM migrate_fd_error error=x\nM migrate_set_state new state failed")
    )


def test_active_implies_setup_complete() -> None:
    """2.4 prints no more, and where the line is lost, pending bytes show that it is over."""
    reading = follow(
        "M migrate_set_state new state setup\nsavevm_state_header\nmigrate_set_state new state active\n" + PENDING
    )
    assert [("setup", 1, 2), ("iterate", 2, None)] == phases(reading)
    assert NS_PER_MS == reading.migration.setup_ns


@pytest.mark.parametrize(("passed_ns", "phase"), [(1_000_000_000, "setup"), (1_000_000_001, "iterate")])
def test_active_alone_ends_setup_after_a_second(passed_ns: int, phase: str) -> None:
    """The mark of setup's end follows the state at once, where it is enabled."""
    states = "M migrate_set_state new state setup\nM migration_socket_outgoing_connected hostname=\n"
    stream = new_stream()
    stream.feed(log_lines(states + "M migrate_set_state new state active").encode())
    stream.tick(EPOCH_NS + 2 * NS_PER_MS + passed_ns)
    (migration,) = stream.running()
    assert phase == migration.phases[-1].name


def test_open_setup_has_no_length() -> None:
    """Pending bytes show that it is over, not since when."""
    reading = follow(
        "M migrate_set_state new state setup\nsavevm_state_header\n+500 migrate_pending pending size 9 max 0"
    )
    assert [("setup", 1, 502), ("iterate", 502, None)] == phases(reading)
    assert None is reading.migration.setup_ns


def test_misplaced_header_changes_only_setup() -> None:
    """Lines may be out of order: one that comes after `active` moves no phase's start behind its end."""
    reading = follow("""
        M migrate_set_state new state setup
        migrate_set_state new state active
        savevm_state_header
        migrate_pending pending size 9 max 0
        savevm_state_header
    """)
    assert [("setup", 2, 2), ("iterate", 2, None)] == phases(reading)


def test_switchover_mark_ends_iterating() -> None:
    """Which one is printed depends on release and patterns."""
    for event in (
        "migration_thread_low_pending 0",
        "migrate_set_state new state device",
        "migrate_set_state new state pre-switchover",
        "vmstate_downtime_checkpoint src-downtime-start",
        "runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)",
        "migration_completion_vm_stop ret 0",
        "savevm_state_complete_precopy",
        "postcopy_start",
    ):
        assert ("complete_precopy", 5, None) == phases(follow(SETUP + event))[-1]


def test_other_guest_stop_is_no_switchover() -> None:
    """An operator may pause a guest while it migrates."""
    reading = follow(SETUP + "M runstate_set current_run_state 9 (running) new_state 4 (paused)")
    assert [("setup", 1, 4), ("iterate", 4, None)] == phases(reading)


def test_cleanup_spans_loop_end_to_last_mark() -> None:
    """Its marks come in either order, within a second of the end."""
    end = "migrate_set_state new state completed\n+2 migration_thread_after_loop\n"
    for marks in ("M migrate_fd_cleanup\n+3 M savevm_state_cleanup", "M savevm_state_cleanup\n+3 M migration_cleanup"):
        reading = follow(SETUP + end + marks)
        assert ("cleanup", 8, 13) == phases(reading)[-1]
        assert EPOCH_NS + 13 * NS_PER_MS == reading.migration.end_ns


def test_early_cleanup_mark_takes_no_time() -> None:
    """Two threads may print out of order."""
    reading = follow(SETUP + "migrate_set_state new state completed\nM migrate_fd_cleanup\nmigration_thread_after_loop")
    assert ("cleanup", 7, 7) == phases(reading)[-1]


@pytest.mark.parametrize(
    ("states", "result"),
    [("", Result.COMPLETED), ("M migrate_set_state new state setup\n", Result.UNKNOWN)],
    ids=["without states", "the state has the answer"],
)
def test_cleanup_ends_at_once_without_states(states: str, result: Result) -> None:
    marks = (
        "savevm_state_header\nmigration_thread_setup_complete\nsavevm_state_complete_precopy\nM migrate_fd_cleanup\n"
    )
    stream = new_stream()
    stream.feed(log_lines(states + marks).encode())
    assert [result] == [migration.result for migration in stream.running()]


def test_loop_ends_once() -> None:
    """A second after_loop is no second cleanup."""
    reading = follow(SETUP + "migration_thread_after_loop\nmigration_thread_after_loop\nM migrate_fd_cleanup")
    assert ["setup", "iterate", "cleanup"] == [phase for phase, _, _ in phases(reading)]


def test_postcopy_begins_at_destination_run() -> None:
    """At ping 4, or src-downtime-end, or where both are missing with the next slice."""
    switch = "migrate_set_state new state postcopy-active\npostcopy_start\nsavevm_send_ping 0x2\n"
    for event in (
        "savevm_send_ping 0x4",
        "vmstate_downtime_checkpoint src-downtime-end",
        "savevm_state_iterate",
        PENDING,
    ):
        reading = follow(SETUP + switch + event)
        assert [("complete_precopy", 6, 8), ("postcopy", 8, None)] == phases(reading)[-2:]
        assert Mode.POSTCOPY == reading.migration.progress.mode


def test_postcopy_low_pending_ends_nothing() -> None:
    """It is printed when the last page was sent."""
    reading = follow(SETUP + "postcopy_start\nsavevm_send_ping 0x4\nmigration_thread_low_pending 0")
    assert "postcopy" == phases(reading)[-1][0]


def test_ping_4_means_nothing_in_precopy() -> None:
    """A ping goes over the return path at other times too."""
    assert ["setup", "iterate"] == [phase for phase, _, _ in phases(follow(SETUP + "savevm_send_ping 0x4"))]


def test_marks_after_end_move_nothing() -> None:
    """Bytes pending, a header, slices: printed by a thread that has not heard."""
    reading = follow(
        SETUP
        + "M migrate_set_state new state failed\nsavevm_state_header\nmigrate_pending pending size 9 max 0\nmigration_thread_setup_complete"
    )
    assert [("setup", 1, 4), ("iterate", 4, 5)] == phases(reading)
    assert 3 * NS_PER_MS == reading.migration.setup_ns


# Downtime


def test_downtime_uses_best_start_and_end() -> None:
    """QEMU's own checkpoints where it prints them, else low_pending and the terminal state."""
    for middle, expected in [
        ("", 3),
        ("vmstate_downtime_checkpoint src-downtime-start\n", 2),
        ("vmstate_downtime_checkpoint src-downtime-start\nvmstate_downtime_checkpoint src-downtime-end\n", 1),
    ]:
        reading = follow(
            SETUP
            + "migration_thread_low_pending 0\nsavevm_state_complete_precopy\n"
            + middle
            + "+1 migrate_set_state new state completed"
        )
        assert expected * NS_PER_MS == reading.migration.downtime_ns


@pytest.mark.parametrize(("mark", "expected_ms"), [("", 7), ("vmstate_downtime_checkpoint src-downtime-end\n", 2)])
def test_downtime_ends_with_its_mark_after_completed(mark: str, expected_ms: int) -> None:
    """QEMU 8.2 prints the mark once it has its lock; the run state `postmigrate` follows, and ends it without a mark."""
    reading = follow(
        SETUP
        + "vmstate_downtime_checkpoint src-downtime-start\nmigrate_set_state new state completed\n"
        + mark
        + f"+{5 - bool(mark)} M runstate_set current_run_state 7 (finish-migrate) new_state 6 (postmigrate)"
    )
    assert expected_ms * NS_PER_MS == reading.migration.downtime_ns


def test_running_guest_has_no_downtime() -> None:
    """Not 0."""
    migration = follow(
        SETUP + "M migrate_set_state new state cancelling\nM migrate_set_state new state cancelled"
    ).migration
    assert (None, None) == (migration.downtime_ns, migration.downtime_start_ns)


def test_open_downtime_is_unknown() -> None:
    """In post-copy the terminal state is not its end."""
    migration = follow(
        SETUP + "postcopy_start\nsavevm_state_complete_precopy\nmigrate_set_state new state completed"
    ).migration
    assert (Result.COMPLETED, None, None) == (migration.result, migration.downtime_ns, migration.downtime_start_ns)


def test_negative_downtime_is_unknown() -> None:
    """Lines out of order: the loop's end is taken for the outcome, and the guest stopped later."""
    migration = follow(
        SETUP
        + "migrate_set_state new state failing\nM migrate_fd_cleanup\nvmstate_downtime_checkpoint src-downtime-start"
    ).migration
    assert (Result.FAILED, None) == (migration.result, migration.downtime_ns)


# Rounds and syncs


def rounds(reading: Reading) -> list[tuple[int, int]]:
    """Write the rounds as number and slices."""
    return [(each.number, each.iterations) for each in reading.migration.rounds]


def test_migration_thread_sync_begins_round() -> None:
    """While it iterates."""
    reading = follow(
        SETUP
        + "savevm_state_iterate\nmigration_bitmap_sync_start\nmigration_bitmap_sync_end dirty_pages 5\nsavevm_state_iterate\nsavevm_state_iterate"
    )
    assert [(1, 1), (2, 2)] == rounds(reading)


@pytest.mark.parametrize(
    "sync",
    [
        "M migration_bitmap_sync_start\nM migration_bitmap_sync_end dirty_pages 5\n",
        "M cpu_throttle_dirty_sync\nmigration_bitmap_sync_start\nmigration_bitmap_sync_end dirty_pages 5\n",
    ],
    ids=["on another thread", "the throttle's, where there are no threads"],
)
def test_other_thread_sync_begins_no_round(sync: str) -> None:
    """It is counted, and belongs to the round it is in."""
    reading = follow(SETUP + "savevm_state_iterate\n" + sync + "savevm_state_iterate")
    assert [(1, 2)] == rounds(reading)
    assert [None, 1] == [each.sync.round for each in reading.of(SyncFinished)]
    assert 2 == reading.migration.progress.bitmap_syncs


def test_only_sync_after_mark_is_throttle() -> None:
    """The one after that is a pass's end."""
    reading = follow(
        SETUP
        + "savevm_state_iterate\nM cpu_throttle_dirty_sync\n"
        + 2 * "migration_bitmap_sync_start\nmigration_bitmap_sync_end dirty_pages 5\nsavevm_state_iterate\n"
    )
    assert [(1, 2), (2, 1)] == rounds(reading)


@pytest.mark.parametrize("before", ["savevm_state_complete_precopy", "postcopy_start\nsavevm_send_ping 0x4"])
def test_late_sync_begins_no_round(before: str) -> None:
    """It is no pass over the memory."""
    reading = follow(
        SETUP
        + "savevm_state_iterate\n"
        + before
        + "\nmigration_bitmap_sync_start\nmigration_bitmap_sync_end dirty_pages 5\nsavevm_state_iterate"
    )
    assert [(1, 1)] == rounds(reading)
    assert 2 == reading.migration.progress.iterations


def test_rounds_are_reported_as_they_end() -> None:
    """Not when the migration does."""
    reading = follow(
        SETUP
        + "savevm_state_iterate\nmigration_bitmap_sync_start\nmigration_bitmap_sync_end dirty_pages 5\nsavevm_state_iterate\n"
        + "+100 migrate_transferred transferred 9 time_spent 100 bandwidth 1 max_size 30\nmigrate_set_state new state failed"
    )
    kinds = [type(change) for change in reading.changes if isinstance(change, RoundEnded | PhaseEnded)]
    assert [PhaseEnded, RoundEnded, PhaseEnded, RoundEnded] == kinds


# Counts


def test_throttle_ratio_is_known_since_9_2() -> None:
    """Before 9.2 the mark shows that the ratio grew, but not its value."""
    progress = follow(
        SETUP + "migration_throttle\nM cpu_throttle_set set guest CPU throttled by 20%\nmigration_throttle"
    ).migration.progress
    assert (2, 0.2) == (progress.throttles, progress.throttle_ratio)


@pytest.mark.parametrize(
    ("events", "requests"),
    [
        ("", 0),
        ("postcopy_start", None),
        ("postcopy_start\nR migrate_handle_rp_req_pages in pc.ram at 0x0 len 0x1000", 1),
    ],
)
def test_disabled_requests_are_unknown(events: str, requests: int | None) -> None:
    """In post-copy none at all means that the event is off: it is a noisy one."""
    assert requests == follow(SETUP + events).migration.progress.postcopy_requests


@pytest.mark.parametrize(
    ("sent", "pending", "end", "is_partial"),
    [
        (1_000, 3_990, "completed", False),
        (1_000, 3_989, "completed", True),
        (1_000, 3_989, "failed", False),
        (0, 4_000, "completed", False),
    ],
    ids=["1 % of the bytes", "more", "more, but it failed", "nothing"],
)
def test_bytes_without_their_window_are_noted(sent: int, pending: int, end: str, *, is_partial: bool) -> None:
    """QEMU prints no window of under 100 ms, so the last bytes show in the fall of pending alone."""
    size = "migrate_pending pending size {} max 0\n"
    window = f"migrate_transferred transferred {sent} time_spent 100 bandwidth 10 max_size 9\n"
    events = size.format(5_000) + window + size.format(4_000) + size.format(pending)
    migration = follow(f"{SETUP}{events}migrate_set_state new state {end}").migration
    assert is_partial is migration.transferred_is_partial


def test_devices_are_saved_in_switchover() -> None:
    """RAM's slices are sections too, and since 8.2 some devices are saved in setup as well."""
    device = """
        savevm_section_start cpu, section_id 5
        vmstate_save cpu, cpu
        savevm_section_end cpu, section_id 5 -> 0
        vmstate_downtime_save type=non-iterable idstr=cpu instance_id=0 downtime=9
    """
    reading = follow(SETUP + device + "savevm_state_complete_precopy\n" + device)
    assert ["cpu"] == [each.device.name for each in reading.of(DeviceFinished)]


@pytest.mark.parametrize("begin", [SETUP, f"{PENDING}\nsavevm_state_iterate\n"])
def test_iterating_device_is_no_device_of_switchover(begin: str) -> None:
    """A VFIO device has sections in each slice, also in a stream that was joined there; a log and a probe agree."""
    section = "savevm_section_start {0}, section_id 3\nsavevm_section_end {0}, section_id 3 -> 1\n"
    log = log_lines(begin + section.format("vfio") + "savevm_state_complete_precopy\n" + section.format("cpu"))
    for data in (log.encode(), ANCHOR + probe_lines({7: log})):
        assert ["cpu"] == [each.device.name for each in read(data).of(DeviceFinished)]


@pytest.mark.parametrize(
    ("events", "expected_ms"),
    [
        ("{start}vmstate_downtime_checkpoint src-non-iterable-saved\n{end}", 7),
        ("{start}vmstate_downtime_checkpoint src-non-iterable-saved\n+9 migration_return_path_end_before \n{end}", 7),
        ("migration_return_path_end_before \n{start}{end}", None),
    ],
    ids=["a mark", "the first of two marks", "the return path ends before the switchover"],
)
def test_destination_part_begins_when_all_is_saved(events: str, expected_ms: int | None) -> None:
    start = "vmstate_downtime_checkpoint src-downtime-start\nvmstate_downtime_checkpoint src-vm-stopped\n"
    lines = events.format(start=start, end="+20 vmstate_downtime_checkpoint src-downtime-end")
    parts = {part.name.value: part.start_ns for part in follow(SETUP + lines).migration.downtime_parts}
    assert parts.get("destination") == (None if expected_ms is None else EPOCH_NS + expected_ms * NS_PER_MS)


@pytest.mark.parametrize(
    ("events", "parts"),
    [
        # 8.2 and later
        (
            """
            migration_thread_low_pending 0
            vmstate_downtime_checkpoint src-downtime-start
            vmstate_downtime_checkpoint src-vm-stopped
            migration_completion_vm_stop ret 0
            savevm_section_start ram, section_id 2
            savevm_section_end ram, section_id 2 -> 0
            vmstate_downtime_checkpoint src-iterable-saved
            """,
            [("stop", 7, 8), ("ram", 10, 11)],
        ),
        # The sections are not enabled
        (
            """
            migration_thread_low_pending 0
            vmstate_downtime_checkpoint src-downtime-start
            vmstate_downtime_checkpoint src-vm-stopped
            migrate_set_state new state device
            +20 vmstate_downtime_checkpoint src-iterable-saved
            """,
            [("stop", 7, 8), ("ram", 9, 30)],
        ),
        ("migration_thread_low_pending 0\n+20 vmstate_downtime_save type=iterable idstr=ram instance_id=0 downtime=9000",
         [("ram", 17, 26)]),
        # To 6.0: the mark after the stop; with pause-before-switchover, a state
        ("migration_thread_low_pending 0\nsavevm_state_complete_precopy", [("stop", 5, 6)]),
        ("migration_thread_low_pending 0\nmigrate_set_state new state pre-switchover", [("stop", 5, 6)]),
        # Not in the switchover
        ("vmstate_downtime_checkpoint src-iterable-saved", []),
        ("savevm_section_start ram, section_id 2\nsavevm_section_end ram, section_id 2 -> 1", []),
    ],
)  # fmt: skip
def test_downtime_is_stop_ram_and_devices(events: str, parts: list[tuple[str, float, float]]) -> None:
    """As far as the marks of the release tell it."""
    told = [change.part for change in follow(SETUP + events).of(DowntimePartEnded)]
    assert parts == [
        (each.name, (each.start_ns - EPOCH_NS) / NS_PER_MS, (each.end_ns - EPOCH_NS) / NS_PER_MS) for each in told
    ]


def test_untimed_clock_gives_no_downtime_parts() -> None:
    """No part is better than one of 0 seconds."""
    names = ("savevm_state_header", "migration_thread_setup_complete", "migration_thread_low_pending")
    lines = "".join(f"{name} \n" for name in (*names, "savevm_state_complete_precopy"))
    assert [] == read(lines).of(DowntimePartEnded)


def test_devices_precede_switchover_end() -> None:
    """The last one too, which QEMU's own measure might have followed."""
    changes = follow(
        SETUP
        + """
        savevm_state_complete_precopy
        savevm_section_start cpu, section_id 5
        vmstate_save cpu, cpu
        savevm_section_end cpu, section_id 5 -> 0
        migrate_set_state new state completed
        """
    ).changes
    ends = [
        type(change)
        for change in changes
        if isinstance(change, DeviceFinished)
        or (isinstance(change, PhaseEnded) and change.phase.name is PhaseName.COMPLETE_PRECOPY)
    ]
    assert [DeviceFinished, PhaseEnded] == ends


# States


@pytest.mark.parametrize(
    ("states", "surprises"),
    [
        (["active", "completed"], []),
        (["active", "completed", "active"], [SurpriseKind.UNEXPECTED_STATE]),
        (["active", "postcopy-recover"], [SurpriseKind.UNEXPECTED_STATE]),
        (["active", "teleporting", "completed"], [SurpriseKind.UNKNOWN_STATE]),
    ],
)
def test_impossible_states_are_surprises(states: list[str], surprises: list[SurpriseKind]) -> None:
    """Counted, and believed."""
    reading = follow(SETUP + "\n".join(f"migrate_set_state new state {state}" for state in states))
    assert surprises == reading.surprises
    assert states[-1] == reading.migration.progress.state


def test_last_outcome_counts() -> None:
    """QEMU 11 prints failing and then failed; other versions might print more."""
    migration = follow(SETUP + "migrate_set_state new state completed\nmigrate_set_state new state failed").migration
    assert Result.FAILED == migration.result


def test_progress_names_phase() -> None:
    """After the outcome, in cleanup, even before its first mark."""
    progress = follow(
        SETUP + "migrate_set_state new state active\nmigrate_set_state new state completed"
    ).migration.progress
    assert (PhaseName.CLEANUP, "completed") == (progress.phase, progress.state)


# The machine by itself


def machine() -> Machine:
    """Make a machine of its own."""
    return Machine.begin(
        trace_id="t", vm="guest", uuid="u", stream="s", clock=ClockKind.PROBE, start_ns=5, partial=False
    )


def test_unrelated_events_change_nothing() -> None:
    """A function probe that came this way is not an error."""
    lone = machine()
    assert () == apply(lone, FunctionCalled(None, None, "bitmap_set"), FunctionCalled, 7)


@pytest.mark.parametrize(
    ("release", "expected_ns"), [((2, 9), 9), ((2, 10), 9), ((2, 11), 5)], ids=["2.9", "2.10", "2.11"]
)
def test_old_release_computes_its_times_after_the_loop(release: tuple[int, int], expected_ns: int) -> None:
    one = machine()
    one.releases = (release, release)
    apply(one, StateSet(5, None, "completed"), StateSet, 5)
    apply(one, SignalEvent(9, None, Signal.AFTER_LOOP), Signal.AFTER_LOOP, 9)
    assert expected_ns == one.outcome.at_ns


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        ((2, 0), (99, 0), 2),
        ((9, 2), (99, 0), 2),
        ((10, 0), (99, 0), None),
        ((10, 0), (11, 0), 2),
        ((10, 0), (11, 1), None),
        ((11, 1), (99, 0), 1 + 1),
        ((11, 1), (11, 1), 1 + 1),
    ],
)
def test_syncs_are_counted_as_the_release_does(
    first: tuple[int, int], last: tuple[int, int], expected: int | None
) -> None:
    """Since 11.1 QEMU counts iterations, from 1; a stream that may be of 11.1 or of 10.0 has no count."""
    one = machine()
    for begins_round in (False, True):
        one.precopy.sync_started(5, phase=PhaseName.ITERATE, begins_round=begins_round)
    one.releases = (first, last)
    assert expected == summary.migration(one).dirty_sync_count


@pytest.mark.parametrize(("mark", "kind"), [("", Kind.SNAPSHOT), ("migration_thread_low_pending 0\n", Kind.LIVE)])
def test_mark_of_the_thread_is_of_no_savevm(mark: str, kind: Kind) -> None:
    """Slices in the state `setup` are those of savevm, where no thread decides when to switch over."""
    states = "M migrate_set_state new state setup\n{}M migrate_set_state new state completed"
    migration = follow(states.format("savevm_state_header\nsavevm_state_iterate\n" + mark)).migration
    assert kind is migration.identity.kind


def test_names_of_devices_are_bounded() -> None:
    """A probe prints a text of any length."""
    name = "n" * 257
    one = machine()
    apply(one, DeviceLoaded(5, None, "non-iterable", name, 0, 900), DeviceLoaded, 5)
    one.phase = PhaseName.COMPLETE_PRECOPY
    apply(one, SectionStarted(7, None, name, 5), SectionStarted, 7)
    apply(one, SectionEnded(8, None, name, 5), SectionEnded, 8)
    assert [name[:256]] * 2 == [one.loads[0].device, one.switchover.devices[0].name]


def test_empty_machine_can_end() -> None:
    """With an unknown result."""
    changes = list(finish(machine()))
    assert [] == [change for change in changes if isinstance(change, Surprised)]
    assert Result.UNKNOWN == Reading(stream=read("").stream, changes=changes).migration.result


@pytest.mark.parametrize(("before", "is_joined"), [(SETUP, False), (f"{PENDING}\n", True)], ids=["setup", "middle"])
@pytest.mark.parametrize("end", ["", "migrate_set_state new state completed\n"], ids=["open", "completed"])
def test_stream_without_its_beginning_is_joined(before: str, end: str, *, is_joined: bool) -> None:
    """A stream without its end is partial too, and its beginning is known all the same."""
    migration = follow(before + "savevm_state_iterate\n" + end).migration
    assert (is_joined, is_joined or not end) == (migration.is_joined, migration.identity.partial or migration.partial)


def test_bare_marks_are_enough() -> None:
    """A script may print names alone: then values are unknown, and counts and phases are not."""
    names = [
        "savevm_state_header",
        "migrate_set_state",
        "migration_bitmap_sync_start",
        "migration_bitmap_sync_end",
        "migration_thread_setup_complete",
        "migrate_pending",
        "savevm_state_iterate",
        "migrate_transferred",
        "cpu_throttle_set",
        "migration_throttle",
        "migration_thread_low_pending",
        "savevm_state_complete_precopy",
        "savevm_section_start",
        "vmstate_save",
        "savevm_section_end",
        "vmstate_downtime_save",
        "savevm_send_ping",
        "migrate_fd_error",
        "migration_thread_after_loop",
    ]
    reading = read("".join(f'process("/usr/libexec/qemu-kvm").mark("{name}")\n' for name in names))
    progress = reading.migration.progress
    assert (Result.FAILED, True, None) == (
        reading.migration.result,
        reading.migration.result_inferred,
        reading.migration.error,
    )
    assert (1, 1, 1) == (progress.bitmap_syncs, progress.iterations, progress.throttles)
    assert [None] * 5 == [
        progress.pending_bytes,
        progress.transferred_bytes,
        progress.throttle_ratio,
        progress.state,
        reading.migration.rounds[0].dirtied_bytes,
    ]
    assert ["setup", "iterate", "complete_precopy"] == [each.name for each in reading.migration.phases]
    assert [] == reading.surprises


#: The state of a migration that waits for migrate-continue.
WAITING = SETUP + "migrate_set_state new state pre-switchover\n"
SHUT_DOWN = "2023-11-14 22:13:21.000+0000: shutting down, reason="


@pytest.mark.parametrize(
    ("events", "libvirt", "ended", "state"),
    [
        ("", "", 0, "pre-switchover"),
        ("migrate_set_state new state device", "", 1, "device"),
        ("migrate_set_state new state failed", "", 1, None),
        ("", f"{SHUT_DOWN}crashed\n", 1, None),
        ("", f"{SHUT_DOWN}destroyed\n", 1, None),
    ],
    ids=["the stream ends", "migrate-continue", "failed", "QEMU crashed", "QEMU was destroyed"],
)
def test_wait_ends_with_migration(events: str, libvirt: str, ended: int, state: str | None) -> None:
    """A report names the wait in which a stream ended, and no wait of a migration that is over."""
    reading = read(log_lines(WAITING + events) + libvirt)
    assert ended == len(reading.of(PreSwitchoverEnded))
    assert state == (reading.migration.open_wait and reading.migration.open_wait.state)


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("end", ["migrate_set_state new state failed", "migration_thread_after_loop"])
def test_error_line_around_cleanup_is_the_cause(end: str, *, is_after: bool) -> None:
    """The release of QEMU decides whether the cause is printed before the cleanup or after it."""
    lines = log_lines(f"{SETUP}migration_thread_file_err\n{end}").splitlines(keepends=True)
    lines.insert(len(lines) - (not is_after), "qemu-system-x86_64: Unable to write to socket: Broken pipe\n")
    migration = read("".join(lines)).migration
    assert (Result.FAILED, "Unable to write to socket: Broken pipe") == (migration.result, migration.error)
