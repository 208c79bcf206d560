"""Tests of `core.parsing.formats.probe_output`: the probes shipped here, and QEMU's own SystemTap tapset."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import (
    Anchored,
    DeviceDowntime,
    DeviceSaved,
    ErrorReported,
    ErrorSet,
    Event,
    LinesLost,
    LowPending,
    Pending,
    Pinged,
    PostcopyRequests,
    QmpCommand,
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
from qemu_migration_exporter.core.parsing.formats import detect, probe_output
from qemu_migration_exporter.core.parsing.formats.probe_output import ProbeOutput
from qemu_migration_exporter.core.terms import Signal

P, T = 26734, 26790
#: As a monotonic clock shows it after a day, and as the wall's.
UP, NS = 81_245_000_200_000, 1_795_387_501_145_438_123
OURS = b"26734/26790@81245000200000 "
TAPSET = b"26734@1795387501145438123 "
ITERATE = SignalEvent(UP, T, Signal.ITERATE)
WHOLE = OURS + b"savevm_state_iterate"


def known(name: str = "probe") -> ProbeOutput:
    """Return a format that has seen one process."""
    stream_format = ProbeOutput(Decoder(), name)
    assert stream_format.parse(OURS + b"savevm_state_header") is not None
    return stream_format


def parse(line: bytes, name: str = "probe") -> Parsed:
    """Parse one line of a stream that has another line before it."""
    return known(name).parse(line)


#: What is said → its event, without time and thread.
SAID: list[tuple[bytes, Event]] = [
    (b"migrate_set_state new state active", StateSet(None, None, "active")),
    (b"migrate_set_state new state 4", StateSet(None, None, "active")),
    (b"migrate_pending pending size 9 max 3 (pre = 9 compat=0 post=0)", Pending(None, None, 9, 3, 0)),
    (b"migrate_pending_exact exact pending size 9 (pre = 9 post=0)", Pending(None, None, 9, None, 0)),
    (
        b"migrate_transferred transferred 3357090 time_spent 100 bandwidth 33570 max_size 10071270",
        Transferred(None, None, 3357090, 100, None, 10071270),
    ),
    # neither tool has floating point: the bits of QEMU's double (to 2.12)
    (
        b"migrate_transferred transferred 12751480 time_spent 144 bandwidth 4680821656496752412 max_size 26565583",
        Transferred(None, None, 12751480, 144, None, 26565583),
    ),
    # nor has the tapset a sign for a %lu that QEMU's own log prints as %ld
    (
        b"migrate_transferred transferred 1 time_spent 2 bandwidth 3 switchover_bw 0 max_size 18446744073709551615",
        Transferred(None, None, 1, 2, 0, 18446744073709551615),
    ),
    (b"migration_bitmap_sync_end dirty_pages 20811", SyncEnded(None, None, 20811)),
    (b"migration_thread_low_pending 819200", LowPending(None, None, 819200)),
    (b"savevm_section_start ram, section_id 2", SectionStarted(None, None, "ram", 2)),
    (b"savevm_section_start <null>, section_id 2", SectionStarted(None, None, "<null>", 2)),
    (b"savevm_section_start , section_id 2", SectionStarted(None, None, "", 2)),
    (b"savevm_section_end ram, section_id 2 -> -32", SectionEnded(None, None, "ram", 2)),
    (b"vmstate_save cpu, cpu_common", DeviceSaved(None, None, "cpu", "cpu_common")),
    (
        b"vmstate_downtime_save type=iterable idstr=ram instance_id=0 downtime=5",
        DeviceDowntime(None, None, "iterable", "ram", 0, 5),
    ),
    (b"savevm_send_ping 0x4", Pinged(None, None, 4)),
    (b"cpu_throttle_set set guest CPU throttled by 20%", ThrottleSet(None, None, 20)),
    (b"migrate_error error=Unable to write: Broken pipe", ErrorSet(None, None, "Unable to write: Broken pipe")),
    (b"migrate_error error=<null>", ErrorSet(None, None, "<null>")),
    (b"postcopy_requests 529", PostcopyRequests(None, None, 529)),
    (b'qmp_enter_migrate {"uri": "tcp:node2', QmpCommand(None, None, '{"uri": "tcp:node2', "migrate")),
    (b"savevm_state_iterate", SignalEvent(None, None, Signal.ITERATE)),
    (b"savevm_state_iterate ", SignalEvent(None, None, Signal.ITERATE)),
    (
        b"migrate_handle_rp_req_pages in <null> at 0x5f4d000 len 0x1000",
        SignalEvent(None, None, Signal.POSTCOPY_REQUEST),
    ),
    (b"migration_set_outgoing_channel ioc=- ioctype=- hostname=- err=-", SignalEvent(None, None, Signal.CONNECTED)),
    (
        b"migration_set_outgoing_channel ioc=0x563e50a5fc00 ioctype=qio-channel-socket hostname=<null> err=0x0",
        SignalEvent(None, None, Signal.CONNECTED),
    ),
    (
        b"runstate_set current_run_state 9 (-) new_state 7 (finish-migrate)",
        RunStateSet(None, None, "finish-migrate", "-"),
    ),
]


@pytest.mark.parametrize(("said", "event"), SAID, ids=[said.decode() for said, _ in SAID])
def test_both_prefixes_are_read(said: bytes, event: Event) -> None:
    """The tapset's has no thread."""
    assert event._replace(at_ns=UP, thread=T) == parse(OURS + said)
    assert event._replace(at_ns=NS, thread=None) == parse(TAPSET + said, "systemtap-log")


def test_null_and_negative_values_are_read() -> None:
    """`<null>` for a null string; a negative number that QEMU declares unsigned, as it is."""
    assert StateSet(UP, T, "failed") == parse(OURS + b"migrate_set_state new state -1")
    assert MALFORMED == parse(OURS + b"migrate_set_state new state <null>")


@pytest.mark.parametrize(
    ("line", "process", "thread"),
    [
        (OURS + b"savevm_state_iterate", P, T),
        (TAPSET + b"savevm_state_iterate", P, None),
        (b"1/1@1234567 savevm_state_iterate", 1, 1),
        (b"4194304/4194303@81245000200000 savevm_state_iterate", 4_194_304, 4_194_303),
    ],
)
def test_process_comes_from_last_event(line: bytes, process: int, thread: int | None) -> None:
    stream_format = ProbeOutput(Decoder(), "probe")
    event = stream_format.parse(line)
    assert isinstance(event, SignalEvent)
    assert thread == event.thread
    for silent in (b"noise", b"5/5@81245000200000 migration_rate_limit_pre 94 ms"):
        assert None is stream_format.parse(silent)
    assert process == stream_format.process


@pytest.mark.parametrize(
    ("line", "wall_ns"),
    [
        (b"anchor 81245000123456 1795387501145438123", 1_795_387_501_145_438_123),
        (b"anchor 81245000123456 1795387501.145438", 1_795_387_501_145_438_000),
        (b"anchor 81245000123456 1795387501.145438123", 1_795_387_501_145_438_123),
        (b"anchor 81245000123456 1795387501.5", 1_795_387_501_500_000_000),
        (b"anchor 81245000123456 1795387501.000000", 1_795_387_501_000_000_000),
    ],
)
def test_anchor_is_in_ns_or_fraction(line: bytes, wall_ns: int) -> None:
    """SystemTap has the wall time in nanoseconds; bpftrace 0.17 can only print it as text."""
    assert Anchored(81_245_000_123_456, None, wall_ns) == parse(line)


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        (b"Lost 4 events", 4),
        (b"WARNING: Total lost event count: 12", 12),
        (b"WARNING: Number of errors: 0, skipped probes: 3", 3),
        (b"WARNING: Skipped due to global 'requests' lock timeout: 7", 7),
        (b"WARNING: Skipped due to low stack: 1", 1),
        (b"WARNING: Skipped due to reentrancy: 1", 1),
        (b"WARNING: Skipped due to uprobe register failure: 2", 2),
        (b"WARNING: Skipped due to uprobe unregister failure: 2", 2),
        (b"WARNING: There were 5 transport failures. Try stap -s to increase the buffer size from 16.", 5),
    ],
)
def test_lost_lines_are_event(line: bytes, lines: int) -> None:
    """bpftrace reports them at once and at its end, SystemTap at its end."""
    assert LinesLost(None, None, lines) == parse(line)


def test_error_reports_are_events() -> None:
    """If a QEMU and its probe share a terminal."""
    assert ErrorReported(None, None, "Unable to write: Broken pipe") == parse(b"qemu-kvm: Unable to write: Broken pipe")


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"\x00\xff\xfe\x80 binary",
        bytes(range(256)),
        b"Attaching 45 probes...",
        b"Attached 45 probes",
        b"Running script, <Ctrl>-c to quit",
        b"Lost events",
        b"Lost 99999999999999999999999 events",
        b"WARNING: Missing unwind data for a module, rerun with 'stap -d kernel'",
        b"ERROR: probe overhead (1 cycles) exceeded threshold (1 cycles) in last 1 cycles",
        b"anchor",
        b"anchor 81245000123456",
        b"anchor 81245000123456 now",
        b"anchor 81245000123456 1795387501.",
        b"@told[26734]: 81245000123456",
        OURS + b"migration_rate_limit_pre 94 ms",
        OURS + b"postcopy_pause_fault_thread",
        OURS + b"some_event mail=root@node1",
        OURS + b"42",
        OURS,
        b"26734/@81245000200000 savevm_state_iterate",
        b"26734/26790@123 savevm_state_iterate",
        b"-1/26790@81245000200000 savevm_state_iterate",
    ],
)
def test_other_lines_are_noise(line: bytes) -> None:
    """Greetings of the tools, unused events, and lines of other programs."""
    assert None is parse(line)


@pytest.mark.parametrize(
    "line",
    [
        b"m",
        b"migrate_set_sta",
        OURS + b"m",
        OURS + b"migrate_set_sta",
        OURS + b"migrate_set_state",
        OURS + b"migrate_set_state ",
        OURS + b"migrate_set_state new st",
        OURS + b"migrate_pending pending size",
        OURS + b"migrate_pending pending size \xff\x00",
        OURS + b"savevm_section_start ram, section_id 99999999999999999999999",
        TAPSET + b"migration_bitmap_sync_e",
        TAPSET + b"migration_bitmap_sync_end dirty_pa",
    ],
)
@pytest.mark.parametrize("name", ["probe", "systemtap-log"])
def test_torn_lines_are_malformed(line: bytes, name: str) -> None:
    """A name that is cut, or arguments that are."""
    assert MALFORMED == parse(line, name)


@pytest.mark.parametrize(
    "torn",
    [
        b"26734/26790@8124",
        b"26734/26790@81245000100000",
        OURS,
        OURS + b"m",
        OURS + b"migrate_set_st",
        OURS + b"migrate_set_state new st",
        OURS + b"migrate_pending pending size 168",
        OURS + b"savevm_state_header",
        OURS + b"savevm_state_header ",
        OURS + b"vmstate_downtime_checkpoint src-down",
        OURS + b"migration_rate_li",
        OURS + b"migration_rate_limit_pre 9",
        b"\x00\xff\x80",
        b"anchor 81245000123456 17953875",
        b"Attaching 45 pro",
        OURS + b"m" + OURS + b"migrate_pend",
    ],
)
def test_glued_line_is_salvaged(torn: bytes) -> None:
    """The kernel dropped a tail with its newline; digits of the torn line may precede the next line's process."""
    stream_format = known()
    assert Malformed(ITERATE) == stream_format.parse(torn + WHOLE)
    assert P == stream_format.process
    stream_format = known("systemtap-log")
    assert Malformed(SignalEvent(NS, None, Signal.ITERATE)) == stream_format.parse(
        torn + TAPSET + b"savevm_state_iterate"
    )
    assert P == stream_format.process


def test_glued_digits_join_process() -> None:
    stream_format = known()
    assert ITERATE == stream_format.parse(b"2" + WHOLE)
    assert 226_734 == stream_format.process


def test_glued_digits_match_known_process() -> None:
    """If two fit, the longer one wins: the other's digits are the end of it."""
    stream_format = ProbeOutput(Decoder(), "probe")
    torn = b"7/7@81245000200000 migrate_pending pending size 16834/34@81245000200000 savevm_state_iterate"
    assert MALFORMED == stream_format.parse(torn)
    for process in (4, 34):
        stream_format.parse(b"%d/1@81245000200000 savevm_state_iterate" % process)
        assert Malformed(ITERATE._replace(thread=34)) == stream_format.parse(torn)
        assert process == stream_format.process


def test_processes_over_bound_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only lines glued to torn ones are not theirs."""
    monkeypatch.setattr(probe_output, "_MAX_PROCESSES", 1)
    stream_format = known()
    other = b"5/5@81245000200000 savevm_state_iterate"
    assert ITERATE._replace(thread=5) == stream_format.parse(other)
    assert 5 == stream_format.process
    assert MALFORMED == stream_format.parse(OURS + b"migrate_set_state new st" + other)
    assert Malformed(ITERATE) == stream_format.parse(OURS + b"migrate_set_state new st" + WHOLE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (OURS + b"migrate_pending pen" + OURS + b"migration_rate_limit_pre 94 ms", MALFORMED),
        (OURS + b"migration_rate_limit_p" + OURS + b"migration_rate_limit_pre 94 ms", None),
        (OURS + b"migration_rate_limit_pre " + OURS + b"migration_rate_limit_pre 94 ms", None),
        (OURS + b"migrate_pending " + OURS + b"migrate_set_state new", MALFORMED),
        (OURS + b"migrate_pending " + OURS + b"migrate_set_sta", MALFORMED),
        (OURS + b"migrate_pending " + OURS, MALFORMED),
    ],
)
def test_glued_noise_or_torn_line_is_lost(line: bytes, expected: Parsed) -> None:
    assert expected == parse(line)


def test_event_in_free_text_is_text() -> None:
    """An error's text may hold anything."""
    assert isinstance(parse(OURS + b"migrate_error error=Unable to " + WHOLE), ErrorSet)


def test_endless_output_is_one_bad_line() -> None:
    """Only its last line is known to be whole."""
    assert Malformed(ITERATE) == parse(1_500 * (OURS + b"migrate_pending ") + WHOLE)
    assert Malformed(ITERATE) == parse(1_500 * WHOLE)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        (b"anchor 81245000123456 1795387501145438123", "probe"),
        (b"anchor 81245000123456 1795387501.145438", "probe"),
        (WHOLE, "probe"),
        (OURS + b"migrate_set_state new st", "probe"),
        (TAPSET + b"savevm_state_iterate ", "systemtap-log"),
        (TAPSET + b"migrate_set_state new state setup", "systemtap-log"),
        # joined in the middle of a line: no time of a wall, so the number is a thread's
        (b"26790@81245000200000 savevm_state_iterate", "probe"),
        (b"Attaching 45 probes...", None),
        (b"Lost 4 events", None),
        (OURS + b"migration_rate_limit_pre 94 ms", None),
        (OURS + b"migrate_set_sta", None),
        (b"anchor 81245000123456", None),
        (b"\x00\xff", None),
        (b"", None),
        (b"26734@1795387501.145438:savevm_state_iterate ", "qemu-log"),
    ],
)
def test_anchor_or_event_reveals_format(line: bytes, name: str | None) -> None:
    """Only our probes print a thread behind the process; QEMU's own log has a fraction and a colon."""
    assert name == detect(line, Decoder())
