"""Which event begins a migration, and when nothing more belongs to it."""

from __future__ import annotations

import json
from typing import Final

import pytest
from qemu_migration_exporter.core.changes import Change, GuestGone, MigrationEnded, Started
from qemu_migration_exporter.core.events import (
    BacktraceFrame,
    Event,
    FunctionCalled,
    GuestDescribed,
    Pending,
    QmpCommand,
    SignalEvent,
    StateSet,
)
from qemu_migration_exporter.core.lines import PlacedLines
from qemu_migration_exporter.core.model import ClockKind, Kind, Migration, Phase, Result, Round, Side, SurpriseKind
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.tracking.last_event import LINGER_NS, LOST_OUTCOME_NS
from qemu_migration_exporter.core.tracking.tracker import Tracker

from tests.support.core_helpers import (
    ANCHOR,
    EPOCH_NS,
    NS_PER_MS,
    Reading,
    log_lines,
    made,
    new_stream,
    probe_lines,
    read,
)

SECOND = 1_000_000_000
RUNNING = "M migrate_set_state new state setup\nsavevm_state_header\nmigrate_set_state new state active\nmigration_thread_setup_complete\n"
COMPLETED = RUNNING + "migrate_set_state new state completed\n"


def follow(events: str) -> Reading:
    """Read events a millisecond apart."""
    return read(log_lines(events))


def tracker(clock: ClockKind = ClockKind.PROBE) -> Tracker:
    """Make a tracker of its own."""
    return Tracker(vm="guest", stream="guest.log", clock=clock)


def said(to: Tracker, event: Event, at_ns: int, line: bytes) -> list[Change]:
    """Feed a tracker one event; return the resulting changes."""
    return to.apply(PlacedLines([event], [line], [None], [at_ns]))


def state(name: str) -> StateSet:
    """Make a state's event."""
    return StateSet(None, None, name)


def mark(meaning: Signal) -> SignalEvent:
    """Make a mark."""
    return SignalEvent(None, None, meaning)


def ended(changes: list[Change]) -> list[Migration]:
    """Return the migrations that ended."""
    return [change.migration for change in changes if isinstance(change, MigrationEnded)]


# Beginnings

SETUP: Final = "M migrate_set_state new state setup"


@pytest.mark.parametrize(
    ("events", "partial"),
    [
        ("M migrate_set_state new state setup\nM migrate_set_state new state cancelling", False),
        ("savevm_state_header\nmigration_thread_setup_complete", False),
        ("migration_thread_setup_complete", True),
        ("migrate_pending pending size 9 max 0", True),
        ("migrate_transferred transferred 9 time_spent 100 bandwidth 1 max_size 3", True),
        ("migration_thread_low_pending 0", True),
        ("vmstate_downtime_checkpoint src-downtime-start", True),
        ("postcopy_start", True),
        ("migrate_set_state new state cancelling", True),
        (
            "migrate_set_state new state postcopy-active\nR migrate_handle_rp_req_pages in pc.ram at 0x0 len 0x1000",
            True,
        ),
        ("migrate_set_state new state active\nmigrate_pending pending size 9 max 0", True),
    ],
)
def test_migration_begins_at_evidence(events: str, *, partial: bool) -> None:
    """The first evidence may be in the middle; the migration is then reported as partial at once."""
    (started,) = follow(events).started
    assert (Side.SOURCE, partial) == (started.identity.side, started.identity.partial)


@pytest.mark.parametrize(
    "event",
    [
        "M migrate_fd_cancel",
        "M migration_cancel",
        "M migration_cleanup",
        "M migrate_set_state new state completed",
        "migration_thread_after_loop",
        "savevm_state_iterate",
        "migration_bitmap_sync_start",
        "M runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)",
        "M loadvm_state_setup",
        "M migrate_set_state new state none",
    ],
)
def test_shared_events_begin_nothing(event: str) -> None:
    """QEMU's exit, a snapshot's pieces, or the tail of a migration that was over."""
    assert [] == follow(event).changes


@pytest.mark.parametrize("name", ["7.2-snapshot", "snapshot-lone-completed"])
def test_savevm_is_of_kind_snapshot(name: str) -> None:
    """Saving a snapshot writes the same header, sections and devices, and never is active."""
    (snapshot,) = read(made(name)).migrations
    assert (Kind.SNAPSHOT, Side.SOURCE) == (snapshot.identity.kind, snapshot.identity.side)


def test_stateless_savevm_is_not_reported() -> None:
    assert [] == read(made("snapshot-without-states")).changes


def test_migration_after_snapshot_is_new() -> None:
    """With its own start."""
    snapshot = made("7.2-snapshot").decode()
    later = log_lines("+402200 " + RUNNING + "migrate_set_state new state completed")
    saved, migrated = read(snapshot.rpartition("4000@1700000060")[0] + later).migrations
    assert EPOCH_NS + 402_200 * NS_PER_MS == migrated.identity.start_ns
    assert (Kind.SNAPSHOT, Kind.LIVE) == (saved.identity.kind, migrated.identity.kind)
    assert Result.COMPLETED == migrated.result


def test_repeated_setup_is_one_attempt() -> None:
    """A doubled line, at another microsecond."""
    reading = follow("M migrate_set_state new state setup\n" + RUNNING + "migrate_set_state new state completed")
    assert (Result.COMPLETED, EPOCH_NS) == (reading.migration.result, reading.migration.identity.start_ns)


def test_later_setup_is_another_attempt() -> None:
    """The end of the one before was lost: its result is not known, and that is a surprise."""
    reading = follow(RUNNING + RUNNING + "migrate_set_state new state completed")
    assert [Result.UNKNOWN, Result.COMPLETED] == [each.result for each in reading.migrations]
    assert [SurpriseKind.RESTARTED] == reading.surprises


@pytest.mark.parametrize(
    ("before", "is_retry"),
    [
        (RUNNING + "migrate_set_state new state failed\n", True),
        (RUNNING + "migrate_set_state new state cancelled\n", True),
        ("M migrate_set_state new state setup\nM migrate_set_state new state failed\n", True),
        (RUNNING, True),
        (COMPLETED, False),
        (
            "migration_socket_incoming_accepted\nmigrate_set_state new state active\nmigrate_set_state new state failed\n",
            False,
        ),
    ],
)
def test_attempt_after_failure_is_retry(before: str, *, is_retry: bool) -> None:
    """A retry is of the same direction: an incoming migration before it does not count."""
    first, second = follow(before + COMPLETED).migrations
    assert (first.identity.trace_id if is_retry else None) == second.identity.retry_of
    assert None is first.identity.retry_of


def test_stateless_header_is_new_attempt() -> None:
    """With states, a second header changes nothing."""
    stateless = "savevm_state_header\nmigration_thread_setup_complete\n"
    assert 2 == len(follow(stateless + stateless).migrations)
    assert 1 == len(follow(RUNNING + "savevm_state_header").migrations)


def test_lone_setup_has_no_side() -> None:
    """A destination prints it too, when it begins to listen (8.2 and later)."""
    reading = follow("M migrate_set_state new state setup")
    assert (None, Result.UNKNOWN) == (reading.migration.identity.side, reading.migration.result)


@pytest.mark.parametrize(
    ("command", "side"), [("migrate", Side.SOURCE), ("migrate_incoming", Side.DESTINATION), ("migrate_cancel", None)]
)
def test_qmp_command_reveals_side(command: str, side: Side | None) -> None:
    reading = follow(f"M qmp_enter_{command} {{}}\n{SETUP}\nM migrate_set_state new state active")
    assert side == reading.migration.identity.side


def test_listening_is_no_migration() -> None:
    """A destination of 8.2 or later is in `setup` from then on."""
    assert [] == follow(f"M qmp_enter_migrate_incoming {{}}\n{SETUP}").changes


@pytest.mark.parametrize(
    ("events", "start_ms"),
    [
        ("+9 M migration_socket_incoming_accepted\nM migrate_set_state new state active", 10),
        ("+9 M migrate_set_state new state active\nM process_incoming_migration_co_end ret=0 postcopy-state=0", 10),
        ("M migrate_fd_cleanup\n+9 M migration_socket_incoming_accepted", 0),
    ],
    ids=["the connection", "active", "something was cleaned up before"],
)
def test_incoming_begins_after_listening(events: str, start_ms: int) -> None:
    """It begins with the connection, else with `active`; its direction may be known only at the end."""
    migration = follow("M migrate_set_state new state setup\n" + events).migration
    assert (Side.DESTINATION, EPOCH_NS + start_ms * NS_PER_MS) == (migration.identity.side, migration.identity.start_ns)


@pytest.mark.parametrize(
    "load",
    ["loadvm_state_setup", "migrate_global_state_post_load loaded state: running", "multifd_recv_thread_start 0"],
)
def test_loading_snapshot_is_no_migration(load: str) -> None:
    """Not even right after one was saved."""
    assert [] == follow(f"M savevm_state_header\nM savevm_state_cleanup\nM {load}").changes


@pytest.mark.parametrize(
    ("event", "sides"),
    [
        ("migrate_pending pending size 9 max 0", [Side.SOURCE]),
        ("M vmstate_downtime_load type=iterable idstr=ram instance_id=0 downtime=900", []),
    ],
    ids=["memory is sent", "memory is loaded"],
)
def test_load_without_state_is_of_a_snapshot(event: str, sides: list[Side]) -> None:
    """With states enabled, an incoming migration begins with a state, and the loads of a snapshot print none."""
    reading = follow(f"M migrate_set_state new state cancelled\n+9000 {event}")
    assert sides == [migration.identity.side for migration in reading.migrations]


@pytest.mark.parametrize(("arguments", "side"), [('{"resume": true}', None), ('{"resume": false}', Side.SOURCE)])
def test_resuming_announces_no_migration(arguments: str, side: Side | None) -> None:
    """It is the one that is open that goes on."""
    reading = follow(f"M qmp_enter_migrate {arguments}\nM migrate_set_state new state setup")
    assert side == reading.migration.identity.side


RESUME = """
    +30000 M migration_socket_outgoing_connected hostname=node2
    M open_return_path_on_source
    M open_return_path_on_source_continue
    savevm_state_resume_prepare
    ram_state_resume_prepare 33411
    savevm_send_postcopy_resume
    R source_return_path_thread_resume_ack 1
    postcopy_pause_continued
"""


@pytest.mark.parametrize("resume", ["", *RESUME.strip().splitlines(), RESUME.strip()])
def test_resume_begins_no_migration(resume: str) -> None:
    """An open migration continues through all events of a resume; without one, no migration begins."""
    assert [] == follow(resume).changes
    start = "savevm_state_header\nmigration_thread_setup_complete\npostcopy_start\nsavevm_state_complete_precopy\n"
    end = "\nR source_return_path_thread_shut 0x0\nmigration_return_path_end_after 0\nmigration_thread_after_loop"
    reading = follow(start + resume + end)
    assert ([Result.COMPLETED], []) == ([each.result for each in reading.migrations], reading.surprises)


STATELESS = "savevm_state_header\nmigration_thread_setup_complete\n"
POSTCOPY = STATELESS + "postcopy_start\nsavevm_state_complete_precopy\n"
PRECOPY = STATELESS + "migration_thread_low_pending 0\nsavevm_state_complete_precopy\n"
BROKEN = "R source_return_path_thread_bad_end\nM migrate_error error=Channel error\n"
AFTER_LOOP = "\nmigration_thread_after_loop\n"


@pytest.mark.parametrize(
    ("events", "result"),
    [
        (POSTCOPY + BROKEN + RESUME + AFTER_LOOP, Result.COMPLETED),
        (POSTCOPY + BROKEN + "postcopy_pause_continued" + AFTER_LOOP, Result.COMPLETED),
        (POSTCOPY + BROKEN + "postcopy_pause_continued\n" + BROKEN + AFTER_LOOP, Result.FAILED),
        (POSTCOPY + BROKEN, Result.UNKNOWN),
        (PRECOPY + "R source_return_path_thread_bad_end" + AFTER_LOOP, Result.FAILED),
        (PRECOPY + "multifd_send_error channel 1" + AFTER_LOOP, Result.FAILED),
        (PRECOPY + "migration_return_path_end_after 0" + AFTER_LOOP, Result.COMPLETED),
        (PRECOPY + "migration_return_path_end_after 1" + AFTER_LOOP, Result.FAILED),
        (POSTCOPY + "migration_completion_postcopy_end_after_rp 1" + AFTER_LOOP, Result.FAILED),
        (PRECOPY + AFTER_LOOP + BROKEN.splitlines()[0], Result.COMPLETED),
        (STATELESS + "M migrate_fd_cancel\n" + BROKEN + AFTER_LOOP, Result.CANCELLED),
        (RUNNING + BROKEN + "migrate_set_state new state completed" + AFTER_LOOP, Result.COMPLETED),
        (
            RUNNING + "migrate_set_state new state postcopy-active\nsavevm_state_complete_precopy\n" + BROKEN
            + "migrate_set_state new state postcopy-paused\n+9 M migrate_set_state new state postcopy-recover\n"
            + "R migrate_set_state new state postcopy-active" + AFTER_LOOP,
            Result.COMPLETED,
        ),
    ],
)  # fmt: skip
def test_break_fails_unless_resumed(events: str, result: Result) -> None:
    """Post-copy pauses and is resumed; QEMU's own state wins; a cancel and the end break every channel."""
    assert [result] == [each.result for each in follow(events).migrations]


@pytest.mark.parametrize(
    "event",
    [
        "multifd_send_terminate_threads error 0",
        "multifd_send_thread_end channel 0 packets 1204",
        "R source_return_path_thread_end",
        "R source_return_path_thread_bad_end",
        "migration_return_path_end_after 1",
        "multifd_recv_thread_start 0",
        "postcopy_pause_continued",
    ],
)
def test_close_after_end_changes_nothing(event: str) -> None:
    """Within the second in which it still belongs to the migration, and later, when none is open."""
    for pause_ms in (1, 5_000):
        reading = follow(COMPLETED + f"+{pause_ms} M {event.removeprefix('R ')}")
        assert [(Result.COMPLETED, False)] == [(each.result, each.result_inferred) for each in reading.migrations]
        assert follow(COMPLETED).migration == reading.migration


# Ends


def test_lines_within_a_second_belong() -> None:
    """The cleanup's marks, and why it failed."""
    end = RUNNING + "migrate_set_state new state failed\n+{} migration_thread_after_loop"
    for pause_ms, last_ms in [(900, 905), (1_100, 4)]:
        migration = follow(end.format(pause_ms)).migration
        assert EPOCH_NS + last_ms * NS_PER_MS == migration.end_ns


def test_next_attempt_ends_wait() -> None:
    """An orchestrator tries again within milliseconds."""
    reading = follow(
        RUNNING + "migrate_set_state new state failed\n" + RUNNING + "migrate_set_state new state completed"
    )
    assert [Result.FAILED, Result.COMPLETED] == [each.result for each in reading.migrations]
    assert [] == reading.surprises


def test_time_alone_ends_migration() -> None:
    """It ends one second after its outcome without another line of its process, in any order of lines."""
    lone = tracker()
    assert [] == lone.tick(0)
    changes: list[Change] = []
    for event in (mark(Signal.SETUP_COMPLETE), state("completed")):
        changes += said(lone, event, 5, b"")
    assert [] == lone.tick(5 + LINGER_NS)
    assert [Result.COMPLETED] == [each.result for each in ended(lone.tick(6 + LINGER_NS))]
    assert [] == lone.close()


def test_missing_terminal_state_was_lost() -> None:
    """Half a minute after the loop's end the outcome is inferred."""
    lone = tracker()
    for event in (mark(Signal.SETUP_COMPLETE), state("cancelling"), mark(Signal.AFTER_LOOP)):
        said(lone, event, 5, b"")
    assert [] == lone.tick(5 + LOST_OUTCOME_NS)
    (migration,) = ended(lone.tick(6 + LOST_OUTCOME_NS))
    assert (Result.CANCELLED, True, 5) == (migration.result, migration.result_inferred, migration.outcome_ns)


def test_without_loop_end_cleanup_ends() -> None:
    """2.4 has no after_loop."""
    migration = follow(
        "savevm_state_header\nmigration_thread_setup_complete\nsavevm_state_complete\n+1 M migrate_fd_cleanup"
    ).migration
    assert (Result.COMPLETED, True, EPOCH_NS + 4 * NS_PER_MS) == (
        migration.result,
        migration.result_inferred,
        migration.outcome_ns,
    )


def test_only_real_migrations_have_numbers() -> None:
    """An attempt that may still become a snapshot has none."""
    lone = tracker()
    assert lone.running() is None
    said(lone, mark(Signal.HEADER), 5, b"")
    assert lone.running() is None
    changes = said(lone, mark(Signal.SETUP_COMPLETE), 6, b"")
    assert isinstance(changes[0], Started)
    running = lone.running()
    assert running is not None
    assert changes[0].progress == running.progress


# Identity


def test_live_trace_id_includes_arrival() -> None:
    """Lines without time repeat themselves."""

    def trace(line: bytes, at_ns: int, clock: ClockKind) -> str:
        (started,) = (
            change
            for change in said(tracker(clock), Pending(None, None, 1, 0, None), at_ns, line)
            if isinstance(change, Started)
        )
        return started.identity.trace_id

    for clock, expected in [(ClockKind.PROBE, 2), (ClockKind.RECONSTRUCTED, 2), (ClockKind.ARRIVAL, 3)]:
        assert expected == len({trace(b"one", 5, clock), trace(b"one", 6, clock), trace(b"two", 6, clock)})


# What hand-written scripts and the monitor add


def test_backtrace_follows_function() -> None:
    """qmp_migrate's goes with the migration, migration_bitmap_sync's with the next sync."""
    lone = tracker()
    events: list[Event] = [
        BacktraceFrame(None, None, "of nothing"),
        FunctionCalled(None, None, "qmp_migrate"),
        *(BacktraceFrame(None, None, f"frame {number}") for number in range(70)),
    ]
    assert [] == [change for event in events for change in said(lone, event, 5, b"")]
    (started,) = said(lone, mark(Signal.HEADER), 6, b"")
    assert isinstance(started, Started)
    assert (64, "frame 0", Side.SOURCE) == (
        len(started.identity.stacktrace),
        started.identity.stacktrace[0],
        started.identity.side,
    )


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ('{"downtime-limit": 300, "max-bandwidth": 33554432}', 0.3),
        ('{"downtime-limit": 0}', 0.0),
        ('{"max-bandwidth": 33554432}', None),
        ('{"downtime-limit": -1}', None),
        ('{"downtime-limit": "300"}', None),
        ('{"downtime-limit": ' + "9" * 400 + "}", None),
        ('{"downtime-limit": 3', None),
        ("[300]", None),
        ("[" * 60_000, None),
        ("", None),
    ],
)
@pytest.mark.parametrize("before", [True, False])
def test_monitor_gives_downtime_limit(arguments: str, limit: float | None, *, before: bool) -> None:
    """Set before the migration or in it; damaged and senseless arguments tell nothing."""
    lone = tracker()
    command = QmpCommand(None, None, arguments, "migrate_set_parameters")
    for event in (command, mark(Signal.SETUP_COMPLETE)) if before else (mark(Signal.SETUP_COMPLETE), command):
        said(lone, event, 5, b"")
    (migration,) = ended(lone.close())
    assert limit == migration.progress.downtime_limit_seconds


def test_script_command_may_lack_arguments() -> None:
    """Its mark alone is no evidence."""
    assert [] == said(tracker(), QmpCommand(None, None, None, "migrate_set_parameters"), 5, b"")


def capabilities(*each: tuple[str, bool]) -> str:
    """Write the command that sets capabilities, as the monitor traces it."""
    pairs = ", ".join(f'{{"state": {str(value).lower()}, "capability": "{name}"}}' for name, value in each)
    return f'M qmp_enter_migrate_set_capabilities {{"capabilities": [{pairs}]}}\n'


def test_colo_is_no_migration() -> None:
    """The same command with a capability; without it, a migration again."""
    on, off = capabilities(("x-colo", True)), capabilities(("x-colo", False))
    assert [] == follow(on + COMPLETED).changes
    assert [] == follow(on + RUNNING).changes
    assert [] == follow(on + COMPLETED + COMPLETED).of(MigrationEnded)
    assert [Result.COMPLETED] == [each.result for each in follow(on + COMPLETED + off + COMPLETED).migrations]
    assert [Result.COMPLETED] == [each.result for each in follow(COMPLETED + on + COMPLETED).migrations]


def test_capabilities_are_set_one_by_one() -> None:
    """A command sets those it names, and leaves the others."""
    both = capabilities(("x-colo", True), ("auto-converge", True), ("background-snapshot", True))
    off = capabilities(("x-colo", False))
    assert Kind.SNAPSHOT is follow(both + off + COMPLETED).migration.identity.kind
    off = capabilities(("background-snapshot", False), ("x-colo", False))
    assert Kind.LIVE is follow(both + off + COMPLETED).migration.identity.kind


def test_capability_applies_afterwards() -> None:
    """QEMU refuses it while a migration runs, so it does not apply to that one."""
    on = capabilities(("background-snapshot", True))
    assert Result.COMPLETED == follow(RUNNING + on + "migrate_set_state new state completed").migration.result


@pytest.mark.parametrize(
    "arguments",
    [
        '{"capabilities": [{"state": true, "capability": "background-snap',
        '{"capabilities": {"state": true, "capability": "background-snapshot"}}',
        '{"capabilities": [["background-snapshot", true], "x-colo", null, 7]}',
        '{"capabilities": [{"state": "true", "capability": "background-snapshot"}]}',
        '{"capabilities": [{"state": 1, "capability": "x-colo"}]}',
        '{"capabilities": [{"state": true}]}',
        '{"capabilities": [{"state": true, "capability": "X-COLO"}]}',
        '{"capabilities": null}',
        "{}",
        "[]",
        "null",
        "",
        "[" * 60_000,
    ],
)
def test_cut_capabilities_are_ignored(arguments: str) -> None:
    """A probe cuts strings, sometimes at 64 bytes; capabilities that cannot be read are not set."""
    lone = tracker()
    said(lone, QmpCommand(None, None, arguments, "migrate_set_capabilities"), 5, b"")
    said(lone, mark(Signal.SETUP_COMPLETE), 5, b"")
    assert 1 == len(ended(lone.close()))


@pytest.mark.parametrize("capability", [["x-colo"], {"x-colo": True}, 7, None])
def test_unnamed_capability_is_ignored(capability: object) -> None:
    """JSON may hold anything."""
    lone = tracker()
    arguments = json.dumps({"capabilities": [{"state": True, "capability": capability}]})
    said(lone, QmpCommand(None, None, arguments, "migrate_set_capabilities"), 5, b"")
    said(lone, mark(Signal.SETUP_COMPLETE), 5, b"")
    assert 1 == len(ended(lone.close()))


@pytest.mark.parametrize(("is_named", "expected"), [(True, ("guest", None)), (False, ("web-42", "f00"))])
def test_given_name_is_kept(is_named: bool, expected: tuple[str, str | None]) -> None:
    """QEMU's command line names the guest only if nothing else does."""
    lone = Tracker(vm="guest", stream="guest.log", clock=ClockKind.PROBE, is_named=is_named)
    lone.describe(GuestDescribed(None, None, "web-42", "f00", incoming=False))
    assert (lone.vm, lone.uuid) == expected


def test_tracker_is_idle_between_migrations() -> None:
    """An attempt that may still become a snapshot counts as open."""
    lone = tracker()
    idle = [lone.is_idle]
    said(lone, mark(Signal.HEADER), 5, b"")
    idle.append(lone.is_idle)
    lone.close()
    assert [True, False, True] == [*idle, lone.is_idle]


def test_lost_lines_affect_open_migrations() -> None:
    """The migration that began before is partial at its end, though it was not at its start."""
    lone = tracker()
    lone.lines_lost()
    (started,) = [
        change
        for event in (mark(Signal.HEADER), mark(Signal.SETUP_COMPLETE))
        for change in said(lone, event, 5, b"")
        if isinstance(change, Started)
    ]
    lone.lines_lost()
    (first,) = ended(said(lone, state("completed"), 6, b"") + lone.tick(7 + LINGER_NS))
    assert (False, True) == (started.identity.partial, first.partial)
    for event in (state("setup"), mark(Signal.SETUP_COMPLETE), state("completed")):
        said(lone, event, 8 + LINGER_NS, b"")
    (second,) = ended(lone.close())
    assert not second.partial


LEFT = "M migrate_set_state new state setup\nmigrate_set_state new state active\nmigration_thread_setup_complete\n"


@pytest.mark.parametrize("mark_of_end", ["M migrate_fd_cleanup", "migration_thread_after_loop"])
@pytest.mark.parametrize("waits", ["pre-switchover", "postcopy-paused", "postcopy-recover", "wait-unplug"])
def test_no_stall_begins_after_the_loop(mark_of_end: str, waits: str) -> None:
    """The outcome is set back to the end of the loop when no terminal state comes."""
    state_and_time = f"\nM migrate_set_state new state {waits}\n+20000 M migrate_fd_cancel\n+9000 M migrate_fd_cancel"
    migration = follow(LEFT + mark_of_end + state_and_time).migration
    assert () == migration.stalls
    assert migration.outcome_ns == EPOCH_NS + 3 * NS_PER_MS


@pytest.mark.parametrize(
    "after",
    [
        "M migrate_set_state new state pre-switchover",
        "migrate_pending pending size 9 max 0\n+9 migration_bitmap_sync_start",
        "migration_thread_low_pending 0",
    ],
)
@pytest.mark.parametrize("mark_of_end", ["M migrate_fd_cleanup", "migration_thread_after_loop"])
def test_a_killed_qemu_ends_nothing_before_its_start(mark_of_end: str, after: str) -> None:
    """Marks after the end of the loop are later than the outcome that is assumed for it."""
    text = log_lines(f"{LEFT}{mark_of_end}\n{after}\n+5 M migrate_fd_cancel")
    killed = f"4000@{EPOCH_NS // 1_000_000_000}.900000:qemu-system-x86_64: terminating on signal 15 from pid 1\n"
    migration = read(text + killed).migration
    spans: list[Phase | Round] = [*migration.phases, *migration.rounds]
    assert [] == [span for span in spans if span.end_ns is not None and span.end_ns < span.start_ns]
    assert migration.outcome_ns is not None
    assert all(span.start_ns <= migration.outcome_ns for span in spans)
    assert migration.outcome_ns <= migration.end_ns


@pytest.mark.parametrize(
    ("events", "result", "error"),
    [
        (RUNNING, Result.FAILED, "QEMU ended: process 7 is gone"),
        (RUNNING + "migrate_set_state new state completed", Result.COMPLETED, None),
        (RUNNING + "migrate_set_state new state device", Result.FAILED, "QEMU ended: process 7 is gone"),
        (STATELESS + "savevm_state_complete_precopy", Result.COMPLETED, None),
        (POSTCOPY, Result.FAILED, "QEMU ended: process 7 is gone"),
        (PRECOPY + "multifd_send_error channel 1", Result.FAILED, "QEMU ended: process 7 is gone"),
    ],
    ids=["running", "completed", "completing", "completing without states", "post-copy", "broken"],
)
def test_a_process_that_is_gone_ends_its_migration(events: str, result: Result, error: str | None) -> None:
    """A manager ends a QEMU whose guest has left it, so one that completed has not failed."""
    stream = new_stream()
    stream.feed(ANCHOR + probe_lines({7: log_lines(events)}))
    stream.tick(EPOCH_NS + SECOND)
    assert stream.processes.open == {7: EPOCH_NS}
    (migration,) = ended(stream.process_ended(7, EPOCH_NS + SECOND))
    assert (migration.result, migration.error) == (result, error)
    assert ({}, []) == (stream.processes.open, stream.process_ended(7, EPOCH_NS + 2 * SECOND))


def test_a_process_never_seen_ends_nothing() -> None:
    assert [] == new_stream().process_ended(7, EPOCH_NS)


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [
        ("failed", [MigrationEnded, GuestGone]),
        ("cancelling\nmigrate_set_state new state cancelled", [MigrationEnded, GuestGone]),
        ("completed", [MigrationEnded]),
    ],
)
@pytest.mark.parametrize("second", ["20.500", "40.000"])
def test_guest_is_gone_after_its_migration_ended(outcome: str, changes: list[type[Change]], second: str) -> None:
    """Libvirt's line may come while the ended migration waits for its cleanup, whose series must not come back."""
    text = log_lines(f"{RUNNING}migrate_set_state new state {outcome}")
    text += f"2023-11-14 22:13:{second}+0000: shutting down, reason=crashed\n"
    found = [type(change) for change in read(text).changes if isinstance(change, MigrationEnded | GuestGone)]
    assert found == changes
