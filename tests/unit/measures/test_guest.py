"""The guest's run state, and the end of QEMU, beside the marks of a migration."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import RunStateSet
from qemu_migration_exporter.core.measures.guest import GuestRun, cause_of, follow_guest
from qemu_migration_exporter.core.model import Kind, Pause, PauseCause, Result

from tests.support.core_helpers import EPOCH_NS, NS_PER_MS, Reading, log_lines, new_stream, read

RUNNING = """
    M migrate_set_state new state setup
    M migration_socket_outgoing_connected hostname=
    migrate_set_state new state active
    migration_thread_setup_complete
"""
LIBVIRT = "2023-11-14 22:13:21.000+0000: "


def follow(events: str, *lines: str) -> Reading:
    """Read events a millisecond apart, and lines of libvirt's behind them."""
    return read(log_lines(events) + "".join(f"{line}\n" for line in lines))


def pauses(reading: Reading) -> list[tuple[float, float | None, str]]:
    """Return start, end and cause of each pause, in ms after the first event."""
    return [
        (
            (pause.start_ns - EPOCH_NS) / NS_PER_MS,
            None if pause.end_ns is None else (pause.end_ns - EPOCH_NS) / NS_PER_MS,
            pause.by.value,
        )
        for pause in reading.migration.pauses
    ]


@pytest.mark.parametrize(
    ("run_state", "cause"),
    [
        ("running", None),
        ("inmigrate", None),
        ("paused", PauseCause.SUSPENDED),
        ("suspended", PauseCause.GUEST_SLEEPS),
        ("io-error", PauseCause.IO_ERROR),
        ("finish-migrate", PauseCause.DOWNTIME),
        ("of-a-later-release", PauseCause.OTHER),
    ],
)
def test_run_state_causes_pause(run_state: str, cause: PauseCause | None) -> None:
    assert cause is cause_of(run_state)


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ("M qmp_enter_stop {}\nM qmp_enter_cont {}", [(4, 5, "suspended")]),
        ("M runstate_set current_run_state 9 (running) new_state 4 (paused)", [(4, None, "suspended")]),
        (
            """M runstate_set current_run_state 9 (running) new_state 3 (io-error)
            M qmp_enter_stop {}
            M runstate_set current_run_state 3 (io-error) new_state 9 (running)""",
            [(4, 6, "io-error")],
        ),
        ("migration_thread_low_pending 1\nM qmp_enter_stop {}\nM qmp_enter_cont {}", [(4, 6, "downtime")]),
        ("M runstate_set", []),
    ],
)
def test_pauses_follow_run_state(events: str, expected: list[tuple[float, float | None, str]]) -> None:
    assert expected == pauses(follow(RUNNING + events))


def test_stopped_guest_is_paused_from_start() -> None:
    reading = follow("M qmp_enter_stop {}\n" + RUNNING + "migrate_set_state new state cancelled")
    assert [(2, 6, "suspended")] == pauses(reading)
    assert 4 * NS_PER_MS == reading.migration.blackout_ns


def test_pauses_over_limit_still_count() -> None:
    run = GuestRun()
    for start_ns in range(0, 10_020, 10):
        run.stopped(start_ns, PauseCause.SUSPENDED)
        run.resumed(start_ns + 4)
    assert Pause(start_ns=9_990, end_ns=9_994, by=PauseCause.SUSPENDED) == run.pauses[-1]
    assert (1_000, 2 * 4) == (len(run.pauses), run.more_ns)


@pytest.mark.parametrize(
    ("line", "result", "error"),
    [
        ("shutting down, reason=crashed", Result.FAILED, "QEMU ended: shutting down, reason=crashed"),
        ("shutting down, reason=migrated", Result.COMPLETED, None),
        ("starting up libvirt version: 9.0.0", Result.FAILED, "QEMU ended: another one was started"),
    ],
)
def test_qemu_exit_ends_migration(line: str, result: Result, error: str | None) -> None:
    reading = follow(RUNNING, LIBVIRT + line)
    assert (result, error) == (reading.migration.result, reading.migration.error)
    assert reading.stream.is_idle


@pytest.mark.parametrize(
    ("events", "line", "expected_ms"),
    [
        (RUNNING, "22:13:21.000+0000: shutting down, reason=crashed", 3),
        (RUNNING, "22:14:20.002+0000: shutting down, reason=crashed", 3),
        (RUNNING, "22:14:20.003+0000: shutting down, reason=crashed", 60_003),
        (RUNNING, "22:13:21.000+0000: shutting down, reason=destroyed", 1_000),
        (RUNNING.rpartition("    migration_thread")[0], "22:13:21.000+0000: shutting down, reason=crashed", 1_000),
    ],
    ids=["crashed", "a long dump", "crashed when silent", "destroyed", "crashed in setup"],
)
def test_crash_ends_with_last_line_before_its_dump(events: str, line: str, expected_ms: int) -> None:
    """libvirt notices a crash when the core is dumped, up to a minute after QEMU's last line."""
    migration = read(log_lines(events) + f"2023-11-14 {line}\n").migration
    assert EPOCH_NS + expected_ms * NS_PER_MS == migration.outcome_ns


def test_qemu_exit_after_loop_uses_loop_end() -> None:
    reading = follow(RUNNING + "migration_thread_after_loop", LIBVIRT + "shutting down, reason=destroyed")
    assert None is reading.migration.error
    assert EPOCH_NS + 4 * NS_PER_MS == reading.migration.outcome_ns


def test_qemu_exit_alone_changes_nothing() -> None:
    assert [] == follow("M qmp_enter_stop {}", LIBVIRT + "shutting down, reason=destroyed").changes


DUMPED = (
    "M qmp_enter_migrate_set_capabilities {capabilities}\n"
    'M qmp_enter_migrate_set_parameters {"max-bandwidth": 9223372036853727232}\n'
    'M qmp_enter_migrate {"uri": "fd:migrate"}\n'
)


@pytest.mark.parametrize(("reason", "kind"), [("saved", Kind.SAVE), ("destroyed", Kind.DUMP)])
def test_libvirt_knows_whether_a_guest_was_saved(reason: str, kind: Kind) -> None:
    """The commands of a save and of a dump are the same, and the run state may not be traced."""
    off = ", ".join(
        f'{{"state": false, "capability": "{name}"}}' for name in ("return-path", "pause-before-switchover")
    )
    before = DUMPED.replace("{capabilities}", f'{{"capabilities": [{off}]}}')
    end = RUNNING + "migrate_set_state new state completed\n"
    reading = follow(before + end, LIBVIRT.replace("21.000", "20.500") + f"shutting down, reason={reason}")
    assert reading.migration.identity.kind is kind


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("", Kind.SAVE),
        ("M runstate_set current_run_state 5 (postmigrate) new_state 9 (running)", Kind.DUMP),
    ],
)
def test_running_guest_was_dumped(last: str, kind: Kind) -> None:
    off = ", ".join(
        f'{{"state": false, "capability": "{name}"}}' for name in ("return-path", "pause-before-switchover")
    )
    before = (
        "M runstate_set current_run_state 9 (running) new_state 4 (paused)\n"
        f'M qmp_enter_migrate_set_capabilities {{"capabilities": [{off}]}}\n'
        'M qmp_enter_migrate_set_parameters {"max-bandwidth": 9223372036853727232}\n'
        'M qmp_enter_migrate {"uri": "fd:migrate"}\n'
    )
    assert kind is follow(before + RUNNING + "migrate_set_state new state completed\n" + last).migration.identity.kind


def test_file_target_gives_the_kind() -> None:
    """Without the QMP command, QEMU's own event shows it."""
    before = "migrate_set_state new state setup\nmigration_file_outgoing filename=/srv/web-42\n"
    assert follow(before + RUNNING + "migrate_set_state new state completed\n").migration.identity.kind is Kind.FILE


@pytest.mark.parametrize(
    ("run_state", "expected"),
    [("running", (True, False)), ("inmigrate", (False, True)), ("paused", (False, False))],
)
def test_run_state_shows_where_the_guest_runs(run_state: str, expected: tuple[bool, bool]) -> None:
    """Running on this host, or to come from another."""
    run = GuestRun()
    run.set_run_state(1, run_state)
    assert expected == (run.is_running, run.is_incoming)


def test_guest_without_migration_keeps_no_pauses() -> None:
    """Such a guest may be paused and continued for years."""
    run = GuestRun()
    for at_ns, state in enumerate(["paused", "running", "io-error", "running"]):
        follow_guest(run, RunStateSet(None, None, state, None), at_ns)
    assert [] == run.pauses


QMP_EVENT = '{{"timestamp": {{"seconds": 1700000001, "microseconds": 0}}, "event": "{}"}}\n'


@pytest.mark.parametrize(
    ("names", "cause"),
    [(["STOP"], "suspended"), (["STOP", "RESUME"], None), (["RESUME", "STOP"], "suspended")],
)
def test_qmp_events_pause_a_guest_before_its_migration(names: list[str], cause: str | None) -> None:
    lines = log_lines("M qmp_enter_cont {}\n+9000 " + RUNNING.strip()).splitlines(keepends=True)
    migration = read("".join([lines[0], *map(QMP_EVENT.format, names), *lines[1:]])).migration
    assert [pause.by for pause in migration.pauses] == ([] if cause is None else [cause])


@pytest.mark.parametrize(
    ("before", "cause"),
    [
        ("M qmp_enter_stop {}", "suspended"),
        ("M runstate_set current_run_state 9 (running) new_state 4 (paused)", "suspended"),
        ("M qmp_enter_stop {}\nM qmp_enter_cont {}", None),
        ("M qmp_enter_stop {}\nM runstate_set current_run_state 4 (paused) new_state 9 (running)", None),
    ],
)
def test_guest_is_followed_before_its_migration(before: str, cause: str | None) -> None:
    """A guest that was paused before is paused from the migration's start on."""
    events = before + RUNNING.replace("M migrate_set_state", "+9000 M migrate_set_state", 1)
    migration = read(log_lines(events)).migration
    start_ns = migration.identity.start_ns
    assert migration.pauses == (() if cause is None else (Pause(start_ns=start_ns, end_ns=None, by=PauseCause(cause)),))


STOP = "M qmp_enter_stop {}\n"
FINISH = "M runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)\n"


@pytest.mark.parametrize(
    ("events", "since_ms", "cause"),
    [
        ("", None, None),
        (STOP, 4, "suspended"),
        (STOP + "M qmp_enter_cont {}\n", None, None),
        ("migration_thread_low_pending 0\n", 4, "downtime"),
        (FINISH, 4, "downtime"),
        (STOP + "migration_thread_low_pending 0\n", 4, "suspended"),
        (FINISH + "migrate_set_state new state completed\n", None, None),
        (FINISH + "postcopy_start\nsavevm_send_ping 0x4\n", None, None),
    ],
    ids=["runs", "stop", "cont", "low pending", "switchover", "stop, switchover", "completed", "runs elsewhere"],
)
def test_present_pause_has_start_and_cause(events: str, since_ms: int | None, cause: str | None) -> None:
    stream = new_stream()
    stream.feed(log_lines(RUNNING + events).encode())
    (migration,) = stream.running()
    progress = migration.progress
    since_ns = None if since_ms is None else EPOCH_NS + since_ms * NS_PER_MS
    assert (since_ns, cause) == (progress.paused_since_ns, progress.pause_cause)
