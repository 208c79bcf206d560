"""The table of stall reasons: one row per reason, from which timeouts, configuration keys and documents are derived.

A reason is found by one of two kinds of evidence. For *rounds*, the rule of `convergence` proves that they will not
reach the threshold, and the numbers show the cause. In a *wait*, the migration is in a state, or below its threshold,
for longer than a timeout. Sentences and advice for each reason belong to the `present` package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from qemu_migration_exporter.core.model import StallReason


class Evidence(StrEnum):
    """The kind of evidence for a reason."""

    ROUNDS = "rounds"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasonRow:
    """Facts about one stall reason.

    Attributes:
        cause: The cause, as the documents and the span attribute describe it.
        evidence: The kind of evidence.
        states: QEMU's states that are this wait.
        timeout_seconds: Default timeout of a wait.
        config_key: Key of the timeout under `verdict:`.
        why: Reason for the default.
        alert: Alert that fires for it.
        runbook: File of its runbook.
    """

    cause: str
    evidence: Evidence
    states: frozenset[str] = frozenset()
    timeout_seconds: float | None = None
    config_key: str | None = None
    why: str | None = None
    alert: str
    runbook: str


_NOT_CONVERGING: Final = ("QemuMigrationNotConverging", "QemuMigrationNotConverging.md")
_NO_PROGRESS: Final = ("QemuMigrationNoProgress", "QemuMigrationNoProgress.md")
_THROTTLED: Final = ("QemuMigrationThrottledAndStalled", "QemuMigrationThrottledAndStalled.md")
_POSTCOPY: Final = ("QemuMigrationPostcopyPaused", "QemuMigrationPostcopyPaused.md")


def _rounds(cause: str, page: tuple[str, str]) -> ReasonRow:
    return ReasonRow(cause=cause, evidence=Evidence.ROUNDS, alert=page[0], runbook=page[1])


def _wait(
    cause: str, seconds: float, key: str, why: str, page: tuple[str, str] = _NO_PROGRESS, *, states: str = ""
) -> ReasonRow:
    return ReasonRow(
        cause=cause,
        evidence=Evidence.WAIT,
        states=frozenset(states.split()),
        timeout_seconds=seconds,
        config_key=key,
        why=why,
        alert=page[0],
        runbook=page[1],
    )


REASONS: Final[Mapping[StallReason, ReasonRow]] = {
    StallReason.DIRTY_RATE: _rounds(
        "The guest dirties memory faster than the network carries it away.", _NOT_CONVERGING
    ),
    StallReason.BANDWIDTH_CAP: _rounds("QEMU's max-bandwidth holds the migration back.", _NOT_CONVERGING),
    StallReason.THROTTLED_MAX: _rounds(
        "Auto-converge slows the guest down as far as it may, and that is not enough.", _THROTTLED
    ),
    StallReason.DEVICE_STATE: _rounds(
        "A device's state, which is sent only while the guest is stopped, takes longer than the downtime limit.",
        _NOT_CONVERGING,
    ),
    StallReason.NO_THROUGHPUT: _wait(
        "Nothing is sent.",
        30.0,
        "no_throughput",
        "Longer than a network that dips; TCP gives up after minutes.",
    ),
    StallReason.SWITCHOVER_ACK: _wait(
        "Pending is below the threshold, but the destination has not acknowledged the switchover.",
        10.0,
        "switchover_ack",
        "QEMU stops the guest at once when it may.",
    ),
    StallReason.BLOCKED_SETUP: _wait(
        "The destination is not connected, or devices are being set up.",
        60.0,
        "setup",
        "Some devices pin all memory during setup.",
    ),
    StallReason.BLOCKED_WAIT_UNPLUG: _wait(
        "The guest has not given up its pass-through network device.",
        60.0,
        "wait_unplug",
        "A guest's driver needs seconds to unplug.",
        states="wait-unplug",
    ),
    StallReason.BLOCKED_PRE_SWITCHOVER: _wait(
        "The guest is stopped and waits for migrate-continue.",
        10.0,
        "pre_switchover",
        "The guest is stopped all that time.",
        states="pre-switchover",
    ),
    StallReason.POSTCOPY_PAUSED: _wait(
        "Post-copy lost its network; the guest stops as soon as it needs a page.",
        0.0,
        "postcopy_paused",
        "The guest may be stopped already.",
        _POSTCOPY,
        states="postcopy-paused postcopy-recover-setup postcopy-recover",
    ),
}

#: Reasons that boundaries between rounds prove; the others are waits.
ROUND_REASONS: Final = frozenset(reason for reason, row in REASONS.items() if row.evidence is Evidence.ROUNDS)

#: Waits, by QEMU's word for its state.
WAIT_BY_STATE: Final[Mapping[str, StallReason]] = {
    state: reason for reason, row in REASONS.items() for state in row.states
}

#: Default timeouts of the waits in seconds.
DEFAULT_TIMEOUTS: Final[Mapping[StallReason, float]] = {
    reason: row.timeout_seconds for reason, row in REASONS.items() if row.timeout_seconds is not None
}
