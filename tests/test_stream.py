"""Whole streams, from bytes to changes: what each of QEMU's eras and endings means."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.core.changes import Change, PreSwitchoverEnded, Progressed, Started
from exporter.core.formats import FORMATS
from exporter.core.model import ClockKind, Migration, Result, Side, SurpriseKind
from exporter.core.stream import Counts, Stream
from tests.core_helpers import (
    EPOCH_NS,
    NS_PER_MS,
    Reading,
    log_lines,
    made,
    made_cases,
    new_stream,
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
def test_every_era_and_ending_is_understood(case: dict[str, Any]) -> None:
    """What tests/data/made/expected.toml says of each log, and no surprise in any."""
    reading = read(made(case["name"]))
    assert case.get("migrations", []) == [summary(migration) for migration in reading.migrations]
    assert [] == reading.surprises
    assert 0 == reading.counts.malformed


def test_two_attempts_are_two_traces() -> None:
    """The second attempt of one VM in one stream has another trace id."""
    first, second = read(made("7.2-two-attempts")).migrations
    assert (Result.FAILED, Result.COMPLETED) == (first.result, second.result)
    assert first.identity.trace_id != second.identity.trace_id


def test_pause_before_switchover_is_one_wait() -> None:
    """The wait for migrate-continue is told when it ends."""
    (wait,) = read(made("7.2-pre-switchover")).of(PreSwitchoverEnded)
    assert (104_100_000, 1_604_200_000) == (wait.start_ns - EPOCH_NS, wait.end_ns - EPOCH_NS)


def test_a_pre_switchover_wait_ends_with_the_migration() -> None:
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
def test_a_piece_of_a_migration_is_partial(name: str) -> None:
    """A stream joined or cut in the middle gives a migration that says so."""
    assert read(made(name)).migration.partial


def test_a_stream_without_end_is_unknown() -> None:
    """What was open when the stream ended has no outcome, and so no duration."""
    migration = read(made("7.2-cut")).migration
    assert (Result.UNKNOWN, False, None, None) == (
        migration.result,
        migration.result_inferred,
        migration.outcome_ns,
        migration.duration_ns,
    )


def test_a_destinations_migration_begins_when_it_comes_in() -> None:
    """Listening, for hours perhaps, is no part of it."""
    (started,) = read(made("8.2-destination")).started
    assert (Side.DESTINATION, EPOCH_NS + 3_600 * 1_000_000_000) == (started.identity.side, started.identity.start_ns)


def test_nothing_is_said_before_it_is_certain() -> None:
    """A snapshot begins like a migration, so nothing is told of one until a line shows that it is none."""
    stream = new_stream()
    header = log_lines("M migrate_set_state new state setup\nsavevm_state_header\nsavevm_state_setup")
    assert [] == stream.feed(header.encode())
    changes = stream.feed(log_lines("+3 migration_thread_setup_complete").encode())
    assert isinstance(changes[0], Started)


# Lines and counts


def test_lines_are_events_noise_or_malformed() -> None:
    """The three add up; blank lines and events that nobody asks for are noise."""
    text = log_lines("""
        M migrate_set_state new state setup
        migration_rate_limit_pre 94 ms
        migrate_pending pending
    """)
    assert Counts(lines=5, events=1, noise=2, malformed=2) == read(text + "\n" + "m").counts


def test_a_stream_of_noise_has_no_format() -> None:
    """Nothing is guessed from lines that say nothing; the clock is the one for lines without time."""
    reading = read("hello\n\x00\xff\nsavevm_section_sta\n")
    assert Counts(lines=3, noise=2, malformed=1) == reading.counts
    assert (None, ClockKind.RECONSTRUCTED, []) == (
        reading.stream.format_name,
        reading.stream.clock_kind,
        reading.changes,
    )


def test_an_error_report_alone_is_an_event_of_nothing() -> None:
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
    ],
)
def test_the_format_is_recognised(line: str, name: str, clock: ClockKind) -> None:
    """The first line that can be of one format only names it; noise before it does not matter."""
    stream = read("begin probe migrate\n\n" + line + "\n").stream
    assert (name, clock) == (stream.format_name, stream.clock_kind)


def test_the_format_can_be_given() -> None:
    """What is configured is not guessed."""
    for name in FORMATS:
        assert name == Stream("guest.log", vm="guest", format_name=name).format_name


def test_a_stream_without_time_has_its_arrivals_live() -> None:
    """Live, a line without time happened when it came."""
    stream = new_stream(ClockKind.ARRIVAL)
    assert ClockKind.ARRIVAL == stream.clock_kind
    changes: list[Change] = []
    for moment, line in enumerate(made("7.2-libvirt-bare").splitlines(keepends=True)):
        changes += stream.feed(line, now_ns=EPOCH_NS + moment * NS_PER_MS)
    migration = Reading(stream, changes + stream.close()).migration
    assert ClockKind.ARRIVAL == stream.clock_kind == migration.identity.clock
    assert 5 * NS_PER_MS == migration.setup_ns


def test_the_last_event_is_dated() -> None:
    """A stream knows when it last said something that means anything."""
    stream = read(log_lines("migrate_fd_cancel\n+41 migration_thread_after_loop\nmigration_rate_limit_pre 1 ms")).stream
    assert EPOCH_NS + 42 * NS_PER_MS == stream.last_event_ns
    assert None is new_stream().last_event_ns


def test_progress_comes_once_a_batch() -> None:
    """However many lines a chunk holds, the numbers are told once, and only if a line touched them."""
    stream = new_stream()
    changes = stream.feed(made("7.2-cut"))
    assert 1 == len([change for change in changes if isinstance(change, Progressed)])
    assert [] == stream.feed(b"noise\n")


# Damage


def test_a_doubled_line_is_taken_once() -> None:
    """The same line twice, to the microsecond, is the stream's mistake and counted."""
    once = made("7.2-two-attempts")
    twice = b"".join(line + line for line in once.splitlines(keepends=True))
    reading = read(twice)
    assert [summary(each) for each in read(once).migrations] == [summary(each) for each in reading.migrations]
    assert {SurpriseKind.DUPLICATE: once.count(b"\n")} == reading.counts.surprises


def test_equal_lines_without_time_are_two_events() -> None:
    """Where nothing tells two slices apart, each counts."""
    assert (
        2
        == read(
            "migration_thread_setup_complete \nsavevm_state_iterate \nsavevm_state_iterate \n"
        ).migration.progress.iterations
    )


def test_a_line_that_is_older_is_told() -> None:
    """Threads may overtake each other by a millisecond; what is more is a surprise, and time never goes back."""
    lines = log_lines("migration_thread_setup_complete\n+1000 savevm_state_iterate\nsavevm_state_iterate").splitlines(
        keepends=True
    )
    reading = read(lines[0] + lines[2] + lines[1])
    assert [] == reading.surprises
    reading = read(lines[1] + lines[0])
    assert [SurpriseKind.CLOCK_BACKWARD] == reading.surprises


def test_a_glued_line_still_counts() -> None:
    """The tail of a line and its newline are lost; what was glued on is found, and the torn one is malformed."""
    whole = made("8.0-completed")
    lines = whole.splitlines(keepends=True)
    torn = next(index for index, line in enumerate(lines) if b"migrate_pending_estimate" in line)
    lines[torn] = lines[torn][:60]
    reading = read(b"".join(lines))
    assert 1 == reading.counts.malformed
    assert 4 == reading.migration.progress.bitmap_syncs
    assert Result.COMPLETED == reading.migration.result


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_line_ends_of_other_systems_do(newline: bytes) -> None:
    """A log that went through Windows says the same."""
    data = made("9.2-auto-converge")
    expected = [summary(each) for each in read(data).migrations]
    assert expected == [summary(each) for each in read(data.replace(b"\n", newline)).migrations]


def test_a_surprise_from_outside_is_counted_too() -> None:
    """What the source of the bytes notices is counted with the rest."""
    stream = new_stream()
    stream.surprise(SurpriseKind.DAMAGED, "the file ends in the middle of its compression")
    assert {SurpriseKind.DAMAGED: 1} == stream.counts.surprises


def test_bytes_that_are_no_lines_at_all() -> None:
    """A compressed file that nobody unpacked is noise."""
    reading = read(bytes(range(256)) * 100)
    assert [] == reading.changes
    assert reading.counts.lines == reading.counts.noise


def test_the_flood_of_one_event_changes_nothing() -> None:
    """A log of which 99 % is migration_transferred_bytes says the same as without those lines."""
    data = recording("qemu-10.0-log-nonconverging")
    thin = b"".join(line for line in data.splitlines(keepends=True) if b"migration_transferred_bytes" not in line)
    assert [summary(each) for each in read(thin).migrations] == [summary(each) for each in read(data).migrations]
