"""The events that probe lines print, one type per kind of argument list.

Every event starts with `at_ns`, nanoseconds since the Unix epoch by the probe's clock (None if the line has no time),
and `thread`, the number in front of the line (None without a number). The number is the id of a thread, not of a
process: several threads print the events of one migration.

An argument is None if the line does not give it, as when a SystemTap script prints only the mark's name. Events are
tuples rather than frozen dataclasses, because a line makes an event and a tuple costs a third of a dataclass.
"""

from __future__ import annotations

from typing import NamedTuple

from qemu_migration_exporter.core.terms import Signal


class SignalEvent(NamedTuple):
    """An event without arguments that matter."""

    at_ns: int | None
    thread: int | None
    mark: Signal


class StateSet(NamedTuple):
    """The migration's status changed.

    Source: migrate_set_state, migration/migration.c, 2.0 to 11.
    """

    at_ns: int | None
    thread: int | None
    state: str | None


class RunStateSet(NamedTuple):
    """The guest's run state changed, since 4.0 with the state before.

    Source: runstate_set(), system/runstate.c (vl.c, softmmu/), 2.0 to 11.
    """

    at_ns: int | None
    thread: int | None
    state: str | None
    before: str | None


class RunStateNumbered(NamedTuple):
    """A run state as a number, up to 3.1; the decoder turns it into a `RunStateSet`."""

    at_ns: int | None
    thread: int | None
    number: int | None


class StateNumbered(NamedTuple):
    """A migration state as a number, up to 2.10; the decoder turns it into a `StateSet`."""

    at_ns: int | None
    thread: int | None
    number: int | None


class Pending(NamedTuple):
    """Bytes still to send, and the threshold if QEMU prints it in the same line.

    `postcopy` bytes may be sent after the switchover; they are memory if post-copy is enabled (2.12 and later).
    `final` is 1 in a query inside the switchover (11.1 and later, None before).

    Source: migrate_pending (2.0 to 7.2), migrate_pending_estimate and _exact (8.0 to 11.0),
    qemu_savevm_query_pending (11.1).
    """

    at_ns: int | None
    thread: int | None
    size: int | None
    threshold: int | None
    postcopy: int | None
    final: int | None = None


class Transferred(NamedTuple):
    """One bandwidth window of at least 100 ms ended.

    `transferred` is in bytes and counts this window alone, `switchover_bandwidth` is in bytes per millisecond,
    `threshold` (max_size) is bandwidth times the downtime limit, in bytes.

    Source: migrate_transferred, migration_update_counters() in migration/migration.c.
    """

    at_ns: int | None
    thread: int | None
    transferred: int | None
    time_spent_ms: int | None
    switchover_bandwidth: int | None
    threshold: int | None


class SyncEnded(NamedTuple):
    """A dirty bitmap sync ended.

    If `cumulative`, `dirty_pages` counts from the last reset of QEMU's period, one second or more ago, and not from the
    sync before (since 2.9).

    Source: migration_bitmap_sync_end, migration/ram.c (num_dirty_pages_period).
    """

    at_ns: int | None
    thread: int | None
    dirty_pages: int | None
    cumulative: bool = True


class LowPending(NamedTuple):
    """Pending fell below the threshold: the iterate phase is over."""

    at_ns: int | None
    thread: int | None
    pending: int | None


class SectionStarted(NamedTuple):
    """A section of the migration stream begins."""

    at_ns: int | None
    thread: int | None
    idstr: str | None
    section_id: int | None


class SectionEnded(NamedTuple):
    """A section of the migration stream ended."""

    at_ns: int | None
    thread: int | None
    idstr: str | None
    section_id: int | None


class DeviceSaved(NamedTuple):
    """A device's state is being saved, inside the open section."""

    at_ns: int | None
    thread: int | None
    idstr: str | None
    vmsd_name: str | None


class DeviceDowntime(NamedTuple):
    """One device's share of the downtime, by QEMU's own clock, in microseconds.

    Source: vmstate_downtime_save, migration/savevm.c, since 8.2. Printed for skipped devices too.
    """

    at_ns: int | None
    thread: int | None
    kind: str | None
    idstr: str | None
    instance_id: int | None
    downtime_us: int | None


class LoadReturned(NamedTuple):
    """A destination has read the stream, or in post-copy all of it that comes before the guest runs.

    `ret` is negative after a failure; `postcopy` is QEMU's PostcopyState, which is not printed since 10.2.
    Source: process_incoming_migration_co_end, migration/migration.c, since 2.5.
    """

    at_ns: int | None
    thread: int | None
    ret: int | None
    postcopy: int | None


class DeviceLoaded(NamedTuple):
    """One device's share of the downtime at the destination, in microseconds.

    Source: vmstate_downtime_load, migration/savevm.c, since 8.2.
    """

    at_ns: int | None
    thread: int | None
    kind: str | None
    idstr: str | None
    instance_id: int | None
    downtime_us: int | None


class Pinged(NamedTuple):
    """A ping went to the destination; number 4 ends the switch to post-copy."""

    at_ns: int | None
    thread: int | None
    value: int | None


class ThrottleSet(NamedTuple):
    """The guest's CPUs are throttled by this percentage (since 9.2)."""

    at_ns: int | None
    thread: int | None
    percentage: int | None


class ErrorSet(NamedTuple):
    """QEMU recorded the error of the migration; the text is None before 2.7."""

    at_ns: int | None
    thread: int | None
    text: str | None


class ChannelFailed(NamedTuple):
    """The connection to the destination failed, with its error."""

    at_ns: int | None
    thread: int | None
    text: str | None


class ErrorReported(NamedTuple):
    """A line of QEMU's error_report(), not a trace event."""

    at_ns: int | None
    thread: int | None
    text: str


class QmpCommand(NamedTuple):
    """A QMP command that concerns migration, with its arguments as JSON text (since 7.0)."""

    at_ns: int | None
    thread: int | None
    arguments: str | None
    name: str


class QemuStarted(NamedTuple):
    """libvirt started a QEMU, and this is the first line of its log."""

    at_ns: int | None
    thread: int | None


class QemuEnded(NamedTuple):
    """QEMU is about to end, or ended; `text` is the line's own."""

    at_ns: int | None
    thread: int | None
    text: str


class GuestDescribed(NamedTuple):
    """A part of QEMU's command line that describes the guest, in libvirt's log."""

    at_ns: int | None
    thread: int | None
    name: str | None
    uuid: str | None
    incoming: bool


class FunctionCalled(NamedTuple):
    """A function probe of a hand-written script fired."""

    at_ns: int | None
    thread: int | None
    function: str


class BacktraceFrame(NamedTuple):
    """One line of the user-space backtrace behind the last function probe."""

    at_ns: int | None
    thread: int | None
    frame: str


class PostcopyRequests(NamedTuple):
    """Number of page requests since the last such event, counted by the probes of this project."""

    at_ns: int | None
    thread: int | None
    requests: int | None


class Anchored(NamedTuple):
    """One moment on two clocks: `at_ns` on the probe's monotonic clock, `wall_ns` on the wall clock."""

    at_ns: int
    thread: int | None
    wall_ns: int


class LinesLost(NamedTuple):
    """The probe reports dropped lines: bpftrace at once, SystemTap when it ends."""

    at_ns: int | None
    thread: int | None
    lines: int


Event = (
    SignalEvent
    | StateSet
    | RunStateSet
    | RunStateNumbered
    | StateNumbered
    | Pending
    | Transferred
    | SyncEnded
    | LowPending
    | SectionStarted
    | SectionEnded
    | DeviceSaved
    | DeviceDowntime
    | LoadReturned
    | DeviceLoaded
    | Pinged
    | ThrottleSet
    | ErrorSet
    | ChannelFailed
    | ErrorReported
    | QmpCommand
    | QemuStarted
    | QemuEnded
    | GuestDescribed
    | FunctionCalled
    | BacktraceFrame
    | PostcopyRequests
    | Anchored
    | LinesLost
)
