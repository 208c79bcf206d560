"""Tests of `core.parsing.formats.systemtap`: the output of hand-written scripts."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qemu_migration_exporter.core.events import (
    BacktraceFrame,
    DeviceDowntime,
    DeviceSaved,
    ErrorReported,
    ErrorSet,
    Event,
    FunctionCalled,
    LowPending,
    Pending,
    Pinged,
    RunStateSet,
    SectionEnded,
    SectionStarted,
    SignalEvent,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed
from qemu_migration_exporter.core.parsing.formats import detect
from qemu_migration_exporter.core.parsing.formats.systemtap import SystemTap
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.terms import Signal

ITERATE = SignalEvent(None, None, Signal.ITERATE)
MARK = b'process("/usr/libexec/qemu-kvm").mark("savevm_state_iterate")'


def parse(line: bytes) -> Parsed:
    """Parse one line of a new script's output."""
    return SystemTap(Decoder()).parse(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (MARK, ITERATE),
        (MARK + b"  ", ITERATE),
        (b'process("/usr/bin/qemu-system-x86_64").provider("qemu").mark("savevm_state_iterate")', ITERATE),
        (b'process("/x").mark("migrate_pending")', Pending(None, None, None, None, None)),
        (b'process("/x").mark("migration_bitmap_sync_end")', SyncEnded(None, None, None)),
        (b'process("/x").mark("migrate_set_state")', StateSet(None, None, None)),
        (b'process("/x").mark("runstate_set")', RunStateSet(None, None, None, None)),
        (b'process("/x").mark("migration_rate_limit_pre")', None),
    ],
)
def test_mark_is_event_without_arguments(line: bytes, expected: Event | None) -> None:
    assert expected == parse(line)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("savevm_send_ping", [4], Pinged(None, None, 4)),
        ("migrate_pending", [9, 10], Pending(None, None, 9, 10, None)),
        (
            "migrate_transferred",
            [3_357_090, 100, 33_570, 10_071_270],
            Transferred(None, None, 3_357_090, 100, None, 10_071_270),
        ),
        ("migrate_set_state", [0x55D0C0FFEE00], StateSet(None, None, None)),
        ("migrate_set_state", [5], StateSet(None, None, "postcopy-active")),
        ("savevm_section_start", [0x7F00C0FFEE00, 3], SectionStarted(None, None, None, 3)),
        ("savevm_section_start", [0x10000, 3], SectionStarted(None, None, None, 3)),
        ("savevm_section_start", [0, 3], SectionStarted(None, None, None, 3)),
        ("savevm_section_start", [1, 3], SectionStarted(None, None, None, None)),
        ("savevm_section_start", [0xFFFF, 3], SectionStarted(None, None, None, None)),
        ("savevm_state_iterate", [1], ITERATE),
        ("of_no_meaning", [1], None),
    ],
)
def test_raw_arguments_of_mark_fill_its_numbers(name: str, values: list[int], expected: Event | None) -> None:
    """`$$vars` prints a text as its address; a number where an address has to be is of an unknown layout."""
    arguments = " ".join(f"$arg{number}={value:#x}" for number, value in enumerate(values, start=1))
    assert expected == parse(f'process("/usr/libexec/qemu-kvm").mark("{name}") {arguments}'.encode())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            b"migrate_pending pending_size:671830016 max_size:0 pend_post:671830016 pend_nonpost:0",
            Pending(None, None, 671830016, 0, None),
        ),
        (b"migrate_pending size=1 max=2", Pending(None, None, 1, 2, None)),
        (b"migrate_pending pend:1 threshold:2", Pending(None, None, 1, 2, None)),
        (b"migrate_pending_exact size:1", Pending(None, None, 1, None, None)),
        (b"migrate_pending_estimate pending:1", Pending(None, None, 1, None, None)),
        (
            b"migrate_transferred transterred_bytes:12751480 time_spent:144 bandwidth:4680821656496752412 max_size:26565583",
            Transferred(None, None, 12751480, 144, None, 26565583),
        ),
        (
            b"migrate_transferred tranferred:1 time_spent:2 bandwidth:3 avail_bw:4 size:5",
            Transferred(None, None, 1, 2, 4, 5),
        ),
        (b"migrate_set_state new_state:active", StateSet(None, None, "active")),
        (b"migrate_set_state new_state:4", StateSet(None, None, "active")),
        (b"migration_bitmap_sync_end dirty_pages:7", SyncEnded(None, None, 7)),
        (b"migration_thread_low_pending pending:7", LowPending(None, None, 7)),
        (b"savevm_section_start id:ram section_id:2", SectionStarted(None, None, "ram", 2)),
        (b"savevm_section_end id:ram section_id:2 ret:0", SectionEnded(None, None, "ram", 2)),
        (b"vmstate_save idstr:cpu vmsd_name:cpu_common", DeviceSaved(None, None, "cpu", "cpu_common")),
        (
            b"vmstate_downtime_save type:iterable idstr:ram instance_id:0 downtime:5",
            DeviceDowntime(None, None, "iterable", "ram", 0, 5),
        ),
        (b"savevm_send_ping val:4", Pinged(None, None, 4)),
        (b"cpu_throttle_set pct:20", ThrottleSet(None, None, 20)),
        (b"migrate_error error_desc:Broken", ErrorSet(None, None, "Broken")),
        (b"migrate_pending pending size 1 max 2 (post=1 nonpost=0)", Pending(None, None, 1, 2, None)),
        (b"savevm_state_iterate", ITERATE),
        (b"enter savevm_state_iterate", ITERATE),
    ],
)
def test_keys_of_authors_are_understood(line: bytes, expected: Event) -> None:
    """Aliases, typing errors and QEMU's own layout."""
    assert expected == parse(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"qmp_migrate uri:fd:migrate", FunctionCalled(None, None, "qmp_migrate")),
        (b"migration_bitmap_sync", FunctionCalled(None, None, "migration_bitmap_sync")),
        (b"migration_connect s={.state=1, .params=[...]", FunctionCalled(None, None, "migration_connect")),
        (b"enter bitmap_set start:0 nr:164531 map:0x0", FunctionCalled(None, None, "bitmap_set")),
        (b"end bitmap_set start:0 nr:164531", FunctionCalled(None, None, "bitmap_set")),
        (
            b" 0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0 [/usr/libexec/qemu-kvm]",
            BacktraceFrame(None, None, "0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0 [/usr/libexec/qemu-kvm]"),
        ),
        (b" 0x7f9b71b2ee30", BacktraceFrame(None, None, "0x7f9b71b2ee30")),
        (b"qemu-kvm: Broken pipe", ErrorReported(None, None, "Broken pipe")),
    ],
)
def test_functions_and_backtraces_count(line: bytes, expected: Event) -> None:
    """QEMU's error reports too, if both are printed to one terminal."""
    assert expected == parse(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b" 7f9b",
        b"begin probe migrate",
        b"[root@node1 qemu]# stap --ldd x.stp",
        b"\xff\x00",
        b"savevm_nothing x:1",
    ],
)
def test_other_lines_are_noise(line: bytes) -> None:
    """The shell's prompt, the script's greeting, an unknown function."""
    assert None is parse(line)


@pytest.mark.parametrize(
    "line",
    [
        b"m",
        b"p",
        b'process("/usr/libexec/qemu-kvm").mark("savevm_st',
        b"migrate_pending pending_si",
        b"migrate_pending pend_post:1",
        b"migrate_pending pending_size:many",
        b"migrate_pending pending_size:" + 400 * b"9",
        b"migrate_transferred bandwidth:fast",
    ],
)
def test_damaged_lines_are_malformed(line: bytes) -> None:
    """A known name without one readable argument."""
    assert MALFORMED == parse(line)


@pytest.mark.parametrize(
    "torn",
    [
        b"m",
        b"migrate_pending pending_si",
        b'process("/usr/libexec/qemu-kvm").mark("migrate_pend',
        b'process("/usr/lib',
        b"begin pro",
    ],
)
def test_glued_mark_is_salvaged(torn: bytes) -> None:
    """The kernel dropped a tail with its newline."""
    assert Malformed(ITERATE) == parse(torn + MARK)


def test_glued_torn_mark_is_lost() -> None:
    assert MALFORMED == parse(MARK[:20] + MARK[:40])


def test_endless_output_is_one_bad_line() -> None:
    """Only its last line is known to be whole."""
    assert Malformed(ITERATE) == parse(1_500 * MARK)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (MARK, "systemtap"),
        (b"qmp_migrate uri:fd:migrate", "systemtap"),
        (b"migrate_pending pending_size:1", "systemtap"),
        (b"migrate_fd_error error=Connection refused", "qemu-log-bare"),
        (b"qmp_migrate", None),
        (b"begin probe migrate", None),
        (b" 0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0", None),
    ],
)
def test_foreign_line_reveals_format(line: bytes, name: str | None) -> None:
    """A mark, a function's arguments, or an event's arguments as `key:value`."""
    assert name == detect(line, Decoder())


#: What scripts print of events, with keys that are known and others, and values that are numbers and others.
printed = st.tuples(
    st.sampled_from(
        ["migrate_pending", "migrate_transferred", "migrate_set_state", "migration_bitmap_sync_end", "migrate_error",
         "savevm_section_end", "vmstate_downtime_save", "migrate_fd_cancel"]
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["size", "pending", "max", "time_spent", "bandwidth", "state", "dirty", "id", "val", "type"]),
            st.sampled_from([":", "="]),
            st.sampled_from(["0", "671830016", "4680821656496752412", "active", "", "-1", "9" * 30, "a:3", "\u0663"]),
            st.sampled_from([" ", " ", "  ", ", "]),
        ),
        max_size=4,
    ).map(lambda pairs: "".join(key + sign + value + end for key, sign, value, end in pairs).strip()),
).map(" ".join)  # fmt: skip


@settings(max_examples=400)
@example(lines=["migrate_pending size:1 max:2", "migrate_pending size:active max:2", "migrate_pending size:3 max:4"])
@given(lines=st.lists(printed, max_size=12))
def test_learnt_printf_reads_alike(lines: list[str]) -> None:
    """A name alone is left out: it is an event only if no other probe prints it with arguments."""
    decoder = Decoder()
    script = SystemTap(decoder)
    for line in (line for line in lines if " " in line.strip()):
        alone = Decoder()
        alone.restore(decoder.releases)
        assert SystemTap(alone).parse(line.encode()) == script.parse(line.encode())


@pytest.mark.parametrize(
    ("address", "known", "expected"),
    [
        (b"0x10", {0x10: b"savevm_state_iterate"}, ITERATE),
        (b"0x20", {0x10: b"savevm_state_iterate"}, None),
        (b"0x20", {}, MALFORMED),
    ],
    ids=["known", "of another mark", "without the binary"],
)
def test_statement_is_named_by_its_address(address: bytes, known: dict[int, bytes], expected: Parsed) -> None:
    script = SystemTap(Decoder(ParserOptions(mark_addresses=known)))
    assert script.parse(b'process("/usr/bin/qemu").statement(' + address + b")") == expected
