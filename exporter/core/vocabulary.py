"""The one table of QEMU's trace events: name and argument layout by version → meaning.

A row is an event as QEMU's trace-events files declare it, its format string with C's length
modifiers left out. Each conversion in the format fills the field of the same place in
`fields`; "_" is a value nobody asks for. Rows of one name are tried in order.

Source: trace-events (to 2.6), migration/trace-events (since 2.7) of QEMU 2.0 to 11.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from exporter.core.events import (
    DeviceDowntime,
    DeviceSaved,
    ErrorSet,
    Event,
    LowPending,
    Mark,
    Pending,
    Pinged,
    PostcopyRequests,
    QmpCommand,
    SectionEnded,
    SectionStarted,
    StateNumbered,
    StateSet,
    SyncEnded,
    ThrottleSet,
    Transferred,
)


class Row(NamedTuple):
    """One layout of one event.

    Attributes:
        name: The event's name.
        versions: First and last QEMU release with this layout, "2.11.." for one still in use.
        format: QEMU's format string, `%lu` and the like written `%u`.
        meaning: The mark, or the type of event to make of the fields.
        fields: A field of `meaning` for each conversion, separated by blanks.
    """

    name: str
    versions: str
    format: str
    meaning: Mark | Callable[..., Event]
    fields: str = ""


_TRANSFERRED = "transferred %u time_spent %u bandwidth %u switchover_bw %u max_size %d"

# fmt: off
ROWS: tuple[Row, ...] = (
    # State, outcome, errors
    Row("migrate_set_state", "2.0..2.10", "new state %d", StateNumbered, "number"),
    Row("migrate_set_state", "2.11..", "new state %w", StateSet, "state"),
    Row("migrate_fd_error", "2.0..2.6", "", ErrorSet),
    Row("migrate_fd_error", "2.7..9.0", "error=%s", ErrorSet, "text"),
    Row("migrate_error", "9.1..", "error=%s", ErrorSet, "text"),
    Row("migrate_fd_cancel", "2.0..9.2", "", Mark.CANCEL),
    Row("migration_cancel", "10.0..", "", Mark.CANCEL),
    Row("migrate_fd_cleanup", "2.0..9.2", "", Mark.CLEANUP),
    Row("migration_cleanup", "10.0..", "", Mark.CLEANUP),
    Row("migration_thread_file_err", "2.5..", "", Mark.FAILING),
    Row("migration_completion_file_err", "2.5..", "", Mark.FAILING),
    Row("migration_call_notifiers", "11.0..", "type=%d", Mark.OTHER, "_"),
    Row("migration_block_activation", "10.0..", "%s", Mark.OTHER, "_"),

    # Setup
    Row("migration_socket_outgoing_connected", "2.7..10.2", "hostname=%s", Mark.OUTGOING, "_"),
    Row("migration_socket_outgoing_connected", "11.0..", "", Mark.OUTGOING),
    Row("migration_socket_outgoing_error", "2.7..", "error=%s", Mark.OUTGOING, "_"),
    Row("migration_fd_outgoing", "2.7..", "fd=%d", Mark.OUTGOING, "_"),
    Row("migration_exec_outgoing", "2.7..", "cmd=%s", Mark.OUTGOING, "_"),
    Row("migration_file_outgoing", "8.2..", "filename=%s", Mark.OUTGOING, "_"),
    Row("migration_set_outgoing_channel", "2.12..10.2", "ioc=%s ioctype=%s hostname=%s err=%s", Mark.OUTGOING,
        "_ _ _ _"),
    Row("migration_set_outgoing_channel", "2.7..2.11", "ioc=%s ioctype=%s hostname=%s", Mark.OUTGOING, "_ _ _"),
    Row("migration_set_outgoing_channel", "11.0..", "ioc=%s ioctype=%s", Mark.OUTGOING, "_ _"),
    Row("migration_tls_outgoing_handshake_start", "2.7..10.2", "hostname=%s", Mark.OUTGOING, "_"),
    Row("migration_tls_outgoing_handshake_start", "11.0..", "", Mark.OUTGOING),
    Row("migration_tls_outgoing_handshake_complete", "2.7..", "", Mark.OUTGOING),
    Row("migration_tls_outgoing_handshake_error", "2.7..", "err=%s", Mark.FAILING, "_"),
    Row("open_return_path_on_source", "2.5..", "", Mark.OUTGOING),
    Row("open_return_path_on_source_continue", "2.5..", "", Mark.OUTGOING),
    Row("savevm_state_header", "2.4..", "", Mark.HEADER),
    Row("savevm_state_begin", "2.0..2.9", "", Mark.SETUP_BEGIN),
    Row("savevm_state_setup", "2.10..", "", Mark.SETUP_BEGIN),
    Row("migration_thread_setup_complete", "2.5..", "", Mark.SETUP_COMPLETE),

    # Iteration, dirty bitmap, bandwidth, throttle
    Row("migrate_pending", "2.0..2.4", "pending size %u max %u", Pending, "size threshold"),
    Row("migrate_pending", "2.5..2.11", "pending size %u max %u (post=%u nonpost=%u)", Pending, "size threshold _ _"),
    Row("migrate_pending", "2.12..7.2", "pending size %u max %u (pre = %u compat=%u post=%u)", Pending,
        "size threshold _ postcopy _"),
    Row("migrate_pending_estimate", "8.0..11.0", "estimate pending size %u (pre = %u post=%u)", Pending,
        "size _ postcopy"),
    Row("migrate_pending_exact", "8.0..11.0", "exact pending size %u (pre = %u post=%u)", Pending, "size _ postcopy"),
    Row("qemu_savevm_query_pending", "11.1..",
        "exact=%d, final=%d, precopy=%u, stopcopy=%u, postcopy=%u, total=%u,"
        " collected switchover ack pending=%u, total switchover ack pending=%u",
        Pending, "_ _ _ _ postcopy size _ _"),
    Row("migrate_transferred", "8.2..", _TRANSFERRED, Transferred,
        "transferred time_spent_ms bandwidth switchover_bandwidth threshold"),
    # The bandwidth is a double to 2.12, and %g prints a whole one like the integer it is since.
    Row("migrate_transferred", "2.0..8.1", "transferred %u time_spent %u bandwidth %g max_size %d", Transferred,
        "transferred time_spent_ms bandwidth threshold"),
    Row("savevm_state_iterate", "2.0..", "", Mark.ITERATE),
    Row("savevm_section_start", "2.0..", "%s, section_id %u", SectionStarted, "idstr section_id"),
    Row("savevm_section_end", "2.3..", "%s, section_id %u -> %d", SectionEnded, "idstr section_id _"),
    Row("savevm_section_end", "2.0..2.2", "%s, section_id %u", SectionEnded, "idstr section_id"),
    Row("savevm_section_skip", "2.4..", "%s, section_id %u", Mark.OTHER, "_ _"),
    Row("migration_bitmap_sync_start", "2.0..", "", Mark.SYNC_START),
    Row("migration_bitmap_sync_end", "2.0..", "dirty_pages %u", SyncEnded, "dirty_pages"),
    Row("migration_throttle", "2.0..", "", Mark.THROTTLE),
    Row("cpu_throttle_set", "9.2..", "set guest CPU throttled by %d%%", ThrottleSet, "percentage"),
    Row("cpu_throttle_dirty_sync", "9.2..", "", Mark.THROTTLE_SYNC),
    Row("migration_dirty_limit_guest", "8.1..", "guest dirty page rate limit %d MB/s", Mark.OTHER, "_"),
    Row("ram_save_iterate_big_wait", "2.9..", "big wait: %u milliseconds, %d iterations", Mark.OTHER, "_ _"),

    # Completion, device state, downtime
    Row("migration_thread_low_pending", "2.5..", "%u", LowPending, "pending"),
    Row("migration_completion_vm_stop", "6.1..", "ret %d", Mark.VM_STOPPED, "_"),
    Row("vm_stop_flush_all", "6.2..", "ret %d", Mark.OTHER, "_"),
    Row("runstate_set", "4.0..", "current_run_state %d (%w) new_state %d (finish-migrate)", Mark.VM_STOPPING, "_ _ _"),
    Row("runstate_set", "4.0..", "current_run_state %d (%w) new_state %d (%w)", Mark.OTHER, "_ _ _ _"),
    Row("runstate_set", "2.0..3.1", "new state 7", Mark.VM_STOPPING),  # RUN_STATE_FINISH_MIGRATE
    Row("runstate_set", "2.0..3.1", "new state %d", Mark.OTHER, "_"),
    Row("savevm_state_complete", "2.0..2.4", "", Mark.COMPLETE),
    Row("savevm_state_complete_precopy", "2.5..9.2", "", Mark.COMPLETE),
    Row("migration_precopy_complete", "10.0..", "", Mark.COMPLETE),
    Row("savevm_send_switchover_start", "10.0..", "", Mark.OUTGOING),
    Row("vmstate_save", "2.0..", "%s, %s", DeviceSaved, "idstr vmsd_name"),
    Row("vmstate_downtime_checkpoint", "8.2..", "src-downtime-start", Mark.DOWNTIME_START),
    Row("vmstate_downtime_checkpoint", "8.2..", "src-vm-stopped", Mark.VM_STOPPED),
    Row("vmstate_downtime_checkpoint", "8.2..", "src-iterable-saved", Mark.ITERABLE_SAVED),
    Row("vmstate_downtime_checkpoint", "8.2..", "src-non-iterable-saved", Mark.OUTGOING),
    Row("vmstate_downtime_checkpoint", "8.2..", "src-downtime-end", Mark.DOWNTIME_END),
    Row("vmstate_downtime_checkpoint", "8.2..", "dst-%s", Mark.DESTINATION, "_"),
    Row("vmstate_downtime_checkpoint", "8.2..", "%w", Mark.OTHER, "_"),  # of a later release
    Row("vmstate_downtime_save", "8.2..", "type=%s idstr=%s instance_id=%d downtime=%d", DeviceDowntime,
        "kind idstr instance_id downtime_us"),
    Row("ram_save_complete", "10.1..", "dirty=%u, done=%d", Mark.OTHER, "_ _"),
    Row("migration_thread_after_loop", "2.5..", "", Mark.AFTER_LOOP),
    Row("savevm_state_cancel", "2.0..2.4", "", Mark.CLEANUP),
    Row("savevm_state_cleanup", "2.5..", "", Mark.CLEANUP),

    # Post-copy
    Row("postcopy_start", "2.5..", "", Mark.POSTCOPY_START),
    Row("postcopy_start_set_run", "2.5..", "", Mark.POSTCOPY_SET_RUN),
    Row("savevm_send_ping", "2.10..", "0x%x", Pinged, "value"),
    Row("savevm_send_ping", "2.5..2.9", "%x", Pinged, "value"),
    Row("migrate_handle_rp_req_pages", "2.10..", "in %s at 0x%x len 0x%x", Mark.POSTCOPY_REQUEST, "_ _ _"),
    Row("migrate_handle_rp_req_pages", "2.5..2.9", "in %s at %x len %x", Mark.POSTCOPY_REQUEST, "_ _ _"),
    Row("postcopy_requests", "2.5..", "%u", PostcopyRequests, "requests"),  # not QEMU's: the probes shipped here count
    Row("savevm_send_postcopy_listen", "2.5..", "", Mark.OUTGOING),
    Row("savevm_send_postcopy_run", "2.5..", "", Mark.OUTGOING),

    # The return path; a zero at its end says that all is well
    Row("source_return_path_thread_entry", "2.5..", "", Mark.OUTGOING),
    Row("source_return_path_thread_pong", "2.10..", "0x%x", Mark.OUTGOING, "_"),
    Row("source_return_path_thread_pong", "2.5..2.9", "%x", Mark.OUTGOING, "_"),
    Row("source_return_path_thread_switchover_acked", "8.1..11.0", "", Mark.OUTGOING),
    Row("source_return_path_thread_switchover_acked", "11.1..", "switchover_ack_pending_num %u", Mark.OUTGOING, "_"),
    Row("source_return_path_thread_postcopy_package_loaded", "10.2..", "", Mark.OUTGOING),
    Row("source_return_path_thread_shut", "2.10..", "0x%x", Mark.OUTGOING, "_"),
    Row("source_return_path_thread_shut", "2.5..2.9", "%x", Mark.OUTGOING, "_"),
    Row("source_return_path_thread_bad_end", "2.5..", "", Mark.FAILING),
    Row("source_return_path_thread_end", "2.5..", "", Mark.OUTGOING),
    Row("migration_completion_postcopy_end", "2.5..", "", Mark.OUTGOING),
    Row("migration_completion_postcopy_end_after_complete", "2.5..", "", Mark.OUTGOING),
    Row("migration_completion_postcopy_end_before_rp", "2.5..2.9", "", Mark.OUTGOING),
    Row("migration_completion_postcopy_end_after_rp", "2.5..2.9", "0", Mark.OUTGOING),
    Row("migration_completion_postcopy_end_after_rp", "2.5..2.9", "%d", Mark.FAILING, "_"),
    Row("await_return_path_close_on_source_close", "2.5..8.1", "", Mark.OUTGOING),
    Row("await_return_path_close_on_source_joining", "2.5..8.1", "", Mark.OUTGOING),
    Row("migration_return_path_end_before", "2.10..", "", Mark.OUTGOING),
    Row("migration_return_path_end_after", "2.10..8.1", "0", Mark.OUTGOING),
    Row("migration_return_path_end_after", "2.10..8.1", "%d", Mark.FAILING, "_"),
    Row("migration_return_path_end_after", "8.2..", "", Mark.OUTGOING),

    # Post-copy pauses when its connection breaks, and goes on over another: the same migration
    Row("postcopy_pause_return_path", "3.0..", "", Mark.OUTGOING),
    Row("postcopy_pause_return_path_continued", "3.0..", "", Mark.POSTCOPY_RESUMED),
    Row("savevm_state_resume_prepare", "3.0..", "", Mark.POSTCOPY_RESUMED),
    Row("ram_dirty_bitmap_sync_start", "3.0..", "", Mark.OUTGOING),
    Row("ram_dirty_bitmap_sync_wait", "3.0..", "", Mark.OUTGOING),
    Row("ram_dirty_bitmap_sync_complete", "3.0..", "", Mark.OUTGOING),
    Row("ram_state_resume_prepare", "3.0..", "%d", Mark.POSTCOPY_RESUMED, "_"),
    Row("savevm_send_postcopy_resume", "3.0..", "", Mark.POSTCOPY_RESUMED),
    Row("source_return_path_thread_resume_ack", "3.0..", "%u", Mark.POSTCOPY_RESUMED, "_"),
    Row("postcopy_pause_continued", "3.0..", "", Mark.POSTCOPY_RESUMED),

    # The threads of multifd
    Row("multifd_send_thread_start", "3.0..", "%u", Mark.OUTGOING, "_"),
    Row("multifd_send_error", "4.2..", "channel %u", Mark.FAILING, "_"),
    Row("multifd_send_terminate_threads", "4.2..8.2", "error %d", Mark.OUTGOING, "_"),
    Row("multifd_send_terminate_threads", "9.0..", "", Mark.OUTGOING),
    Row("multifd_send_thread_end", "9.2..", "channel %u packets %u", Mark.OUTGOING, "_ _"),
    Row("multifd_send_thread_end", "9.0..9.1", "channel %u packets %u normal pages %u zero pages %u", Mark.OUTGOING,
        "_ _ _ _"),
    Row("multifd_send_thread_end", "7.0..8.2", "channel %u packets %u normal pages %u", Mark.OUTGOING, "_ _ _"),
    Row("multifd_send_thread_end", "3.0..6.2", "channel %u packets %u pages %u", Mark.OUTGOING, "_ _ _"),

    # The destination's own; loading a snapshot prints the loadvm_* ones too
    Row("migration_socket_incoming_accepted", "2.7..", "", Mark.INCOMING),
    Row("migration_set_incoming_channel", "2.7..", "ioc=%s ioctype=%s", Mark.INCOMING, "_ _"),
    Row("migration_fd_incoming", "2.7..", "fd=%d", Mark.INCOMING, "_"),
    Row("migration_exec_incoming", "2.7..", "cmd=%s", Mark.INCOMING, "_"),
    Row("migration_file_incoming", "8.2..", "filename=%s", Mark.INCOMING, "_"),
    Row("loadvm_state_setup", "2.10..", "", Mark.DESTINATION),
    Row("loadvm_state_cleanup", "2.10..", "", Mark.DESTINATION),
    Row("process_incoming_migration_co_end", "2.5..10.1", "ret=%d postcopy-state=%d", Mark.DESTINATION, "_ _"),
    Row("process_incoming_migration_co_end", "10.2..", "ret=%d", Mark.DESTINATION, "_"),
    Row("process_incoming_migration_co_postcopy_end_main", "2.5..", "", Mark.DESTINATION),
    Row("migration_tls_incoming_handshake_start", "2.7..", "", Mark.DESTINATION),
    Row("migration_tls_incoming_handshake_complete", "2.7..", "", Mark.DESTINATION),
    Row("migration_tls_incoming_handshake_error", "2.7..", "err=%s", Mark.DESTINATION, "_"),
    Row("migrate_global_state_post_load", "2.4..", "loaded state: %s", Mark.DESTINATION, "_"),
    Row("loadvm_approve_switchover", "8.1..11.0", "Switchover ack pending num=%u", Mark.DESTINATION, "_"),
    Row("loadvm_approve_switchover", "11.1..", "Approver %s", Mark.DESTINATION, "_"),
    Row("loadvm_postcopy_handle_advise", "2.5..", "", Mark.DESTINATION),
    Row("loadvm_postcopy_handle_listen", "2.5..6.2", "", Mark.DESTINATION),
    Row("loadvm_postcopy_handle_listen", "7.0..", "%s", Mark.DESTINATION, "_"),
    Row("loadvm_postcopy_handle_run", "2.5..", "", Mark.DESTINATION),
    Row("loadvm_postcopy_handle_resume", "3.0..", "", Mark.DESTINATION),
    Row("postcopy_ram_listen_thread_start", "2.5..", "", Mark.DESTINATION),
    Row("postcopy_ram_listen_thread_exit", "2.5..", "", Mark.DESTINATION),
    Row("postcopy_pause_incoming", "3.0..", "", Mark.DESTINATION),
    Row("postcopy_pause_incoming_continued", "3.0..", "", Mark.DESTINATION),
    Row("vmstate_downtime_load", "8.2..", "type=%s idstr=%s instance_id=%d downtime=%d", Mark.DESTINATION, "_ _ _ _"),
    Row("multifd_recv_thread_start", "3.0..", "%u", Mark.DESTINATION, "_"),
    Row("multifd_recv_thread_end", "9.2..", "channel %u packets %u", Mark.DESTINATION, "_ _"),
    Row("multifd_recv_thread_end", "9.0..9.1", "channel %u packets %u normal pages %u zero pages %u", Mark.DESTINATION,
        "_ _ _ _"),
    Row("multifd_recv_thread_end", "3.0..8.2", "channel %u packets %u pages %u", Mark.DESTINATION, "_ _ _"),

    # QMP, as the monitor reads it (7.0 and later)
    *(
        Row(f"qmp_enter_{command}", "7.0..", "%s", partial(QmpCommand, name=command), "arguments")
        for command in ("migrate", "migrate_cancel", "migrate_set_parameters", "migrate_set_capabilities",
                        "migrate_start_postcopy", "migrate_recover", "migrate_continue")
    ),
)
# fmt: on


def meanings() -> dict[str, Mark | Callable[..., Event]]:
    """Name every meaning an event can be given: the marks by their value, the kinds with arguments in lower case.

    `StateSet` is `state_set`, and so on.
    """
    kinds = {row.meaning for row in ROWS if isinstance(row.meaning, type)}
    named: dict[str, Mark | Callable[..., Event]] = {mark.value: mark for mark in Mark}
    for kind in kinds:
        named[re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()] = kind
    return named
