"""The table of QEMU's trace events: name and argument layout by version → meaning.

A row is an event as QEMU's trace-events files declare it, its format string without C's length modifiers. Each
conversion in the format fills the field at the same place in `fields`; "_" marks an unused value. Rows of the same
name are tried in order.

Source: trace-events (to 2.6), migration/trace-events (since 2.7) of QEMU 2.0 to 11.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

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
    RunStateNumbered,
    RunStateSet,
    SectionEnded,
    SectionStarted,
    StateNumbered,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)
from qemu_migration_exporter.core.terms import Signal


class EventLayout(NamedTuple):
    """One layout of one event.

    Attributes:
        name: The event's name.
        versions: First and last QEMU release with this layout, "2.11.." for a layout still in use.
        format: QEMU's format string, `%lu` and the like written `%u`.
        meaning: The mark, or the type of event to make of the fields.
        fields: A field of `meaning` for each conversion, separated by blanks.
    """

    name: str
    versions: str
    format: str
    meaning: Signal | Callable[..., Event]
    fields: str = ""


_TRANSFERRED = "transferred %u time_spent %u bandwidth %u switchover_bw %u max_size %d"

# fmt: off
LAYOUTS: tuple[EventLayout, ...] = (
    # State, outcome, errors
    EventLayout("migrate_set_state", "2.0..2.10", "new state %d", StateNumbered, "number"),
    EventLayout("migrate_set_state", "2.11..", "new state %w", StateSet, "state"),
    EventLayout("migrate_fd_error", "2.0..2.6", "", ErrorSet),
    EventLayout("migrate_fd_error", "2.7..9.0", "error=%s", ErrorSet, "text"),
    EventLayout("migrate_error", "9.1..", "error=%s", ErrorSet, "text"),
    EventLayout("migrate_fd_cancel", "2.0..9.2", "", Signal.CANCEL),
    EventLayout("migration_cancel", "10.0..", "", Signal.CANCEL),
    EventLayout("migrate_fd_cleanup", "2.0..9.2", "", Signal.CLEANUP),
    EventLayout("migration_cleanup", "10.0..", "", Signal.CLEANUP),
    EventLayout("migration_thread_file_err", "2.5..", "", Signal.FAILING),
    EventLayout("migration_completion_file_err", "2.5..", "", Signal.FAILING),
    EventLayout("migration_call_notifiers", "11.0..", "type=%d", Signal.OTHER, "_"),
    EventLayout("migration_block_activation", "10.0..", "%s", Signal.OTHER, "_"),

    # Setup
    EventLayout("migration_socket_outgoing_connected", "2.7..10.2", "hostname=%s", Signal.CONNECTED, "_"),
    EventLayout("migration_socket_outgoing_connected", "11.0..", "", Signal.CONNECTED),
    EventLayout("migration_socket_outgoing_error", "2.7..", "error=%s", ChannelFailed, "text"),
    EventLayout("migration_fd_outgoing", "2.7..", "fd=%d", Signal.OUTGOING, "_"),
    EventLayout("migration_exec_outgoing", "2.7..", "cmd=%s", Signal.OUTGOING, "_"),
    EventLayout("migration_file_outgoing", "8.2..", "filename=%s", Signal.TO_FILE, "_"),
    EventLayout("migration_set_outgoing_channel", "2.12..10.2", "ioc=%s ioctype=%s hostname=%s err=%s", Signal.CONNECTED,
        "_ _ _ _"),
    EventLayout("migration_set_outgoing_channel", "2.7..2.11", "ioc=%s ioctype=%s hostname=%s", Signal.CONNECTED, "_ _ _"),
    EventLayout("migration_set_outgoing_channel", "11.0..", "ioc=%s ioctype=%s", Signal.CONNECTED, "_ _"),
    EventLayout("migration_tls_outgoing_handshake_start", "2.7..10.2", "hostname=%s", Signal.OUTGOING, "_"),
    EventLayout("migration_tls_outgoing_handshake_start", "11.0..", "", Signal.OUTGOING),
    EventLayout("migration_tls_outgoing_handshake_complete", "2.7..", "", Signal.OUTGOING),
    EventLayout("migration_tls_outgoing_handshake_error", "2.7..", "err=%s", ChannelFailed, "text"),
    EventLayout("open_return_path_on_source", "2.5..", "", Signal.CONNECTED),
    EventLayout("open_return_path_on_source_continue", "2.5..", "", Signal.CONNECTED),
    EventLayout("savevm_state_header", "2.4..", "", Signal.HEADER),
    EventLayout("savevm_state_begin", "2.0..2.9", "", Signal.SETUP_BEGIN),
    EventLayout("savevm_state_setup", "2.10..", "", Signal.SETUP_BEGIN),
    EventLayout("migration_thread_setup_complete", "2.5..", "", Signal.SETUP_COMPLETE),

    # Iteration, dirty bitmap, bandwidth, throttle
    EventLayout("migrate_pending", "2.0..2.4", "pending size %u max %u", Pending, "size threshold"),
    EventLayout("migrate_pending", "2.5..2.11", "pending size %u max %u (post=%u nonpost=%u)", Pending, "size threshold _ _"),
    EventLayout("migrate_pending", "2.12..7.2", "pending size %u max %u (pre = %u compat=%u post=%u)", Pending,
        "size threshold _ postcopy _"),
    EventLayout("migrate_pending_estimate", "8.0..11.0", "estimate pending size %u (pre = %u post=%u)", Pending,
        "size _ postcopy"),
    EventLayout("migrate_pending_exact", "8.0..11.0", "exact pending size %u (pre = %u post=%u)", Pending, "size _ postcopy"),
    EventLayout("qemu_savevm_query_pending", "11.1..",
        "exact=%d, final=%d, precopy=%u, stopcopy=%u, postcopy=%u, total=%u,"
        " collected switchover ack pending=%u, total switchover ack pending=%u",
        Pending, "_ final _ _ postcopy size _ _"),
    EventLayout("migrate_transferred", "8.2..", _TRANSFERRED, Transferred,
        "transferred time_spent_ms _ switchover_bandwidth threshold"),
    # The bandwidth is a double to 2.12 and an integer later; %g prints a whole double like an integer.
    EventLayout("migrate_transferred", "2.0..8.1", "transferred %u time_spent %u bandwidth %g max_size %d", Transferred,
        "transferred time_spent_ms _ threshold"),
    EventLayout("savevm_state_iterate", "2.0..", "", Signal.ITERATE),
    EventLayout("savevm_section_start", "2.0..", "%s, section_id %u", SectionStarted, "idstr section_id"),
    EventLayout("savevm_section_end", "2.3..", "%s, section_id %u -> %d", SectionEnded, "idstr section_id _"),
    EventLayout("savevm_section_end", "2.0..2.2", "%s, section_id %u", SectionEnded, "idstr section_id"),
    EventLayout("savevm_section_skip", "2.4..", "%s, section_id %u", Signal.OTHER, "_ _"),
    EventLayout("migration_bitmap_sync_start", "2.0..", "", Signal.SYNC_START),
    EventLayout("migration_bitmap_sync_end", "2.0..", "dirty_pages %u", SyncEnded, "dirty_pages"),
    EventLayout("migration_throttle", "2.0..", "", Signal.THROTTLE),
    EventLayout("cpu_throttle_set", "9.2..", "set guest CPU throttled by %d%%", ThrottleSet, "percentage"),
    EventLayout("cpu_throttle_dirty_sync", "9.2..", "", Signal.THROTTLE_SYNC),
    EventLayout("migration_dirty_limit_guest", "8.1..", "guest dirty page rate limit %d MB/s", Signal.DIRTY_LIMITED,
        "_"),
    EventLayout("ram_save_iterate_big_wait", "2.9..", "big wait: %u milliseconds, %d iterations", Signal.OTHER, "_ _"),

    # Completion, device state, downtime
    EventLayout("migration_thread_low_pending", "2.5..", "%u", LowPending, "pending"),
    EventLayout("migration_completion_vm_stop", "6.1..", "ret %d", Signal.VM_STOPPED, "_"),
    EventLayout("vm_stop_flush_all", "6.2..", "ret %d", Signal.OTHER, "_"),
    EventLayout("runstate_set", "4.0..", "current_run_state %d (%w) new_state %d (%w)", RunStateSet, "_ before _ state"),
    EventLayout("runstate_set", "2.0..3.1", "new state %d", RunStateNumbered, "number"),
    EventLayout("savevm_state_complete", "2.0..2.4", "", Signal.COMPLETE),
    EventLayout("savevm_state_complete_precopy", "2.5..9.2", "", Signal.COMPLETE),
    EventLayout("migration_precopy_complete", "10.0..", "", Signal.COMPLETE),
    EventLayout("savevm_send_switchover_start", "10.0..", "", Signal.OUTGOING),
    EventLayout("vmstate_save", "2.0..", "%s, %s", DeviceSaved, "idstr vmsd_name"),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "src-downtime-start", Signal.DOWNTIME_START),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "src-vm-stopped", Signal.VM_STOPPED),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "src-iterable-saved", Signal.ITERABLE_SAVED),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "src-non-iterable-saved", Signal.ALL_SAVED),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "src-downtime-end", Signal.DOWNTIME_END),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "dst-precopy-loadvm-completed", Signal.LOADED),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "dst-precopy-bh-vm-started", Signal.GUEST_STARTED),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "dst-postcopy-%s", Signal.LOADS_POSTCOPY, "_"),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "dst-%s", Signal.DESTINATION, "_"),
    EventLayout("vmstate_downtime_checkpoint", "8.2..", "%w", Signal.OTHER, "_"),  # of a later release
    EventLayout("vmstate_downtime_save", "8.2..", "type=%s idstr=%s instance_id=%d downtime=%d", DeviceDowntime,
        "kind idstr instance_id downtime_us"),
    EventLayout("ram_save_complete", "10.1..", "dirty=%u, done=%d", Signal.OTHER, "_ _"),
    EventLayout("migration_thread_after_loop", "2.5..", "", Signal.AFTER_LOOP),
    EventLayout("savevm_state_cancel", "2.0..2.4", "", Signal.CLEANUP),
    EventLayout("savevm_state_cleanup", "2.5..", "", Signal.CLEANUP),

    # Post-copy
    EventLayout("postcopy_start", "2.5..", "", Signal.POSTCOPY_START),
    EventLayout("postcopy_start_set_run", "2.5..", "", Signal.POSTCOPY_SET_RUN),
    EventLayout("savevm_send_ping", "2.10..", "0x%x", Pinged, "value"),
    EventLayout("savevm_send_ping", "2.5..2.9", "%x", Pinged, "value"),
    EventLayout("migrate_handle_rp_req_pages", "2.10..", "in %s at 0x%x len 0x%x", Signal.POSTCOPY_REQUEST, "_ _ _"),
    EventLayout("migrate_handle_rp_req_pages", "2.5..2.9", "in %s at %x len %x", Signal.POSTCOPY_REQUEST, "_ _ _"),
    EventLayout("postcopy_requests", "2.5..", "%u", PostcopyRequests, "requests"),  # not QEMU's: the probes shipped here count
    EventLayout("savevm_send_postcopy_listen", "2.5..", "", Signal.POSTCOPY_LISTEN),
    EventLayout("savevm_send_postcopy_run", "2.5..", "", Signal.POSTCOPY_RUN),

    # The return path; a zero at its end is success
    EventLayout("source_return_path_thread_entry", "2.5..", "", Signal.OUTGOING),
    EventLayout("source_return_path_thread_pong", "2.10..", "0x%x", Signal.OUTGOING, "_"),
    EventLayout("source_return_path_thread_pong", "2.5..2.9", "%x", Signal.OUTGOING, "_"),
    EventLayout("source_return_path_thread_switchover_acked", "8.1..11.0", "", Signal.OUTGOING),
    EventLayout("source_return_path_thread_switchover_acked", "11.1..", "switchover_ack_pending_num %u", Signal.OUTGOING, "_"),
    EventLayout("source_return_path_thread_postcopy_package_loaded", "10.2..", "", Signal.OUTGOING),
    EventLayout("source_return_path_thread_shut", "2.10..", "0x%x", Signal.OUTGOING, "_"),
    EventLayout("source_return_path_thread_shut", "2.5..2.9", "%x", Signal.OUTGOING, "_"),
    EventLayout("source_return_path_thread_bad_end", "2.5..", "", Signal.BAD_END),
    EventLayout("source_return_path_thread_end", "2.5..", "", Signal.OUTGOING),
    EventLayout("migration_completion_postcopy_end", "2.5..", "", Signal.POSTCOPY_END),
    EventLayout("migration_completion_postcopy_end_after_complete", "2.5..", "", Signal.POSTCOPY_END),
    EventLayout("migration_completion_postcopy_end_before_rp", "2.5..2.9", "", Signal.POSTCOPY_END),
    EventLayout("migration_completion_postcopy_end_after_rp", "2.5..2.9", "0", Signal.OUTGOING),
    EventLayout("migration_completion_postcopy_end_after_rp", "2.5..2.9", "%d", Signal.FAILING, "_"),
    EventLayout("await_return_path_close_on_source_close", "2.5..8.1", "", Signal.ALL_SAVED),
    EventLayout("await_return_path_close_on_source_joining", "2.5..8.1", "", Signal.OUTGOING),
    EventLayout("migration_return_path_end_before", "2.10..", "", Signal.ALL_SAVED),
    EventLayout("migration_return_path_end_after", "2.10..8.1", "0", Signal.OUTGOING),
    EventLayout("migration_return_path_end_after", "2.10..8.1", "%d", Signal.FAILING, "_"),
    EventLayout("migration_return_path_end_after", "8.2..", "", Signal.OUTGOING),

    # Post-copy pauses when its connection breaks, and continues over another: the same migration
    EventLayout("postcopy_pause_return_path", "3.0..", "", Signal.OUTGOING),
    EventLayout("postcopy_pause_return_path_continued", "3.0..", "", Signal.POSTCOPY_RESUMED),
    EventLayout("savevm_state_resume_prepare", "3.0..", "", Signal.POSTCOPY_RESUMED),
    EventLayout("ram_dirty_bitmap_sync_start", "3.0..", "", Signal.OUTGOING),
    EventLayout("ram_dirty_bitmap_sync_wait", "3.0..", "", Signal.OUTGOING),
    EventLayout("ram_dirty_bitmap_sync_complete", "3.0..", "", Signal.OUTGOING),
    EventLayout("ram_state_resume_prepare", "3.0..", "%d", Signal.POSTCOPY_RESUMED, "_"),
    EventLayout("savevm_send_postcopy_resume", "3.0..", "", Signal.POSTCOPY_RESUMED),
    EventLayout("source_return_path_thread_resume_ack", "3.0..", "%u", Signal.POSTCOPY_RESUMED, "_"),
    EventLayout("postcopy_pause_continued", "3.0..", "", Signal.POSTCOPY_RESUMED),

    # The threads of multifd
    EventLayout("multifd_send_thread_start", "3.0..", "%u", Signal.OUTGOING, "_"),
    EventLayout("multifd_send_error", "4.2..", "channel %u", Signal.FAILING, "_"),
    EventLayout("multifd_send_terminate_threads", "4.2..8.2", "error %d", Signal.OUTGOING, "_"),
    EventLayout("multifd_send_terminate_threads", "9.0..", "", Signal.OUTGOING),
    EventLayout("multifd_send_thread_end", "9.2..", "channel %u packets %u", Signal.OUTGOING, "_ _"),
    EventLayout("multifd_send_thread_end", "9.0..9.1", "channel %u packets %u normal pages %u zero pages %u", Signal.OUTGOING,
        "_ _ _ _"),
    EventLayout("multifd_send_thread_end", "7.0..8.2", "channel %u packets %u normal pages %u", Signal.OUTGOING, "_ _ _"),
    EventLayout("multifd_send_thread_end", "3.0..6.2", "channel %u packets %u pages %u", Signal.OUTGOING, "_ _ _"),

    # Destination only; the loadvm_* events are printed for a snapshot too
    EventLayout("migration_socket_incoming_accepted", "2.7..", "", Signal.INCOMING),
    EventLayout("migration_set_incoming_channel", "2.7..", "ioc=%s ioctype=%s", Signal.INCOMING, "_ _"),
    EventLayout("migration_fd_incoming", "2.7..", "fd=%d", Signal.INCOMING, "_"),
    EventLayout("migration_exec_incoming", "2.7..", "cmd=%s", Signal.INCOMING, "_"),
    EventLayout("migration_file_incoming", "8.2..", "filename=%s", Signal.INCOMING, "_"),
    EventLayout("loadvm_state_setup", "2.10..", "", Signal.DESTINATION),
    EventLayout("loadvm_state_cleanup", "2.10..", "", Signal.LOAD_CLEANUP),
    EventLayout("process_incoming_migration_co_end", "2.5..10.1", "ret=%d postcopy-state=%d", LoadReturned, "ret postcopy"),
    EventLayout("process_incoming_migration_co_end", "10.2..", "ret=%d", LoadReturned, "ret"),
    EventLayout("process_incoming_migration_co_postcopy_end_main", "2.5..", "", Signal.LOADS_POSTCOPY),
    EventLayout("migration_tls_incoming_handshake_start", "2.7..", "", Signal.DESTINATION),
    EventLayout("migration_tls_incoming_handshake_complete", "2.7..", "", Signal.DESTINATION),
    EventLayout("migration_tls_incoming_handshake_error", "2.7..", "err=%s", Signal.DESTINATION, "_"),
    EventLayout("migrate_global_state_post_load", "2.4..", "loaded state: %s", Signal.DESTINATION, "_"),
    EventLayout("loadvm_approve_switchover", "8.1..11.0", "Switchover ack pending num=%u", Signal.DESTINATION, "_"),
    EventLayout("loadvm_approve_switchover", "11.1..", "Approver %s", Signal.DESTINATION, "_"),
    EventLayout("loadvm_postcopy_handle_advise", "2.5..", "", Signal.DESTINATION),
    EventLayout("loadvm_postcopy_handle_listen", "2.5..6.2", "", Signal.LOADS_POSTCOPY),
    EventLayout("loadvm_postcopy_handle_listen", "7.0..", "%s", Signal.LOADS_POSTCOPY, "_"),
    EventLayout("loadvm_postcopy_handle_run", "2.5..", "", Signal.LOADS_POSTCOPY),
    EventLayout("loadvm_postcopy_handle_resume", "3.0..", "", Signal.DESTINATION),
    EventLayout("postcopy_ram_listen_thread_start", "2.5..", "", Signal.DESTINATION),
    EventLayout("postcopy_ram_listen_thread_exit", "2.5..", "", Signal.DESTINATION),
    EventLayout("postcopy_pause_incoming", "3.0..", "", Signal.DESTINATION),
    EventLayout("postcopy_pause_incoming_continued", "3.0..", "", Signal.DESTINATION),
    EventLayout("vmstate_downtime_load", "8.2..", "type=%s idstr=%s instance_id=%d downtime=%d", DeviceLoaded,
        "kind idstr instance_id downtime_us"),
    EventLayout("multifd_recv_thread_start", "3.0..", "%u", Signal.DESTINATION, "_"),
    EventLayout("multifd_recv_thread_end", "9.2..", "channel %u packets %u", Signal.DESTINATION, "_ _"),
    EventLayout("multifd_recv_thread_end", "9.0..9.1", "channel %u packets %u normal pages %u zero pages %u", Signal.DESTINATION,
        "_ _ _ _"),
    EventLayout("multifd_recv_thread_end", "3.0..8.2", "channel %u packets %u pages %u", Signal.DESTINATION, "_ _ _"),

    # QMP, as the monitor reads it (7.0 and later)
    *(
        EventLayout(f"qmp_enter_{command}", "7.0..", "%s", partial(QmpCommand, name=command), "arguments")
        for command in ("migrate", "migrate_cancel", "migrate_set_parameters", "migrate_set_capabilities",
                        "migrate_start_postcopy", "migrate_recover", "migrate_continue", "migrate_incoming", "stop", "cont")
    ),
)
# fmt: on


def meanings() -> dict[str, Signal | Callable[..., Event]]:
    """Return every meaning by its name in a configuration.

    A signal has its value as its name. A type of event has its own name in snake case: `StateSet` is `state_set`.
    """
    kinds = {row.meaning for row in LAYOUTS if isinstance(row.meaning, type)}
    named: dict[str, Signal | Callable[..., Event]] = {mark.value: mark for mark in Signal}
    for kind in kinds:
        named[re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()] = kind
    return named
