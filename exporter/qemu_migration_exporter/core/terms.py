"""The words of the model: every enumeration of a migration's facts, as bounded sets of strings."""

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
