"""Whole streams, from bytes to changes, of all QEMU eras and outcomes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from qemu_migration_exporter.core.changes import (
    Change,
    MigrationEnded,
    PreSwitchoverEnded,
    RoundEnded,
    Started,
)
from qemu_migration_exporter.core.model import ClockKind, Migration, Result, Side, SurpriseKind
from qemu_migration_exporter.core.parsing.formats import FORMATS
from qemu_migration_exporter.core.tracking.stream import Counts, Stream

from tests.support.core_helpers import (
    ANCHOR,
    EPOCH_NS,
    NS_PER_MS,
    UPTIME_NS,
    Reading,
    log_lines,
    made,
    made_cases,
    new_stream,
    probe_lines,
    read,
    recording,
)

CASES = made_cases()


def summary(migration: Migration) -> dict[str, Any]:
    """Write a migration as tests/data/made/expected.toml does, what is null left out."""

    def ms(duration_ns: int | None) -> float | None:
        return None if duration_ns is None else duration_ns / NS_PER_MS

    progress = migration.progress
    values = {
        "result": migration.result,
        "inferred": migration.result_inferred,
        "partial": migration.partial,
        "side": migration.identity.side,
        "mode": progress.mode,
        "error": migration.error,
        "setup_ms": ms(migration.setup_ns),
        "downtime_ms": ms(migration.downtime_ns),
        "total_ms": ms(migration.duration_ns),
        "bitmap_syncs": progress.bitmap_syncs,
        "iterations": progress.iterations,
        "transferred": progress.transferred_bytes,
        "ram": progress.ram_bytes,
        "limit": progress.downtime_limit_seconds,
        "postcopy_requests": progress.postcopy_requests,
        "throttles": progress.throttles,
        "throttle_ratio": progress.throttle_ratio,
        "rounds": len(migration.rounds),
        "phases": [phase.name for phase in migration.phases],
        "devices": [device.name for device in migration.devices],
    }
    return {key: value for key, value in values.items() if value is not None}


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_every_era_and_end_is_read(case: dict[str, Any]) -> None:
    """Each log matches tests/data/made/expected.toml, without any surprise."""
    reading = read(made(case["name"]))
    assert case.get("migrations", []) == [summary(migration) for migration in reading.migrations]
    assert [] == reading.surprises
    assert 0 == reading.counts.malformed


def test_two_attempts_are_two_traces() -> None:
    """The second attempt of one VM in one stream has another trace id."""
    first, second = read(made("7.2-two-attempts")).migrations
    assert (Result.FAILED, Result.COMPLETED) == (first.result, second.result)
    assert first.identity.trace_id != second.identity.trace_id


def test_pre_switchover_pause_is_one_wait() -> None:
    """The wait for migrate-continue is reported when it ends."""
    (wait,) = read(made("7.2-pre-switchover")).of(PreSwitchoverEnded)
    assert (104_100_000, 1_604_200_000) == (wait.start_ns - EPOCH_NS, wait.end_ns - EPOCH_NS)


def test_pre_switchover_wait_ends_with_it() -> None:
    """A cancel while it waits ends the wait too."""
    wait = read(
        log_lines("""
            M migrate_set_state new state setup
            migrate_set_state new state active
            migration_thread_setup_complete
            migration_thread_low_pending 0
            migrate_set_state new state pre-switchover
            M migrate_set_state new state cancelling
            M migrate_set_state new state cancelled
        """)
    ).of(PreSwitchoverEnded)
    assert [(4 * NS_PER_MS, 5 * NS_PER_MS)] == [(each.start_ns - EPOCH_NS, each.end_ns - EPOCH_NS) for each in wait]


def test_cancel_at_exit_is_no_cancel() -> None:
    """QEMU prints migrate_fd_cancel whenever it exits, hours after the migration completed or within the second."""
    for pause_ms in (1, 10_000_000):
        log = log_lines(f"""
            M migrate_set_state new state setup
            migrate_set_state new state active
            migration_thread_setup_complete
            migrate_set_state new state completed
            +{pause_ms} M migrate_fd_cancel
        """)
        assert Result.COMPLETED == read(log).migration.result


@pytest.mark.parametrize("name", ["7.2-cut", "7.2-joined"])
def test_piece_of_migration_is_partial(name: str) -> None:
    """A stream joined or cut in the middle gives a migration marked as partial."""
    assert read(made(name)).migration.partial


def test_stream_without_end_is_unknown() -> None:
    """A migration open at the end of its stream has no outcome, and so no duration."""
    migration = read(made("7.2-cut")).migration
    assert (Result.UNKNOWN, False, None, None) == (
        migration.result,
        migration.result_inferred,
        migration.outcome_ns,
        migration.duration_ns,
    )


def test_incoming_begins_at_arrival() -> None:
    """Listening, for hours perhaps, is no part of it."""
    (started,) = read(made("8.2-destination")).started
    assert (Side.DESTINATION, EPOCH_NS + 3_600 * 1_000_000_000) == (started.identity.side, started.identity.start_ns)


def test_uncertain_changes_are_withheld() -> None:
    """A snapshot begins like a migration, so no change is reported until a line shows that it is none."""
    stream = new_stream()
    header = log_lines("M migrate_set_state new state setup\nsavevm_state_header\nsavevm_state_setup")
    assert [] == stream.feed(header.encode())
    changes = stream.feed(log_lines("+3 migration_thread_setup_complete").encode())
    assert isinstance(changes[0], Started)


# Lines and counts


def test_line_is_event_noise_or_malformed() -> None:
    """The three add up; blank lines and unused events are noise."""
    text = log_lines("""
        M migrate_set_state new state setup
        migration_rate_limit_pre 94 ms
        migrate_pending pending
    """)
    assert Counts(lines=5, events=1, noise=2, malformed=2) == read(text + "\n" + "m").counts


def test_noise_has_no_format() -> None:
    """No format is guessed from noise; the clock is the one for lines without time."""
    reading = read("hello\n\x00\xff\nsavevm_section_sta\n")
    assert Counts(lines=3, noise=2, malformed=1) == reading.counts
    assert (None, ClockKind.RECONSTRUCTED, []) == (
        reading.stream.format_name,
        reading.stream.clock_kind,
        reading.changes,
    )


def test_lone_error_report_changes_nothing() -> None:
    """Error reports are read before the format is known, and begin nothing."""
    reading = read("qemu-system-x86_64: terminating on signal 15\n")
    assert (Counts(lines=1, events=1), []) == (reading.counts, reading.changes)


@pytest.mark.parametrize(
    ("line", "name", "clock"),
    [
        ("1@1700000000.000000:migrate_fd_cancel ", "qemu-log", ClockKind.PROBE),
        ("2023-11-14T22:13:20Z migrate_fd_cancel ", "qemu-log", ClockKind.PROBE),
        ("migrate_fd_cancel ", "qemu-log-bare", ClockKind.RECONSTRUCTED),
        ('process("/usr/libexec/qemu-kvm").mark("migrate_fd_cancel")', "systemtap", ClockKind.RECONSTRUCTED),
        ("1@1700000000000000000 migrate_fd_cancel ", "systemtap-log", ClockKind.PROBE),
        ("1/1@81245000123456 migrate_fd_cancel", "probe", ClockKind.PROBE),
        ("anchor 81245000123456 1700000000.145438", "probe", ClockKind.PROBE),
    ],
)
def test_format_is_recognised(line: str, name: str, clock: ClockKind) -> None:
    """The first line that can be of one format only names it; noise before it does not matter."""
    stream = read("begin probe migrate\n\n" + line + "\n").stream
    assert (name, clock) == (stream.format_name, stream.clock_kind)


def test_undated_first_report_moves_no_clock() -> None:
    """The file's time is that of its last line, so it does not date an earlier untimed report."""
    for name, data in (("qemu-log", made("8.0-completed")), ("probe", probe_lines({1: made("8.0-completed")}))):
        stream = Stream("guest.log", vm="guest", format_name=name, start_ns=EPOCH_NS + 10**15)
        changes = stream.feed(b"kvm: warning: host doesn't support requested feature\n" + ANCHOR + data)
        reading = Reading(stream, changes + stream.close())
        assert [] == reading.surprises
        assert (EPOCH_NS, Result.COMPLETED) == (reading.migration.identity.start_ns, reading.migration.result)


def test_format_can_be_given() -> None:
    """A configured format is not guessed."""
    for name in FORMATS:
        assert name == Stream("guest.log", vm="guest", format_name=name).format_name


def test_untimed_live_stream_uses_arrivals() -> None:
    """Live, a line without time happened when it came."""
    stream = new_stream(ClockKind.ARRIVAL)
    assert ClockKind.ARRIVAL == stream.clock_kind
    changes: list[Change] = []
    for moment, line in enumerate(made("7.2-libvirt-bare").splitlines(keepends=True)):
        changes += stream.feed(line, now_ns=EPOCH_NS + moment * NS_PER_MS)
    migration = Reading(stream, changes + stream.close()).migration
    assert ClockKind.ARRIVAL == stream.clock_kind == migration.identity.clock
    assert 5 * NS_PER_MS == migration.setup_ns


def test_last_event_is_dated() -> None:
    """A stream keeps the time of its last meaningful event."""
    stream = read(log_lines("migrate_fd_cancel\n+41 migration_thread_after_loop\nmigration_rate_limit_pre 1 ms")).stream
    assert EPOCH_NS + 42 * NS_PER_MS == stream.last_event_ns
    assert None is new_stream().last_event_ns


def test_noise_changes_nothing() -> None:
    stream = new_stream()
    stream.feed(made("7.2-cut"))
    assert [] == stream.feed(b"noise\n")


# Damage


def test_doubled_line_is_taken_once() -> None:
    """The same line twice, to the microsecond, is the stream's mistake and counted."""
    once = made("7.2-two-attempts")
    twice = b"".join(line + line for line in once.splitlines(keepends=True))
    reading = read(twice)
    assert [summary(each) for each in read(once).migrations] == [summary(each) for each in reading.migrations]
    assert {SurpriseKind.DUPLICATE: once.count(b"\n")} == reading.counts.surprises


def test_untimed_equal_lines_are_two() -> None:
    """Without a time, two equal lines cannot be distinguished from repeated events, so each counts."""
    assert (
        2
        == read(
            "migration_thread_setup_complete \nsavevm_state_iterate \nsavevm_state_iterate \n"
        ).migration.progress.iterations
    )


def test_older_line_is_surprise() -> None:
    """Threads may overtake each other by a millisecond; a larger step back is a surprise, and time never goes back."""
    lines = log_lines("migration_thread_setup_complete\n+1000 savevm_state_iterate\nsavevm_state_iterate").splitlines(
        keepends=True
    )
    reading = read(lines[0] + lines[2] + lines[1])
    assert [] == reading.surprises
    reading = read(lines[1] + lines[0])
    assert [SurpriseKind.CLOCK_BACKWARD] == reading.surprises


def test_glued_line_still_counts() -> None:
    """The tail of a line and its newline are lost; the line glued to it is found, and the torn one is malformed."""
    whole = made("8.0-completed")
    lines = whole.splitlines(keepends=True)
    torn = next(index for index, line in enumerate(lines) if b"migrate_pending_estimate" in line)
    lines[torn] = lines[torn][:60]
    reading = read(b"".join(lines))
    assert 1 == reading.counts.malformed
    assert 4 == reading.migration.progress.bitmap_syncs
    assert Result.COMPLETED == reading.migration.result


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_foreign_line_ends_are_accepted(newline: bytes) -> None:
    """A log with CRLF line ends gives the same result."""
    data = made("9.2-auto-converge")
    expected = [summary(each) for each in read(data).migrations]
    assert expected == [summary(each) for each in read(data.replace(b"\n", newline)).migrations]


def test_outside_surprise_is_counted() -> None:
    """Surprises noticed by the source are counted with the rest."""
    stream = new_stream()
    stream.surprise(SurpriseKind.DAMAGED, "the file ends in the middle of its compression")
    assert {SurpriseKind.DAMAGED: 1} == stream.counts.surprises


def test_last_line_is_counted_once() -> None:
    """The last line may come without its newline, and then only the end of the stream makes a line of it."""
    events = "migrate_set_state new state setup\nmigration_thread_setup_complete\nmigrate_set_state new state napping"
    reading = read(log_lines(events).rstrip("\n"))
    assert [SurpriseKind.UNKNOWN_STATE] == reading.surprises
    assert {SurpriseKind.UNKNOWN_STATE: 1} == reading.counts.surprises


def test_every_older_line_is_counted() -> None:
    """However many of them one newer line lets out: here the wall's clock went back 3 s between two runs of a probe."""
    run = probe_lines({7: made("8.0-completed")})
    reading = read(ANCHOR + run + b"anchor %d %d\n" % (UPTIME_NS, EPOCH_NS - 3 * 1_000_000_000) + run)
    assert run.count(b"\n") == reading.counts.surprises[SurpriseKind.CLOCK_BACKWARD]


def test_arbitrary_bytes_are_noise() -> None:
    """A compressed file is noise."""
    reading = read(bytes(range(256)) * 100)
    assert [] == reading.changes
    assert reading.counts.lines == reading.counts.noise


def test_flood_of_one_event_is_harmless() -> None:
    """A log of which 99 % is migration_transferred_bytes gives the same result as without those lines."""
    data = recording("qemu-10.0-log-nonconverging")
    thin = b"".join(line for line in data.splitlines(keepends=True) if b"migration_transferred_bytes" not in line)
    assert [summary(each) for each in read(thin).migrations] == [summary(each) for each in read(data).migrations]


# Several processes

SOURCE = """
    M migrate_set_state new state setup
    savevm_state_header
    migrate_set_state new state active
    migration_thread_setup_complete
    migrate_pending pending size 9 max 0 (pre = 9 compat=0 post=0)
    {}savevm_state_iterate
    migration_thread_low_pending 0
    migrate_set_state new state completed
"""
DESTINATION = """
    M migration_socket_incoming_accepted
    M migrate_set_state new state active
    {}M loadvm_state_setup
    M migrate_set_state new state completed
"""
RUNNING = SOURCE.partition("    migration_thread_low")[0]


def log(events: str, pause: str = "") -> str:
    """Write events a millisecond apart, with a pause in their middle."""
    return log_lines(events.format(pause))


def by_vm(reading: Reading) -> dict[str, Migration]:
    """Return the migrations of a stream, one a virtual machine."""
    migrations = {each.identity.vm: each for each in reading.migrations}
    assert len(migrations) == len(reading.migrations)
    return migrations


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7.2-libvirt-bare", "8.0-completed"),
        ("8.0-completed", "7.2-destination"),
        ("7.2-pre-switchover", "7.2-cancelled-in-setup"),
        ("7.2-postcopy-recovered", "7.2-cut"),
        ("9.2-auto-converge", "10.0-postcopy"),
        ("stateless-failed", "stateless-completed"),
    ],
)
def test_parallel_migrations_are_independent(one: str, other: str) -> None:
    """Whose lines stand between its own changes nothing of a migration, its ids included."""
    logs = {26734: made(one), 7: made(other)}
    together = read(ANCHOR + probe_lines(logs))
    alone = [read(ANCHOR + probe_lines({process: log})) for process, log in logs.items()]
    assert {vm: each for reading in alone for vm, each in by_vm(reading).items()} == by_vm(together)
    assert [] == together.surprises


def test_two_ends_on_one_host_are_two() -> None:
    """Each under its process."""
    migrations = by_vm(read(ANCHOR + probe_lines({1: log(SOURCE), 2: log(DESTINATION)})))
    assert {"guest/1": Side.SOURCE, "guest/2": Side.DESTINATION} == {
        vm: each.identity.side for vm, each in migrations.items()
    }


def test_arrival_and_departure_are_two() -> None:
    """One process may be first a destination and later a source."""
    reading = read(ANCHOR + probe_lines({1: log(DESTINATION) + log("+3600000 " + SOURCE.strip())}))
    assert [(Side.DESTINATION, Result.COMPLETED), (Side.SOURCE, Result.COMPLETED)] == [
        (each.identity.side, each.result) for each in reading.migrations
    ]
    assert ["guest/1", "guest/1"] == [each.identity.vm for each in reading.migrations]
    assert [] == reading.surprises


def test_process_name_is_read_once() -> None:
    """Named by its virtual machine where that is known, else by its number."""
    known = {1: ("web-42", "c7a5fdbd"), 2: ("db-7", None), 3: (None, None)}
    asked: list[int] = []

    def name(process: int) -> tuple[str | None, str | None]:
        asked.append(process)
        return known[process]

    stream = Stream("probe", vm="host", name_process=name)
    data = ANCHOR + probe_lines({process: log(SOURCE) for process in known})
    changes = [change for line in data.splitlines(keepends=True) for change in stream.feed(line)]
    started = Reading(stream, changes + stream.close()).started
    assert [("web-42", "c7a5fdbd"), ("db-7", None), ("host/3", None)] == [
        (each.identity.vm, each.identity.uuid) for each in started
    ]
    assert [1, 2, 3] == asked


def test_missing_process_needs_no_name() -> None:
    """A log is its virtual machine's own."""
    stream = Stream("guest.log", vm="guest", name_process=lambda _: ("nobody", None))
    changes = stream.feed(log(SOURCE).encode())
    assert "guest" == Reading(stream, changes + stream.close()).migration.identity.vm


def test_excess_processes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line of theirs; the ones that are followed already stay, whatever comes."""
    monkeypatch.setattr("qemu_migration_exporter.core.tracking.processes.MAX_PROCESSES", 2)
    reading = read(ANCHOR + probe_lines({process: log(SOURCE) for process in (1, 2, 3)}))
    assert ["guest/1", "guest/2"] == sorted(by_vm(reading))
    assert {SurpriseKind.TOO_MANY_PROCESSES: 8} == reading.counts.surprises


def test_first_1024_processes_are_followed() -> None:
    """A hostile stream may have any number of them."""
    reading = read(
        ANCHOR + probe_lines({process: log("migrate_pending pending size 9 max 0") for process in range(1, 1_027)})
    )
    assert 1_024 == len(reading.migrations)
    assert {SurpriseKind.TOO_MANY_PROCESSES: 2} == reading.counts.surprises


def test_idle_processes_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those without a migration that is open are forgotten, and found again when they speak."""
    monkeypatch.setattr("qemu_migration_exporter.core.tracking.processes.MAX_PROCESSES", 2)
    logs = {
        1: log(SOURCE) + log("+7000 " + SOURCE.strip()),
        2: log(SOURCE, "+9000 "),
        3: log("+5000 " + SOURCE.strip()),
    }
    reading = read(ANCHOR + probe_lines(logs))
    assert ["guest/1", "guest/3", "guest/1", "guest/2"] == [each.identity.vm for each in reading.migrations]
    assert [] == reading.surprises
    assert 4 == len({each.identity.trace_id for each in reading.migrations})


@pytest.mark.parametrize("chunks", [1, 1_000])
def test_silent_process_uses_others_time(chunks: int) -> None:
    """It ends one second after its outcome without another line of its process, in any order of lines."""
    busy = (
        RUNNING
        + 5
        * "    +600 migration_bitmap_sync_start\n    migration_bitmap_sync_end dirty_pages 1\n    savevm_state_iterate\n"
    )
    data = ANCHOR + probe_lines({1: log(SOURCE), 2: log(busy)})
    changes = [each for each in read(data, chunks=chunks).changes if isinstance(each, MigrationEnded | RoundEnded)]
    (first, *_) = read(ANCHOR + probe_lines({1: log(SOURCE)})).of(MigrationEnded)
    assert [RoundEnded, MigrationEnded, RoundEnded] == [type(each) for each in changes[:3]]
    assert first == changes[1]


def test_lines_of_two_cpus_are_one_migration() -> None:
    """The order in which CPU buffers are emptied does not matter within half a second."""
    lines = probe_lines({1: log(SOURCE)}).splitlines(keepends=True)
    shuffled = read(ANCHOR + b"".join(lines[1::2] + lines[::2]))
    assert by_vm(read(ANCHOR + b"".join(lines))) == by_vm(shuffled)
    assert [] == shuffled.surprises


def test_very_late_line_is_reported() -> None:
    """It is taken with the time of the line before it."""
    lines = probe_lines({1: log(SOURCE, "+700 ")}).splitlines(keepends=True)
    late = lines.pop(1)
    reading = read(ANCHOR + b"".join([*lines, late]))
    assert [SurpriseKind.CLOCK_BACKWARD] == reading.surprises
    assert Result.COMPLETED == reading.migration.result


def test_unanchored_stream_begins_at_arrival() -> None:
    """A file that was rotated: distances are right, and live the date is too."""
    stream = new_stream()
    data = probe_lines({1: log(SOURCE)})
    changes = stream.feed(data, now_ns=EPOCH_NS + 10**9)
    migration = Reading(stream, changes + stream.close()).migration
    assert (EPOCH_NS + 10**9, 7 * NS_PER_MS) == (migration.identity.start_ns, migration.duration_ns)


def test_second_run_of_probe_goes_on() -> None:
    """Each run prints its anchor; the host may have rebooted in between."""
    again = probe_lines({1: log(SOURCE)}).replace(b"@%d" % (UPTIME_NS // 10**9), b"@7")
    anchor = b"anchor 7000000000 %d.5\n" % (EPOCH_NS // 10**9 + 3_600)
    first, second = read(ANCHOR + probe_lines({1: log(SOURCE)}) + anchor + again).migrations
    assert EPOCH_NS == first.identity.start_ns
    assert EPOCH_NS + 3_600_500 * NS_PER_MS == second.identity.start_ns
    assert (first.duration_ns, first.downtime_ns) == (second.duration_ns, second.downtime_ns)


# Lines that the probe lost

LOST = [
    "Lost 4 events",
    "WARNING: Total lost event count: 4",
    "WARNING: Number of errors: 0, skipped probes: 4",
    "WARNING: Skipped due to low stack: 4",
    "WARNING: There were 4 transport failures. Try stap -s to increase the buffer size from 16.",
]


@pytest.mark.parametrize("line", LOST)
def test_lost_lines_make_open_ones_partial(line: str) -> None:
    """All open migrations, as the owner of the lines is unknown; no ended and no later one."""
    over = {1: log(SOURCE)}
    opened = {2: log("+5000 " + RUNNING.strip()), 3: log("+5000 " + RUNNING.strip())}
    done = "\nmigration_thread_low_pending 0\nmigrate_set_state new state completed"
    ended = {process: log("+6000 " + done.strip()) for process in opened}
    after = {4: log("+9000 " + SOURCE.strip())}
    reading = read(
        ANCHOR
        + b"".join(
            [probe_lines(over), probe_lines(opened), line.encode() + b"\n", probe_lines(ended), probe_lines(after)]
        )
    )
    assert {"guest/1": False, "guest/2": True, "guest/3": True, "guest/4": False} == {
        vm: each.partial for vm, each in by_vm(reading).items()
    }
    assert {Result.COMPLETED} == {each.result for each in reading.migrations}
    assert {SurpriseKind.LINES_LOST: 1} == reading.counts.surprises
    assert 0 == reading.counts.noise == reading.counts.malformed


def test_script_losses_hit_its_only_vm() -> None:
    """In a stream of one machine an open migration becomes partial; later ones may be whole."""
    data = recording("qemu-kvm-2.6-systemtap")
    half = data.index(b"\n", len(data) // 2) + 1
    reading = read(data[:half] + b"WARNING: Number of errors: 0, skipped probes: 7\n" + data[half:] + data)
    assert [SurpriseKind.LINES_LOST] == reading.surprises
    assert [True, False] == [each.partial for each in reading.migrations]


@pytest.mark.parametrize("line", LOST)
def test_early_lost_lines_are_counted(line: str) -> None:
    """No migration is open, and no clock runs."""
    for data in (f"{line}\n", f"{line}\n" + log(SOURCE), ANCHOR.decode() + f"{line}\n"):
        reading = read(data)
        assert [SurpriseKind.LINES_LOST] == reading.surprises
        assert reading.counts.events == reading.counts.lines
        assert [] == [each for each in reading.migrations if each.partial]


def test_repeated_losses_are_counted() -> None:
    """The same line twice is no duplicate: it has no time."""
    reading = read(ANCHOR + probe_lines({1: log(RUNNING)}) + b"Lost 4 events\nLost 4 events\n")
    assert {SurpriseKind.LINES_LOST: 2} == reading.counts.surprises


# The tapset of QEMU


def test_tapset_lines_are_a_migration() -> None:
    """A process and the wall's nanoseconds in front of what QEMU's log prints."""
    text = log(SOURCE)
    for thread in ("4000", "4100"):
        text = text.replace(f"{thread}@", "26734@")
    reading = read("Running script, <Ctrl>-c to quit\n" + re.sub(r"\.(\d{6}):", r"\g<1>000 ", text))
    assert ("systemtap-log", 1) == (reading.stream.format_name, reading.counts.noise)
    expected = read(log(SOURCE)).migration
    actual = reading.migration
    assert "guest/26734" == actual.identity.vm
    assert summary(expected) == summary(actual)
    assert expected.identity.start_ns == actual.identity.start_ns


@pytest.mark.parametrize(("noise", "count"), [(10, 1), (10_000, 0)])
def test_reasons_are_looked_for_in_the_first_lines(noise: int, count: int) -> None:
    """A stream of anything must not cost a search in each of its lines."""
    stream = Stream("x", vm="x")
    stream.feed(b"noise\n" * noise + b"qemu 1 [0] 5.0: sdt_qemu:savevm_state_header: (1)\n")
    assert len(stream.hints) == count


def test_silent_processes_end_with_the_lines_of_another() -> None:
    """They are looked at after a few lines: with each line it would cost too much."""
    log = log_lines(
        "M migrate_set_state new state setup\nmigrate_set_state new state active\nmigrate_set_state new state failed"
    )
    stream = new_stream()
    stream.feed(ANCHOR + probe_lines(dict.fromkeys(range(100, 140), log)))
    ended = []
    for number in range(1, 6):
        line = b"99/99@%d savevm_state_iterate \n" % (UPTIME_NS + (10 + number) * 1_000_000_000)
        changes = stream.feed(line)
        ended.append(sum(isinstance(change, MigrationEnded) for change in changes))
    assert sum(ended) == 40
    assert ended[:2] == [0, 0]
