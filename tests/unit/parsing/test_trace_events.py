"""Tests of `core.parsing.trace_events`: each row with a line as QEMU of that release prints it."""

from __future__ import annotations

import re
from itertools import product
from typing import Any, Final, NamedTuple

import pytest
from qemu_migration_exporter.core.events import (
    ChannelFailed,
    DeviceDowntime,
    DeviceLoaded,
    DeviceSaved,
    ErrorSet,
    Event,
    LoadReturned,
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
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed, timed
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout, meanings
from qemu_migration_exporter.core.parsing.vocabulary import field_names
from qemu_migration_exporter.core.terms import Signal

from tests.support.paths import DATA

T = 4100
NS = 1_700_000_000_000_000_001


def mark(meaning: Signal) -> SignalEvent:
    """Return the event of a signal."""
    return SignalEvent(NS, T, meaning)


#: Versions of the row → the line without its prefix → the event. An event without arguments ends with a blank.
EXAMPLES: list[tuple[str, str, Event]] = [
    # State, outcome, errors
    ("2.0..2.10", "migrate_set_state new state 4", StateSet(NS, T, "active")),
    ("2.11..", "migrate_set_state new state postcopy-recover-setup", StateSet(NS, T, "postcopy-recover-setup")),
    ("2.0..2.6", "migrate_fd_error ", ErrorSet(NS, T, None)),
    (
        "2.7..9.0",
        "migrate_fd_error error=Failed to connect to 'a b': No route",
        ErrorSet(NS, T, "Failed to connect to 'a b': No route"),
    ),
    (
        "9.1..",
        "migrate_error error=Unable to write to socket: Broken pipe",
        ErrorSet(NS, T, "Unable to write to socket: Broken pipe"),
    ),
    ("2.0..9.2", "migrate_fd_cancel ", mark(Signal.CANCEL)),
    ("10.0..", "migration_cancel ", mark(Signal.CANCEL)),
    ("2.0..9.2", "migrate_fd_cleanup ", mark(Signal.CLEANUP)),
    ("10.0..", "migration_cleanup ", mark(Signal.CLEANUP)),
    ("2.5..", "migration_thread_file_err ", mark(Signal.FAILING)),
    ("2.5..", "migration_completion_file_err ", mark(Signal.FAILING)),
    ("11.0..", "migration_call_notifiers type=2", mark(Signal.OTHER)),
    ("10.0..", "migration_block_activation inactive", mark(Signal.OTHER)),
    # Setup
    ("2.7..10.2", "migration_socket_outgoing_connected hostname=(null)", mark(Signal.CONNECTED)),
    ("11.0..", "migration_socket_outgoing_connected ", mark(Signal.CONNECTED)),
    ("2.7..", "migration_socket_outgoing_error error=Connection refused", ChannelFailed(NS, T, "Connection refused")),
    ("2.7..", "migration_fd_outgoing fd=27", mark(Signal.OUTGOING)),
    ("2.7..", "migration_exec_outgoing cmd=gzip -c > /tmp/vm.gz", mark(Signal.OUTGOING)),
    ("8.2..", "migration_file_outgoing filename=/var/lib/libvirt/save/web 42", mark(Signal.TO_FILE)),
    (
        "2.12..10.2",
        "migration_set_outgoing_channel ioc=0x563e50a5fc00 ioctype=qio-channel-socket hostname=(null) err=(nil)",
        mark(Signal.CONNECTED),
    ),
    (
        "2.7..2.11",
        "migration_set_outgoing_channel ioc=0x563e50a5fc00 ioctype=qio-channel-socket hostname=node2",
        mark(Signal.CONNECTED),
    ),
    ("11.0..", "migration_set_outgoing_channel ioc=0x563e50a5fc00 ioctype=qio-channel-socket", mark(Signal.CONNECTED)),
    ("2.7..10.2", "migration_tls_outgoing_handshake_start hostname=node2", mark(Signal.OUTGOING)),
    ("11.0..", "migration_tls_outgoing_handshake_start ", mark(Signal.OUTGOING)),
    ("2.7..", "migration_tls_outgoing_handshake_complete ", mark(Signal.OUTGOING)),
    (
        "2.7..",
        "migration_tls_outgoing_handshake_error err=TLS handshake failed: The certificate is expired",
        ChannelFailed(NS, T, "TLS handshake failed: The certificate is expired"),
    ),
    ("2.5..", "open_return_path_on_source ", mark(Signal.CONNECTED)),
    ("2.5..", "open_return_path_on_source_continue ", mark(Signal.CONNECTED)),
    ("2.4..", "savevm_state_header ", mark(Signal.HEADER)),
    ("2.0..2.9", "savevm_state_begin ", mark(Signal.SETUP_BEGIN)),
    ("2.10..", "savevm_state_setup ", mark(Signal.SETUP_BEGIN)),
    ("2.5..", "migration_thread_setup_complete ", mark(Signal.SETUP_COMPLETE)),
    # Iteration, dirty bitmap, bandwidth, throttle
    ("2.0..2.4", "migrate_pending pending size 671830016 max 26565583", Pending(NS, T, 671830016, 26565583, None)),
    (
        "2.5..2.11",
        "migrate_pending pending size 671830016 max 0 (post=671830016 nonpost=0)",
        Pending(NS, T, 671830016, 0, None),
    ),
    (
        "2.12..7.2",
        "migrate_pending pending size 168304640 max 0 (pre = 168304640 compat=0 post=0)",
        Pending(NS, T, 168304640, 0, 0),
    ),
    (
        "8.0..11.0",
        "migrate_pending_estimate estimate pending size 168304640 (pre = 168304640 post=0)",
        Pending(NS, T, 168304640, None, 0),
    ),
    ("8.0..11.0", "migrate_pending_exact exact pending size 10 (pre = 0 post=10)", Pending(NS, T, 10, None, 10)),
    (
        "11.1..",
        (
            "qemu_savevm_query_pending exact=1, final=0, precopy=1, stopcopy=2, postcopy=3, total=6,"
            " collected switchover ack pending=0, total switchover ack pending=1"
        ),
        Pending(NS, T, 6, None, 3, 0),
    ),
    (
        "2.0..8.1",
        "migrate_transferred transferred 3357090 time_spent 100 bandwidth 33570 max_size 10071270",
        Transferred(NS, T, 3357090, 100, None, 10071270),
    ),
    (
        "8.2..",
        "migrate_transferred transferred 3416752 time_spent 100 bandwidth 34167 switchover_bw 0 max_size 10250255",
        Transferred(NS, T, 3416752, 100, 0, 10250255),
    ),
    (
        "2.0..8.1",
        "migrate_transferred transferred 12751480 time_spent 144 bandwidth 88551.9 max_size 26565583",
        Transferred(NS, T, 12751480, 144, None, 26565583),
    ),
    ("2.0..", "savevm_state_iterate ", mark(Signal.ITERATE)),
    (
        "2.0..",
        "savevm_section_start 0000:00:03.0/virtio-net, section_id 20",
        SectionStarted(NS, T, "0000:00:03.0/virtio-net", 20),
    ),
    ("2.3..", "savevm_section_end ram, section_id 2 -> -32", SectionEnded(NS, T, "ram", 2)),
    ("2.0..2.2", "savevm_section_end ram, section_id 2", SectionEnded(NS, T, "ram", 2)),
    ("2.4..", "savevm_section_skip smbus-eeprom, section_id 30", mark(Signal.OTHER)),
    ("2.0..", "migration_bitmap_sync_start ", mark(Signal.SYNC_START)),
    ("2.0..", "migration_bitmap_sync_end dirty_pages 20811", SyncEnded(NS, T, 20811)),
    ("2.0..", "migration_throttle ", mark(Signal.THROTTLE)),
    ("9.2..", "cpu_throttle_set set guest CPU throttled by 20%", ThrottleSet(NS, T, 20)),
    ("9.2..", "cpu_throttle_dirty_sync ", mark(Signal.THROTTLE_SYNC)),
    ("8.1..", "migration_dirty_limit_guest guest dirty page rate limit 102 MB/s", mark(Signal.DIRTY_LIMITED)),
    ("2.9..", "ram_save_iterate_big_wait big wait: 58 milliseconds, 63 iterations", mark(Signal.OTHER)),
    # Completion, device state, downtime
    ("2.5..", "migration_thread_low_pending 819200", LowPending(NS, T, 819200)),
    ("6.1..", "migration_completion_vm_stop ret 0", mark(Signal.VM_STOPPED)),
    ("6.2..", "vm_stop_flush_all ret 0", mark(Signal.OTHER)),
    (
        "4.0..",
        "runstate_set current_run_state 9 (running) new_state 7 (finish-migrate)",
        RunStateSet(NS, T, "finish-migrate", "running"),
    ),
    (
        "4.0..",
        "runstate_set current_run_state 7 (finish-migrate) new_state 6 (postmigrate)",
        RunStateSet(NS, T, "postmigrate", "finish-migrate"),
    ),
    ("2.0..3.1", "runstate_set new state 7", RunStateSet(NS, T, "finish-migrate", None)),
    ("2.0..3.1", "runstate_set new state 10", RunStateSet(NS, T, "save-vm", None)),
    ("2.0..3.1", "runstate_set new state 77", RunStateSet(NS, T, None, None)),
    ("2.0..2.4", "savevm_state_complete ", mark(Signal.COMPLETE)),
    ("2.5..9.2", "savevm_state_complete_precopy ", mark(Signal.COMPLETE)),
    ("10.0..", "migration_precopy_complete ", mark(Signal.COMPLETE)),
    ("10.0..", "savevm_send_switchover_start ", mark(Signal.OUTGOING)),
    ("2.0..", "vmstate_save slirp, (old)", DeviceSaved(NS, T, "slirp", "(old)")),
    ("8.2..", "vmstate_downtime_checkpoint src-downtime-start", mark(Signal.DOWNTIME_START)),
    ("8.2..", "vmstate_downtime_checkpoint src-vm-stopped", mark(Signal.VM_STOPPED)),
    ("8.2..", "vmstate_downtime_checkpoint src-iterable-saved", mark(Signal.ITERABLE_SAVED)),
    ("8.2..", "vmstate_downtime_checkpoint src-non-iterable-saved", mark(Signal.ALL_SAVED)),
    ("8.2..", "vmstate_downtime_checkpoint src-downtime-end", mark(Signal.DOWNTIME_END)),
    ("8.2..", "vmstate_downtime_checkpoint dst-precopy-loadvm-completed", mark(Signal.LOADED)),
    ("8.2..", "vmstate_downtime_checkpoint dst-precopy-bh-enter", mark(Signal.DESTINATION)),
    ("8.2..", "vmstate_downtime_checkpoint dst-precopy-bh-vm-started", mark(Signal.GUEST_STARTED)),
    ("8.2..", "vmstate_downtime_checkpoint dst-postcopy-bh-enter", mark(Signal.LOADS_POSTCOPY)),
    ("8.2..", "vmstate_downtime_checkpoint src-something-new", mark(Signal.OTHER)),
    (
        "8.2..",
        "vmstate_downtime_save type=non-iterable idstr=0000:00:02.0/vga instance_id=0 downtime=134",
        DeviceDowntime(NS, T, "non-iterable", "0000:00:02.0/vga", 0, 134),
    ),
    ("10.1..", "ram_save_complete dirty=0, done=1", mark(Signal.OTHER)),
    ("2.5..", "migration_thread_after_loop ", mark(Signal.AFTER_LOOP)),
    ("2.0..2.4", "savevm_state_cancel ", mark(Signal.CLEANUP)),
    ("2.5..", "savevm_state_cleanup ", mark(Signal.CLEANUP)),
    # Post-copy and its return path
    ("2.5..", "postcopy_start ", mark(Signal.POSTCOPY_START)),
    ("2.5..", "postcopy_start_set_run ", mark(Signal.POSTCOPY_SET_RUN)),
    ("2.10..", "savevm_send_ping 0x4", Pinged(NS, T, 4)),
    ("2.5..2.9", "savevm_send_ping 4", Pinged(NS, T, 4)),
    ("2.5..", "postcopy_requests 529", PostcopyRequests(NS, T, 529)),
    ("2.10..", "migrate_handle_rp_req_pages in (null) at 0x5f4d000 len 0x1000", mark(Signal.POSTCOPY_REQUEST)),
    ("2.5..2.9", "migrate_handle_rp_req_pages in pc.ram at 5f4d000 len 1000", mark(Signal.POSTCOPY_REQUEST)),
    ("2.5..", "savevm_send_postcopy_listen ", mark(Signal.POSTCOPY_LISTEN)),
    ("2.5..", "savevm_send_postcopy_run ", mark(Signal.POSTCOPY_RUN)),
    ("2.5..", "source_return_path_thread_entry ", mark(Signal.OUTGOING)),
    ("2.10..", "source_return_path_thread_pong 0x4", mark(Signal.OUTGOING)),
    ("2.5..2.9", "source_return_path_thread_pong 4", mark(Signal.OUTGOING)),
    ("8.1..11.0", "source_return_path_thread_switchover_acked ", mark(Signal.OUTGOING)),
    ("11.1..", "source_return_path_thread_switchover_acked switchover_ack_pending_num 0", mark(Signal.OUTGOING)),
    ("10.2..", "source_return_path_thread_postcopy_package_loaded ", mark(Signal.OUTGOING)),
    ("2.10..", "source_return_path_thread_shut 0x0", mark(Signal.OUTGOING)),
    ("2.5..2.9", "source_return_path_thread_shut 0", mark(Signal.OUTGOING)),
    ("2.5..", "source_return_path_thread_bad_end ", mark(Signal.BAD_END)),
    ("2.5..", "source_return_path_thread_end ", mark(Signal.OUTGOING)),
    ("2.5..", "migration_completion_postcopy_end ", mark(Signal.POSTCOPY_END)),
    ("2.5..", "migration_completion_postcopy_end_after_complete ", mark(Signal.POSTCOPY_END)),
    ("2.5..2.9", "migration_completion_postcopy_end_before_rp ", mark(Signal.POSTCOPY_END)),
    ("2.5..2.9", "migration_completion_postcopy_end_after_rp 0", mark(Signal.OUTGOING)),
    ("2.5..2.9", "migration_completion_postcopy_end_after_rp 1", mark(Signal.FAILING)),
    ("2.5..8.1", "await_return_path_close_on_source_close ", mark(Signal.ALL_SAVED)),
    ("2.5..8.1", "await_return_path_close_on_source_joining ", mark(Signal.OUTGOING)),
    ("2.10..", "migration_return_path_end_before ", mark(Signal.ALL_SAVED)),
    ("2.10..8.1", "migration_return_path_end_after 0", mark(Signal.OUTGOING)),
    ("2.10..8.1", "migration_return_path_end_after 1", mark(Signal.FAILING)),
    ("8.2..", "migration_return_path_end_after ", mark(Signal.OUTGOING)),
    ("3.0..", "postcopy_pause_return_path ", mark(Signal.OUTGOING)),
    ("3.0..", "postcopy_pause_return_path_continued ", mark(Signal.POSTCOPY_RESUMED)),
    ("3.0..", "savevm_state_resume_prepare ", mark(Signal.POSTCOPY_RESUMED)),
    ("3.0..", "ram_dirty_bitmap_sync_start ", mark(Signal.OUTGOING)),
    ("3.0..", "ram_dirty_bitmap_sync_wait ", mark(Signal.OUTGOING)),
    ("3.0..", "ram_dirty_bitmap_sync_complete ", mark(Signal.OUTGOING)),
    ("3.0..", "ram_state_resume_prepare 33411", mark(Signal.POSTCOPY_RESUMED)),
    ("3.0..", "savevm_send_postcopy_resume ", mark(Signal.POSTCOPY_RESUMED)),
    ("3.0..", "source_return_path_thread_resume_ack 1", mark(Signal.POSTCOPY_RESUMED)),
    ("3.0..", "postcopy_pause_continued ", mark(Signal.POSTCOPY_RESUMED)),
    ("3.0..", "multifd_send_thread_start 0", mark(Signal.OUTGOING)),
    ("4.2..", "multifd_send_error channel 1", mark(Signal.FAILING)),
    ("4.2..8.2", "multifd_send_terminate_threads error 0", mark(Signal.OUTGOING)),
    ("9.0..", "multifd_send_terminate_threads ", mark(Signal.OUTGOING)),
    ("9.2..", "multifd_send_thread_end channel 0 packets 1204", mark(Signal.OUTGOING)),
    (
        "9.0..9.1",
        "multifd_send_thread_end channel 0 packets 1204 normal pages 151002 zero pages 88",
        mark(Signal.OUTGOING),
    ),
    ("7.0..8.2", "multifd_send_thread_end channel 0 packets 1204 normal pages 151002", mark(Signal.OUTGOING)),
    ("3.0..6.2", "multifd_send_thread_end channel 0 packets 1204 pages 151002", mark(Signal.OUTGOING)),
    # The destination
    ("2.7..", "migration_socket_incoming_accepted ", mark(Signal.INCOMING)),
    ("2.7..", "migration_set_incoming_channel ioc=0x55d0 ioctype=qio-channel-socket", mark(Signal.INCOMING)),
    ("2.7..", "migration_fd_incoming fd=23", mark(Signal.INCOMING)),
    ("2.7..", "migration_exec_incoming cmd=gunzip -c /tmp/vm.gz", mark(Signal.INCOMING)),
    ("8.2..", "migration_file_incoming filename=/tmp/vm", mark(Signal.INCOMING)),
    ("2.10..", "loadvm_state_setup ", mark(Signal.DESTINATION)),
    ("2.10..", "loadvm_state_cleanup ", mark(Signal.LOAD_CLEANUP)),
    ("2.5..10.1", "process_incoming_migration_co_end ret=0 postcopy-state=3", LoadReturned(NS, T, 0, 3)),
    ("10.2..", "process_incoming_migration_co_end ret=-22", LoadReturned(NS, T, -22, None)),
    ("2.5..", "process_incoming_migration_co_postcopy_end_main ", mark(Signal.LOADS_POSTCOPY)),
    ("2.7..", "migration_tls_incoming_handshake_start ", mark(Signal.DESTINATION)),
    ("2.7..", "migration_tls_incoming_handshake_complete ", mark(Signal.DESTINATION)),
    (
        "2.7..",
        "migration_tls_incoming_handshake_error err=TLS handshake failed: Error in the pull function.",
        mark(Signal.DESTINATION),
    ),
    ("2.4..", "migrate_global_state_post_load loaded state: running", mark(Signal.DESTINATION)),
    ("8.1..11.0", "loadvm_approve_switchover Switchover ack pending num=0", mark(Signal.DESTINATION)),
    ("11.1..", "loadvm_approve_switchover Approver 0000:00:05.0/vfio", mark(Signal.DESTINATION)),
    ("2.5..", "loadvm_postcopy_handle_advise ", mark(Signal.DESTINATION)),
    ("2.5..6.2", "loadvm_postcopy_handle_listen ", mark(Signal.LOADS_POSTCOPY)),
    ("7.0..", "loadvm_postcopy_handle_listen after discard", mark(Signal.LOADS_POSTCOPY)),
    ("2.5..", "loadvm_postcopy_handle_run ", mark(Signal.LOADS_POSTCOPY)),
    ("3.0..", "loadvm_postcopy_handle_resume ", mark(Signal.DESTINATION)),
    ("2.5..", "postcopy_ram_listen_thread_start ", mark(Signal.DESTINATION)),
    ("2.5..", "postcopy_ram_listen_thread_exit ", mark(Signal.DESTINATION)),
    ("3.0..", "postcopy_pause_incoming ", mark(Signal.DESTINATION)),
    ("3.0..", "postcopy_pause_incoming_continued ", mark(Signal.DESTINATION)),
    (
        "8.2..",
        "vmstate_downtime_load type=non-iterable idstr=0000:00:02.0/vga instance_id=0 downtime=134",
        DeviceLoaded(NS, T, "non-iterable", "0000:00:02.0/vga", 0, 134),
    ),
    ("3.0..", "multifd_recv_thread_start 1", mark(Signal.DESTINATION)),
    ("9.2..", "multifd_recv_thread_end channel 0 packets 1204", mark(Signal.DESTINATION)),
    (
        "9.0..9.1",
        "multifd_recv_thread_end channel 0 packets 1204 normal pages 151002 zero pages 88",
        mark(Signal.DESTINATION),
    ),
    ("3.0..8.2", "multifd_recv_thread_end channel 0 packets 1204 pages 151002", mark(Signal.DESTINATION)),
    # QMP
    (
        "7.0..",
        'qmp_enter_migrate {"uri": "tcp:node2:49152"}',
        QmpCommand(NS, T, '{"uri": "tcp:node2:49152"}', "migrate"),
    ),
    *(
        ("7.0..", f"qmp_enter_{name} {{}}", QmpCommand(NS, T, "{}", name))
        for name in (
            "migrate_cancel",
            "migrate_set_parameters",
            "migrate_set_capabilities",
            "migrate_start_postcopy",
            "migrate_recover",
            "migrate_continue",
            "migrate_incoming",
            "stop",
            "cont",
        )
    ),
]


def decode(text: bytes, rows: tuple[EventLayout, ...] = LAYOUTS) -> Parsed:
    """Decode a text by a new decoder of a table, at time NS by thread T."""
    parsed = Decoder(ParserOptions(rows=rows)).decode(text)
    return parsed if parsed is None or isinstance(parsed, Malformed) else timed(parsed, NS, T)


@pytest.mark.parametrize(("line", "expected"), [(line, event) for _, line, event in EXAMPLES])
def test_example_reads_as_event(line: str, expected: Event) -> None:
    assert expected == decode(line.encode())


def test_every_row_has_example() -> None:
    shown = set()
    for versions, line, _ in EXAMPLES:
        rows = [row for row in LAYOUTS if (row.name, row.versions) == (line.partition(" ")[0], versions)]
        shown.add(next(row for row in rows if decode(line.encode(), (row,)) != MALFORMED))
    assert set(LAYOUTS) == shown


@pytest.mark.parametrize("row", LAYOUTS, ids=lambda row: f"{row.name} {row.versions}")
def test_row_is_well_formed(row: tuple[str, ...]) -> None:
    """Each conversion fills a field of its meaning, or none."""
    name, versions, layout, meaning, fields = row
    assert re.fullmatch(r"[a-z][a-z0-9_]*", name)
    assert re.fullmatch(r"\d+\.\d+\.\.(\d+\.\d+)?", versions)
    assert len(fields.split()) == len(re.findall(r"%[a-z]", layout.replace("%%", "")))
    if not isinstance(meaning, Signal):
        assert callable(meaning)
        assert {field for field in fields.split() if field != "_"} <= {*field_names(meaning), "final"}


@pytest.mark.parametrize("printed", ["88551.9", "1.31072e+06", "0", "inf", "4680821656496752412"])
def test_double_is_read_in_each_shape(printed: str) -> None:
    """printf's %g is short or has an exponent; SystemTap prints the bits of the double."""
    event = decode(f"migrate_transferred transferred 1 time_spent 2 bandwidth {printed} max_size -1".encode())
    assert Transferred(NS, T, 1, 2, None, -1) == event


# The vocabulary against QEMU's own declarations

Version = tuple[int, ...]


class Variant(NamedTuple):
    """A declaration of QEMU's trace-events files, and its releases; `last` is None if it is still there."""

    name: str
    first: str
    last: str | None
    arguments: tuple[str, ...]
    format: str

    @property
    def releases(self) -> tuple[Version, Version]:
        """The first and the last release."""
        return version(self.first), version(self.last or "99.0")


def version(text: str) -> Version:
    """Parse the number of a release."""
    return tuple(map(int, text.split(".")))


def c_format(text: str) -> str:
    """Join C's string literals and <inttypes.h>'s macros: `"max %" PRIu64 "."` is `max %u.`, without a length."""
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"|PRI([a-z])(?:32|64)', text)
    return re.sub(r"%[lz]+([a-z])", r"%\1", "".join(literal or macro for literal, macro in parts))


def declared() -> list[Variant]:
    """Return the declarations: facts of QEMU's trace-events and migration/trace-events, 2.0 to 11.1."""
    variants = []
    _, *lines = (DATA / "qemu-trace-variants.tsv").read_text(encoding="utf-8").splitlines()
    for line in lines:
        name, first, last, arguments, text = line.split("\t")
        names = () if arguments == "void" else tuple(each.split()[-1].lstrip("*") for each in arguments.split(","))
        variants.append(Variant(name, first, last or None, names, c_format(text)))
    return variants


VARIANTS: Final = declared()
#: The one event in the vocabulary that QEMU does not print: our probes do.
OURS: Final = "postcopy_requests"

#: Field of an event → QEMU's names of the argument it is filled from, whichever a release has.
ARGUMENTS: Final[dict[type, dict[str, set[str]]]] = {
    StateSet: {"state": {"new_state"}},
    ErrorSet: {"text": {"error_desc"}},
    ChannelFailed: {"text": {"err"}},
    RunStateSet: {"state": {"new_state_str", "new_state"}, "before": {"current_run_state_str", "current_state_str"}},
    LoadReturned: {"ret": {"ret"}, "postcopy": {"ps", "postcopy_state"}},
    DeviceLoaded: {
        "kind": {"type"},
        "idstr": {"idstr"},
        "instance_id": {"instance_id"},
        "downtime_us": {"downtime"},
    },
    Pending: {"size": {"size", "total"}, "threshold": {"max"}, "final": {"final"}},
    Transferred: {
        "transferred": {"tranferred", "transferred"},
        "time_spent_ms": {"time_spent"},
        "switchover_bandwidth": {"avail_bw"},
        "threshold": {"size"},
    },
    SyncEnded: {"dirty_pages": {"dirty_pages"}},
    LowPending: {"pending": {"pending"}},
    SectionStarted: {"idstr": {"id"}, "section_id": {"section_id"}},
    SectionEnded: {"idstr": {"id"}, "section_id": {"section_id"}},
    DeviceSaved: {"idstr": {"idstr"}, "vmsd_name": {"vmsd_name"}},
    DeviceDowntime: {
        "kind": {"type"},
        "idstr": {"idstr"},
        "instance_id": {"instance_id"},
        "downtime_us": {"downtime"},
    },
    Pinged: {"value": {"val"}},
    ThrottleSet: {"percentage": {"new_throttle_pct"}},
    QmpCommand: {"arguments": {"json"}},
}

#: Values that mean something of their own, beside any others.
VALUES: Final[dict[tuple[str, str], list[Any]]] = {
    ("migration_completion_postcopy_end_after_rp", "d"): [0, 1],
    ("migration_return_path_end_after", "d"): [0, 1],
    ("migrate_set_state", "d"): [1],
    ("runstate_set", "d"): [7, 10],
    ("runstate_set", "s"): ["finish-migrate", "running"],
    ("vmstate_downtime_checkpoint", "s"): [
        "src-downtime-start",
        "src-vm-stopped",
        "src-iterable-saved",
        "src-non-iterable-saved",
        "src-downtime-end",
        "dst-precopy-loadvm-completed",
        "dst-precopy-bh-vm-started",
        "dst-precopy-bh-enter",
        "dst-postcopy-bh-enter",
        "src-something-new",
    ],
}


def printed(variant: Variant) -> list[tuple[dict[str, Any], bytes]]:
    """Print an event with values that identify its arguments: by name, and as the line has them."""
    conversions = re.findall(r"%([a-z])", variant.format.replace("%%", ""))
    assert len(conversions) == len(variant.arguments)
    choices = [
        VALUES.get((variant.name, conversion)) or [{"s": f"a-b_{place}", "g": 88551.5}.get(conversion, place + 100)]
        for place, conversion in enumerate(conversions)
    ]
    text = variant.format.replace("%p", "%#x")
    return [
        (dict(zip(variant.arguments, values, strict=True)), (text % values).encode()) for values in product(*choices)
    ]


def rows_of(variant: Variant) -> set[EventLayout]:
    """Return the first rows that read what a variant prints, among those of its releases."""
    first, last = variant.releases
    rows = [row for row in LAYOUTS if row.name == variant.name and covers(row, first, last)]
    found = set()
    for _, line in printed(variant):
        reading = [row for row in rows if decode(row.name.encode() + b" " + line, (row,)) != MALFORMED]
        assert reading, f"{variant.name} {variant.first}..{variant.last or ''} has no row for {line!r}"
        found.add(reading[0])
    return found


def covers(row: EventLayout, first: Version, last: Version) -> bool:
    """Return whether a row is of all of these releases."""
    since, until = releases(row)
    return since <= first and last <= until


def releases(row: EventLayout) -> tuple[Version, Version]:
    """Return the first and the last release of a row."""
    since, _, until = row.versions.partition("..")
    return version(since), version(until or "99.0")


def expected(meaning: type, variant: Variant, values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event printed with these values; missing values are None."""
    fields: dict[str, Any] = {}
    for field, names in ARGUMENTS[meaning].items():
        given = names & set(variant.arguments)
        assert len(given) <= 1 or meaning is RunStateSet
        fields[field] = values[given.pop()] if given else None
    if meaning is Pending:  # up to 2.11 `post` is all memory, whether post-copy is enabled or not
        fields["postcopy"] = next(
            (values[name] for name in ("compat", "postcopy", "post") if name in values and "nonpost" not in values),
            None,
        )
    if meaning is RunStateSet:
        run_states = {7: "finish-migrate", 10: "save-vm"}
        fields["state"] = values.get("new_state_str") or run_states[values["new_state"]]
    if fields.get("state") == 1:
        fields["state"] = "setup"  # a number, up to 2.10
    return fields


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda each: f"{each.name} {each.first}..{each.last or ''}")
def test_declaration_reads_as_row(variant: Variant) -> None:
    """Printed as QEMU's C would, each field comes from the argument of that name."""
    rows = rows_of(variant)
    for values, line in printed(variant):
        event = decode(variant.name.encode() + b" " + line)
        assert event is not None
        assert not isinstance(event, Malformed)
        assert (NS, T) == event[:2]
        if isinstance(event, SignalEvent):
            assert event.mark in {row.meaning for row in rows}
        else:
            fields = event._asdict()
            wanted = expected(type(event), variant, values)
            assert wanted == {field: fields[field] for field in wanted}
            assert set(fields) - set(wanted) <= {"at_ns", "thread", "cumulative", "name"}


def test_every_name_is_declared_by_qemu() -> None:
    """Except for the event that our probes print for page requests."""
    assert {row.name for row in LAYOUTS} - {OURS} == {variant.name for variant in VARIANTS}


def test_row_covers_its_declarations() -> None:
    ranges: dict[EventLayout, list[tuple[Version, Version]]] = {row: [] for row in LAYOUTS if row.name != OURS}
    for variant in VARIANTS:
        for row in rows_of(variant):
            ranges[row].append(variant.releases)
    assert [] == [row for row, found in ranges.items() if not found]
    assert {row: releases(row) for row in ranges} == {
        row: (min(first for first, _ in found), max(last for _, last in found)) for row, found in ranges.items()
    }


def test_meanings_have_names_for_a_configuration() -> None:
    named = meanings()
    assert (named["iterate"], named["state_set"], named["device_downtime"]) == (
        Signal.ITERATE,
        StateSet,
        DeviceDowntime,
    )
