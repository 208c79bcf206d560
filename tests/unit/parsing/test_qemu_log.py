"""Tests of `core.parsing.formats.qemu_log`: every shape that lines of QEMU's log have had."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import ErrorReported, Pending, SignalEvent, StateSet
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed
from qemu_migration_exporter.core.parsing.formats import detect
from qemu_migration_exporter.core.parsing.formats.qemu_log import QemuLog
from qemu_migration_exporter.core.terms import Signal

from tests.support.core_helpers import EPOCH_NS

ITERATE = SignalEvent(EPOCH_NS + 1_000, 9400, Signal.ITERATE)
WHOLE = b"9400@1700000000.000001:savevm_state_iterate "


def parse(line: bytes, *, timed: bool = True) -> Parsed:
    """Parse one line of a new log."""
    return QemuLog(Decoder(), timed=timed).parse(line)


@pytest.mark.parametrize(
    ("line", "at_ns", "thread"),
    [
        (b"9400@1700000000.000001:migrate_set_state new state active", EPOCH_NS + 1_000, 9400),
        (b"1@0.000000:migrate_set_state new state active", 0, 1),
        (b"2023-11-14T22:13:20.000001Z migrate_set_state new state active", EPOCH_NS + 1_000, None),
        (b"2023-11-14T22:13:20.5Z migrate_set_state new state active", EPOCH_NS + 500_000_000, None),
        (b"2023-11-14T22:13:20Z migrate_set_state new state active", EPOCH_NS, None),
        (b"2023-02-30T22:13:20Z migrate_set_state new state active", None, None),
        (b"migrate_set_state new state active", None, None),
    ],
)
def test_every_prefix_is_read(line: bytes, at_ns: int | None, thread: int | None) -> None:
    """Seconds and microseconds behind a thread, ISO 8601 with and without fraction, or none. An impossible date is no time."""
    assert StateSet(at_ns, thread, "active") == parse(line)


def test_lines_of_one_second_share_date() -> None:
    log = QemuLog(Decoder(), timed=True)
    times = [
        log.parse(b"2023-11-14T22:13:%sZ savevm_state_iterate " % second)
        for second in (b"20.1", b"20.2", b"21", b"20.3")
    ]
    assert [SignalEvent(EPOCH_NS + ms * 1_000_000, None, Signal.ITERATE) for ms in (100, 200, 1_000, 300)] == times


def test_bare_format_ignores_times() -> None:
    assert SignalEvent(None, 9400, Signal.ITERATE) == parse(WHOLE, timed=False)
    iso = b"2023-11-14T22:13:20Z savevm_state_iterate "
    assert SignalEvent(None, None, Signal.ITERATE) == parse(iso, timed=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"2026-11-22T22:39:13.610586Z qemu-system-x86_64: Unable to write to socket: Broken pipe",
            ErrorReported(1_795_387_153_610_586_000, None, "Unable to write to socket: Broken pipe"),
        ),
        (
            b"2026-11-22T22:39:13.610586Z guest-src qemu-system-x86_64: Unable to write",
            ErrorReported(1_795_387_153_610_586_000, None, "Unable to write"),
        ),
        (b"2026-11-22T22:39:13Z kvm: -device x: bad", ErrorReported(1_795_387_153_000_000_000, None, "-device x: bad")),
        (b"qemu-system-x86_64: Unable to write", ErrorReported(None, None, "Unable to write")),
        (b"qemu-kvm: Unable to write", ErrorReported(None, None, "Unable to write")),
        (b"kvm: Unable to write", ErrorReported(None, None, "Unable to write")),
        (b"guest-src kvm: Unable to write", ErrorReported(None, None, "Unable to write")),
        (b"qemu-system-x86_64: caf\xe9", ErrorReported(None, None, "caf\N{REPLACEMENT CHARACTER}")),
        # no line QEMU prints on purpose: the report of one thread in the middle of another's trace event
        (b"9400@1700000000.000001:kvm: Unable to write", ErrorReported(None, None, "Unable to write")),
    ],
)
def test_error_reports_are_events(line: bytes, expected: ErrorReported) -> None:
    """With and without time and guest name, for each name of the program."""
    assert expected == parse(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"\x00\xff\xfe\x80 binary",
        b"LC_ALL=C \\",
        b"char device redirected to /dev/pts/3 (label charserial0)",
        b"9400@1700000000.000001:migration_transferred_bytes qemu_file 1 multifd 2 RDMA 3",
        b"9400@1700000000.000001:migration_rate_limit_pre 94 ms",
        b"9400@1700000000.000001:postcopy_pause_fault_thread ",
        b"9400@1700000000.000001:some_event mail=root@node1",
        b"9400@1700000000.000001:",
        b"9400@1700000000.000001:42 is no name",
        b"2023-11-14T22:13:20.000001Z migration_pagecache_init Setting cache buckets to 16384",
        b"2023-11-14T22:13:20.000001Z 42",
        b"qemu-system-x86_64:",
        b"migrate set state",
    ],
)
def test_other_lines_are_noise(line: bytes) -> None:
    """Blank lines, libvirt's, firmware's, and unused trace events."""
    assert None is parse(line)


@pytest.mark.parametrize(
    "line",
    [
        b"m",
        b"migrate_set_sta",
        b"9400@1700000000.000001:m",
        b"9400@1700000000.000001:migrate_set_sta",
        b"9400@1700000000.000001:migrate_set_state",
        b"9400@1700000000.000001:migrate_set_state new st",
        b"2023-11-14T22:13:20.000001Z migrate_set_st",
        b"2023-11-14T22:13:20.000001Z migrate_pending pending size",
    ],
)
def test_torn_lines_are_malformed(line: bytes) -> None:
    """A name that is cut, or arguments that are."""
    assert MALFORMED == parse(line)


@pytest.mark.parametrize(
    "torn",
    [
        b"9400@1700000000.000000:migrate_set_state new st",
        b"9400@1700000000.000000:migrate_set_st",
        b"9400@1700000000.000000:m",
        b"9400@1700000000.0000",
        b"9400@1700000000.000000:migration_rate_limit_pre ",
        b"9400@1700000000.000000:migration_rate_li",
        b"9400@1700000000.000000:migrate_pending pending size 168",
        b"9400@1700000000.000000:migration_transferred_bytes qemu_file 4",
        b"9400@1700000000.000000:m9400@1700000000.000000:sav",
    ],
)
def test_glued_line_is_salvaged(torn: bytes) -> None:
    """The tail of a line was lost with its newline; digits of both may run together."""
    assert Malformed(ITERATE._replace(thread=None)) == parse(torn + WHOLE)


def test_event_in_free_text_is_text() -> None:
    """An error's text may hold anything."""
    parsed = parse(b"9400@1700000000.000000:migrate_error error=Unable to " + WHOLE)
    assert parsed is not None
    assert not isinstance(parsed, Malformed)


def test_torn_after_torn_line_is_lost() -> None:
    assert MALFORMED == parse(b"9400@1700000000.000000:migrate_pending 9400@1700000000.000001:migrate_set_state new")


def test_endless_log_is_one_bad_line() -> None:
    """Only its last line is known to be whole."""
    assert Malformed(ITERATE._replace(thread=None)) == parse(1_500 * b"9400@1700000000.000000:migrate_pending " + WHOLE)
    assert Malformed(ITERATE._replace(thread=None)) == parse(1_500 * WHOLE)


def test_glued_digits_hide_thread() -> None:
    assert ITERATE._replace(thread=949400) == parse(b"94" + WHOLE)


def test_noise_after_torn_line_is_noise() -> None:
    noise = b"9400@1700000000.000001:migration_rate_limit_pre 94 ms"
    assert MALFORMED == parse(b"9400@1700000000.000000:migrate_pending pen" + noise)
    assert None is parse(b"9400@1700000000.000000:migration_rate_limit_p" + noise)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (WHOLE, "qemu-log"),
        (b"2023-11-14T22:13:20Z savevm_state_iterate ", "qemu-log"),
        (b"savevm_state_iterate ", "qemu-log-bare"),
        (b"migrate_set_state new state", "qemu-log-bare"),
        (b"9400@1700000000.000001:migration_rate_limit_pre 94 ms", None),
        (b"qemu-system-x86_64: Unable to write", None),
        (b"m", None),
        (b"", None),
    ],
)
def test_known_name_reveals_format(line: bytes, name: str | None) -> None:
    """Also by one with torn arguments."""
    assert name == detect(line, Decoder())


def test_bare_line_has_all_arguments() -> None:
    line = b"migrate_pending pending size 1 max 2"
    assert Pending(None, None, 1, 2, None) == parse(line, timed=False) == parse(line)


def test_report_behind_a_thread_has_no_time() -> None:
    """The time is that of the trace event which the report interrupts."""
    log = QemuLog(Decoder(), timed=True)
    line = b"9400@1700000000.000001:kvm: -device x: Unable to write"
    assert log.parse(line) == ErrorReported(None, None, "-device x: Unable to write")
