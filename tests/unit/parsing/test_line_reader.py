"""Tests of `core.parsing.line_reader`: lines together give the same as lines one by one."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.lines import Lines
from qemu_migration_exporter.core.parsing.line_parser import LineParser
from qemu_migration_exporter.core.parsing.line_reader import LineReader, Reading

LOG = [
    b"7@1795387133.000001:migrate_set_state new state setup",
    b"7@1795387133.000002:savevm_state_header ",
    b"9@1795387133.000003:savevm_state_iterate ",
    b"9@1795387133.000004:savevm_state_iterate ",
    b"9@1795387133.000004:savevm_state_iterate ",
    b"9@1795387133.000004:savevm_state_iterate ",
    b"9@1795387133.000005:migration_rate_limit_pre 85 ms",
    b"9@1795387133.000006:migration_rate",
    b"9@1795387133.000007:migrate_pending pending size 8 max 4 (pre = 8 compat=0 post=0)",
    b"9@1795387133.000008:migrate_pending pending size x",
    b"9@1795387133.000009:migrate_pend9@1795387133.000010:savevm_state_iterate ",
    b"guest kvm: Broken pipe",
    b"savevm_state_iterate ",
    b"savevm_state_iterate ",
    b"2026-11-22T22:39:13.610586Z savevm_state_iterate ",
    b"9@1795387133.000011:",
    b"9@1795387133.000012:savevm_state_cleanup: noise",
    b"",
    b"9@1795387133.000013:savevm_state_iterate ",
]
PROBE = [
    b"anchor 81245000123456 1795387501.145438",
    b"7/8@81245000200000 migrate_set_state new state setup",
    b"7/8@81245000200001 savevm_state_iterate",
    b"7/8@81245000200001 savevm_state_iterate",
    b"17/8@81245000200002 savevm_state_iterate",
    b"17@81245000200003 savevm_state_iterate",
    b"kvm: Broken pipe",
    b"Lost 4 events",
    b"7/8@81245000200004 savevm_state_iter",
    b"7/8@81245000200005 other_event 1",
    b"7/8@81245000200006 savevm_state_it17/8@81245000200007 savevm_state_iterate",
    b"savevm_state_iterate",
    b"7/8@81245000200008 savevm_state_iterate",
]
STAP = [
    b"begin probe",
    b'process("/usr/libexec/qemu-kvm").mark("savevm_state_iterate")',
    b'process("/usr/libexec/qemu-kvm").mark("savevm_state_iterate")',
    b'process("/usr/libexec/qemu-kvm").mark("migration_bitmap_sync_end")',
    b'process("/usr/libexec/qemu-kvm").mark("migration_bitmap_sync_end")',
    b"migration_bitmap_sync_end dirty_pages:3",
    b'process("/usr/libexec/qemu-kvm").mark("migration_bitmap_sync_end")',
    b'process("/usr/libexec/qemu-kvm").mark("savevm_state_it',
    b"migrate_pending pending_size:671830016 max_size:0 pend_post:0",
]
#: Numbers that do not repeat, in one layout, in hexadecimal, and in a layout with a single number or with a text.
NUMBERS = [
    b"9@1795387133.000001:migrate_pending pending size 8 max 4 (pre = 8 compat=0 post=0)",
    b"9@1795387133.000002:migrate_pending pending size 7 max 4 (pre = 7 compat=0 post=3)",
    b"8@1795387133.000003:migrate_transferred transferred 1 time_spent 2 bandwidth 0.5 max_size -1",
    b"8@1795387133.000004:migrate_transferred transferred 3 time_spent 2 bandwidth 1e+06 max_size 4 ",
    b"9@1795387133.000005:migrate_pending pending size 6 max 4 (pre = 6 compat=0 post=0)",
]
PRINTED = [
    b"begin probe migrate",
    b"migrate_pending pending_size:8 max_size:0 pend_post:8",
    b"migrate_pending pending_size:7 max_size:0x4 pend_post:7",
    b"migrate_pending pending_size:6 max_size:-4 pend_post:?",
    b"migrate_transferred tranferred:1 time_spent:2 bandwidth:0.5 size:3",
    b"migrate_transferred tranferred:2 time_spent:2 bandwidth:1e+06 size:4",
    b"savevm_section_end id:ram section_id:2",
    b"savevm_section_end id:ram section_id:3",
    b"migration_thread_low_pending pending:3",
    b"migration_thread_low_pending pending:2",
    b" 0x7f9b719a47b0 : migration_bitmap_sync+0x0/0x5b0 [/usr/libexec/qemu-kvm]",
    b" at the beginning of a line",
    b"7@1795387133.000001:savevm_state_iterate",
    b"7@1795387133.000001:savevm_state_iterate",
]
#: A number of a state means another state once the dirty pages of 2.9 or another layout was printed.
NARROWED = [
    b"7@1795387133.000001:migrate_set_state new state 5",
    b"7@1795387133.000002:migrate_set_state new state 5",
    b"7@1795387133.000003:migrate_pending pending size 8 max 4",
    b"7@1795387133.000004:migrate_set_state new state 5",
    b"7@1795387133.000005:migrate_set_state new state 5",
    b"7@1795387133.000006:savevm_state_iterate ",
]
ENVELOPES = [
    b"7@1795387133.000001:migrate_set_state new state setup",
    b"vm1  | 7@1795387133.000002:savevm_state_iterate ",
    b"7@1795387133.000003:savevm_state_iterate ",
    b"vm1  | 7@1795387133.000004:savevm_state_iterate ",
]


def read(format_name: str, parts: list[list[bytes]]) -> tuple[Reading, bytes | None, object]:
    """Read the lines of a format in parts; return the sum, the last text and the range of releases."""
    parser = LineParser(format_name=format_name)
    reader, total = LineReader(parser), Reading(Lines([], [], [], []))
    for part in parts:
        reading = reader.read(part)
        total.lines.extend(reading.lines)
        total.noise += reading.noise
        total.malformed += reading.malformed
        total.duplicates += reading.duplicates
    events = [event._replace(at_ns=0) for event in total.lines.events]
    return (
        Reading(total.lines._replace(events=events), total.noise, total.malformed, total.duplicates),
        (reader.last_text),
        parser.decoder.releases,
    )


@pytest.mark.parametrize(
    ("format_name", "lines"),
    [
        ("qemu-log", LOG),
        ("qemu-log-bare", LOG),
        ("probe", PROBE),
        ("systemtap-log", PROBE),
        ("systemtap", STAP),
        ("qemu-log", NUMBERS),
        ("systemtap", PRINTED),
        ("systemtap", PRINTED[:2] + PRINTED[4:]),
        ("qemu-log", NARROWED),
        ("qemu-log", ENVELOPES),
        ("simpletrace", [b"savevm_state_iterate 1.5 pid=7"] * 5),
        ("lttng", [b"[12:00:00.000000001] host qemu:savevm_state_iterate: { cpu_id = 0 }, { }"] * 5),
        ("qemu-log", [b"noise"] * 5),
    ],
)
def test_lines_together_equal_lines_alone(format_name: str, lines: list[bytes]) -> None:
    """For all lines at once, for a second reading that knows the texts, and for any cut."""
    alone = read(format_name, [[line] for line in lines * 3])
    assert alone == read(format_name, [lines * 3])
    assert alone == read(format_name, [lines, lines, lines])
    for at in range(len(lines)):
        assert alone == read(format_name, [lines[:at], lines[at:] + lines + lines])
