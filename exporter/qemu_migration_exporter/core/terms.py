"""The words of events and of the model: every enumeration, as bounded sets of strings."""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """The end of a migration at which a QEMU is."""

    SOURCE = "source"
    DESTINATION = "destination"


class Kind(StrEnum):
    """The job that uses QEMU's migration code; live unless evidence shows another."""

    LIVE = "live"
    #: `virsh save` and `managedsave`: the guest stops for good.
    SAVE = "save"
    #: `virsh dump`.
    DUMP = "dump"
    #: A snapshot with memory: HMP `savevm`, `snapshot-save`, `virsh snapshot-create`, background-snapshot.
    SNAPSHOT = "snapshot"
    #: A migration to a file, by an operator.
    FILE = "file"
    #: Checkpoint and restart: modes cpr-reboot, cpr-transfer and cpr-exec.
    CPR = "cpr"


class Result(StrEnum):
    """The end of a migration; `unknown` if the stream ended first."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class Mode(StrEnum):
    """Post-copy if the guest was moved before all of its memory was."""

    PRECOPY = "precopy"
    POSTCOPY = "postcopy"


class PhaseName(StrEnum):
    """The phases of an outgoing migration, in their order."""

    SETUP = "setup"
    ITERATE = "iterate"
    COMPLETE_PRECOPY = "complete_precopy"
    POSTCOPY = "postcopy"
    CLEANUP = "cleanup"


class PauseCause(StrEnum):
    """The cause of a pause of the guest: the downtime, or the run state QEMU printed."""

    DOWNTIME = "downtime"
    #: `virsh suspend`, `--timeout-suspend`, a forced completion: QEMU's run state `paused`.
    SUSPENDED = "suspended"
    IO_ERROR = "io-error"
    INTERNAL_ERROR = "internal-error"
    DEBUG = "debug"
    WATCHDOG = "watchdog"
    GUEST_PANICKED = "guest-panicked"
    #: The guest put itself to sleep: the run state `suspended` (S3), which is not `virsh suspend`.
    GUEST_SLEEPS = "guest-suspended"
    SHUTDOWN = "shutdown"
    SAVE_VM = "save-vm"
    RESTORE_VM = "restore-vm"
    COLO = "colo"
    PRELAUNCH = "prelaunch"
    OTHER = "other"


class DowntimePartName(StrEnum):
    """The parts of the downtime, in their order."""

    #: QEMU stops the CPUs and flushes the disks.
    STOP = "stop"
    #: QEMU waits for `migrate-continue`.
    PRE_SWITCHOVER = "pre_switchover"
    #: The bitmap sync with the guest stopped.
    BITMAP_SYNC = "bitmap_sync"
    #: QEMU sends the memory that is left.
    RAM = "ram"
    #: The state of one device is saved, or on a destination loaded.
    DEVICE = "device"
    #: All is sent, and the source waits until the destination has taken it.
    DESTINATION = "destination"
    #: No mark in the stream explains this time.
    UNACCOUNTED = "unaccounted"


class ClockKind(StrEnum):
    """The origin of a stream's times."""

    #: The probe lines carry them.
    PROBE = "probe"
    #: The time a line arrived here (live streams without times).
    ARRIVAL = "arrival"
    #: Only `time_spent` of migrate_transferred moves the clock (recordings without times).
    RECONSTRUCTED = "reconstructed"


class StallReason(StrEnum):
    """The cause of a stall; a bounded set."""

    DIRTY_RATE = "dirty_rate"
    BANDWIDTH_CAP = "bandwidth_cap"
    NO_THROUGHPUT = "no_throughput"
    THROTTLED_MAX = "throttled_max"
    BLOCKED_SETUP = "blocked_setup"
    BLOCKED_WAIT_UNPLUG = "blocked_wait_unplug"
    BLOCKED_PRE_SWITCHOVER = "blocked_pre_switchover"
    POSTCOPY_PAUSED = "postcopy_paused"
    #: Pending is below the threshold and QEMU waits for the destination (capability switchover-ack).
    SWITCHOVER_ACK = "switchover_ack"
    #: The state of a device, which no round makes smaller, is more than fits into the downtime limit.
    DEVICE_STATE = "device_state"


class SurpriseKind(StrEnum):
    """The kinds of events that parsed and were not expected."""

    #: A state QEMU's own transitions do not lead to.
    UNEXPECTED_STATE = "unexpected_state"
    #: A state this program does not know.
    UNKNOWN_STATE = "unknown_state"
    #: A migration began before the previous migration had ended.
    RESTARTED = "restarted"
    #: An end without its beginning, or the other way round: a line is missing.
    UNPAIRED = "unpaired"
    #: The same line twice.
    DUPLICATE = "duplicate"
    #: A line is older than the line before it.
    CLOCK_BACKWARD = "clock_backward"
    #: Another stream has a virtual machine of this name.
    DUPLICATE_VM = "duplicate_vm"
    #: The probe reports that it dropped lines.
    LINES_LOST = "lines_lost"
    #: More processes write to the stream than are followed.
    TOO_MANY_PROCESSES = "too_many_processes"
    #: Bytes of the stream were thrown away before they were read.
    BYTES_LOST = "bytes_lost"
    #: The stream's bytes are damaged, as a compressed file that is cut.
    DAMAGED = "damaged"


class Signal(StrEnum):
    """The meaning of an event that has no arguments of interest."""

    HEADER = "header"
    SETUP_BEGIN = "setup_begin"
    SETUP_COMPLETE = "setup_complete"
    ITERATE = "iterate"
    SYNC_START = "sync_start"
    THROTTLE = "throttle"
    #: The next bitmap sync comes from the throttle's own timer, in the middle of a pass.
    THROTTLE_SYNC = "throttle_sync"
    #: QEMU limits the guest's dirty rate, which shows that the capability dirty-limit is on.
    DIRTY_LIMITED = "dirty_limited"
    #: Candidates for the start of the downtime, see `qemu_migration_exporter.core.measures.switchover`.
    DOWNTIME_START = "downtime_start"
    POSTCOPY_SET_RUN = "postcopy_set_run"
    VM_STOPPED = "vm_stopped"
    COMPLETE = "complete"
    #: RAM and everything else that is sent in rounds is sent completely; the devices come next.
    ITERABLE_SAVED = "iterable_saved"
    #: The devices are sent too: the source waits for the destination.
    ALL_SAVED = "all_saved"
    DOWNTIME_END = "downtime_end"
    POSTCOPY_START = "postcopy_start"
    #: Commands in the stream that only post-copy sends, inside its switchover.
    POSTCOPY_LISTEN = "postcopy_listen"
    POSTCOPY_RUN = "postcopy_run"
    POSTCOPY_REQUEST = "postcopy_request"
    #: A post-copy completes.
    POSTCOPY_END = "postcopy_end"
    #: After a pause, over a new connection: the same migration.
    POSTCOPY_RESUMED = "postcopy_resumed"
    #: A failure that ends the migration; post-copy may pause instead, and continue.
    FAILING = "failing"
    #: The return path from the destination ended with an error.
    BAD_END = "bad_end"
    AFTER_LOOP = "after_loop"
    CLEANUP = "cleanup"
    #: A request to cancel. QEMU prints it at every exit too, so it is never an outcome.
    CANCEL = "cancel"
    #: Proof that this QEMU is a source, and nothing more.
    OUTGOING = "outgoing"
    #: The channel to the destination is set up, and the migration thread begins.
    CONNECTED = "connected"
    #: The migration goes to a file.
    TO_FILE = "to_file"
    #: An incoming migration begins; the second event only proves that this QEMU is a destination.
    INCOMING = "incoming"
    DESTINATION = "destination"
    #: A destination has loaded, begins post-copy, starts the guest of a pre-copy, or cleans up.
    LOADED = "loaded"
    LOADS_POSTCOPY = "loads_postcopy"
    GUEST_STARTED = "guest_started"
    LOAD_CLEANUP = "load_cleanup"
    #: QMP's own events: the CPUs were stopped or started.
    GUEST_STOPPED = "guest_stopped"
    GUEST_RESUMED = "guest_resumed"
    #: libvirt begins a live migration.
    INITIATED = "initiated"
    #: Known and parsed, but without effect.
    OTHER = "other"
