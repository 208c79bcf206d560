"""Verdicts as text, made by Prometheus, because a dashboard has no other place to make them.

`count_values` turns a number into a label, `label_replace` puts words around it, and `label_join` puts the parts of a
sentence side by side. A part whose number the stream does not give is left out:

    qemu_migration_round 6              -> with_1="round 6"
    qemu_migration_best_pending_bytes   -> with_2=", at best 470 MiB pending"     ─┐
    (absent)                            -> no with_4                               ├─> sentence="round 6, at best …"
                                                                                  ─┘
The helping labels begin with `with_`, which sorts behind `vm`: Prometheus 2.42 loses a label of a range query that
sorts before the labels that are grouped by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qemu_migration_exporter.core.model import StallReason

from grafana.builder import DASH

PER_VM: Final = "job, instance, vm"
ON: Final = f"on ({PER_VM})"

_ACTIVE: Final = "qemu_migration_active == 1"

#: Appended to a gauge, it leaves out the migrations that are over: a gauge of theirs is not a number of now.
WHILE_ACTIVE: Final = f"and {ON} {_ACTIVE}"

#: Appended to a gauge of the rounds, it leaves out post-copy, where the numbers of the last round stay as they were.
ITERATES: Final = f'and {ON} qemu_migration_phase{{phase="iterate"}} == 1'
_PAST_BULK: Final = f"{ITERATES} and {ON} qemu_migration_round > 1"

#: Stalls in which nothing is sent: the figures of the last window are old.
_NOTHING_SENT: Final = (
    "qemu_migration_stall_reason{reason=~"
    f'"{StallReason.NO_THROUGHPUT}|{StallReason.BLOCKED_PRE_SWITCHOVER}|{StallReason.POSTCOPY_PAUSED}"}} == 1'
)

#: The bandwidth of now.
BANDWIDTH: Final = (
    f"max by ({PER_VM}) (qemu_migration_bandwidth_bytes_per_second unless {ON} {_NOTHING_SENT}"
    f" or {ON} 0 * ({_NOTHING_SENT}))"
)

#: From this limit on, a pause is noticed by clusters and load balancers; no command is offered without its runbook.
_MAX_ADVISED_MS: Final = 5_000

#: The cause of a stall, and the runbook of its alert.
REASONS: Final[Mapping[StallReason, tuple[str, str]]] = {
    StallReason.DIRTY_RATE: ("the guest dirties memory again before it is sent", "NotConverging"),
    StallReason.BANDWIDTH_CAP: ("QEMU's bandwidth cap is too low for what the guest dirties", "NotConverging"),
    StallReason.THROTTLED_MAX: ("rounds do not shrink although the guest is fully throttled", "ThrottledAndStalled"),
    StallReason.NO_THROUGHPUT: ("nothing goes over the network", "NoProgress"),
    StallReason.BLOCKED_SETUP: ("setup does not end", "NoProgress"),
    StallReason.BLOCKED_WAIT_UNPLUG: ("the guest does not release a network device", "NoProgress"),
    StallReason.BLOCKED_PRE_SWITCHOVER: (
        "stopped guest waits for migrate-continue before the switchover",
        "NoProgress",
    ),
    StallReason.SWITCHOVER_ACK: ("the destination does not acknowledge the switchover", "NoProgress"),
    StallReason.DEVICE_STATE: ("the state of a device, not memory, exceeds the limit", "NotConverging"),
    StallReason.POSTCOPY_PAUSED: ("post-copy lost its connection, the guest waits for its memory", "PostcopyPaused"),
}

#: A name that a shell takes as one word, and a number.
_WORD_AND_NUMBER: Final = "([a-zA-Z0-9_@%+=:,./][a-zA-Z0-9_@%+=:,./-]*) ([0-9]+)"


def rounded(expr: str, digits: int = 1) -> str:
    """Return an expression rounded without a binary fraction."""
    return f"round(({expr}) * 1e{digits}) / 1e{digits}"


def relabelled(vector: str, label: str, text: str, source: str = "", pattern: str = "") -> str:
    """Return a vector with a label set to `text`, if the label `source` matches the pattern."""
    return f'label_replace({vector}, "{label}", "{text}", "{source}", "{pattern}")'


def never_empty(vector: str, label: str, text: str = DASH) -> str:
    """Return a vector with `text` in place of an empty label: Grafana drops a column without any value."""
    return relabelled(vector, label, text, label, "")


def _part(label: str, number: str, text: str) -> str:
    """Return a vector of 1 with a label of text, `$1` in it for the number."""
    return relabelled(f'count_values by ({PER_VM}) ("{label}", {number})', label, text, label, "(.+)")


def _size(label: str, expr: str, text: str) -> str:
    """Return the part for an amount of memory, `$1` for it with its unit."""
    gib = _part(label, f"{rounded(f'{expr} / 2^30')} and ({expr} >= 2^30)", text.replace("$1", "$1 GiB"))
    mib = _part(label, f"{rounded(f'{expr} / 2^20')} and ({expr} < 2^30)", text.replace("$1", "$1 MiB"))
    return f"({gib} or {ON} {mib})"


def time_part(label: str, expr: str, text: str) -> str:
    """Return the part for a time, `$1` for it with its unit."""
    seconds = _part(label, f"{rounded(expr)} and ({expr} >= 1)", text.replace("$1", "$1 s"))
    milliseconds = _part(label, f"round(({expr}) * 1e3) and ({expr} < 1)", text.replace("$1", "$1 ms"))
    return f"({seconds} or {ON} {milliseconds})"


def joined(base: str, parts: Mapping[str, str]) -> str:
    """Return a vector of 1 for each series of `base`, which are 1, with the labels of all parts."""
    attached = (f"* {ON} group_left ({label}) ({vector} or {ON} {base})" for label, vector in parts.items())
    return f"(({base}) {' '.join(attached)})"


def lead() -> str:
    """Return the beginning of the sentence: the cause of a stall, else the phase."""
    stalled = f"max by ({PER_VM}, reason) (qemu_migration_stall_reason == 1)"
    for reason, (text, _runbook) in REASONS.items():
        stalled = relabelled(stalled, "with_0", f"{text}; ", "reason", reason)
    phase = f"max by ({PER_VM}, phase) (qemu_migration_phase == 1)"
    for name, text in {
        "setup": "in setup",
        "complete_precopy": "switching over, the guest is stopped",
        "postcopy": "in post-copy, the guest runs at the destination",
        "cleanup": "cleaning up",
    }.items():
        phase = relabelled(phase, "with_0", text, "phase", name)
    return f"({stalled} or {ON} {phase})"


def _runbook() -> str:
    vector = f"max by ({PER_VM}, reason) (qemu_migration_stall_reason == 1)"
    for reason, (_text, runbook) in REASONS.items():
        vector = relabelled(vector, "with_command", f"see runbook QemuMigration{runbook}", "reason", reason)
    return vector


def _command() -> str:
    """Return the command that ends a stall, with the number that the exporter's report gives first; else the runbook.

    A tenth is added to what was measured. Names that a shell would split, and long pauses, lead to the runbook.
    """
    of_rounds = f'and {ON} qemu_migration_stall_reason{{reason=~"dirty_rate|bandwidth_cap"}} == 1'
    capped = f'and {ON} qemu_migration_stall_reason{{reason="bandwidth_cap"}} == 1'
    speed = f"ceil(qemu_migration_required_bandwidth_bytes_per_second * 1.1 / 2^20) {capped}"
    limit = f"(ceil(qemu_migration_required_downtime_seconds * 11) * 100 <= {_MAX_ADVISED_MS}) {of_rounds}"
    words = (
        (
            command,
            f'label_join(count_values by ({PER_VM}) ("with_number", {number}), "with_words", " ", "vm", "with_number")',
        )
        for command, number in (("migrate-setspeed", speed), ("migrate-setmaxdowntime", limit))
    )
    commands = (
        relabelled(
            relabelled(vector, "with_command", "see runbook QemuMigrationNotConverging"),
            "with_command", f"virsh {command} $1 $2", "with_words", _WORD_AND_NUMBER,
        )
        for command, vector in words
    )  # fmt: skip
    return "(" + f" or {ON} ".join((*commands, _runbook())) + ")"


_NEEDED: Final = f"qemu_migration_required_downtime_seconds {_PAST_BULK} unless {ON} {_NOTHING_SENT}"

_BEST_CASE: Final = f"(qemu_migration_best_case_seconds {_PAST_BULK})"

#: A best case beyond this is no forecast.
_LONG_SECONDS: Final = 3_600

#: Another job that uses the same machinery, as a save or a dump.
_KIND: Final = f'max by ({PER_VM}, kind) (qemu_migration_info{{side="source", kind!="live"}})'

_PARTS: Final = {
    "with_00": relabelled(_KIND, "with_00", "$1, no live migration: ", "kind", "(.+)"),
    "with_0": lead(),
    "with_1": f"({_part('with_1', f'qemu_migration_round {_PAST_BULK}', 'round $1')} or {ON} "
    + relabelled(f"(qemu_migration_round <= 1 {ITERATES}) ^ 0", "with_1", "first pass over memory")
    + ")",
    "with_2": f"({_size('with_2', f'(qemu_migration_best_pending_bytes {_PAST_BULK})', ', at best $1 pending')} or {ON} "
    + _size("with_2", f"(qemu_migration_pending_bytes {ITERATES} and {ON} qemu_migration_round <= 1)", ", $1 left")
    + ")",
    "with_3": f"({_part('with_3', f'qemu_migration_best_round {_PAST_BULK}', ' (round $1)')} or {ON} "
    + _size("with_3", f"(qemu_migration_ram_bytes {ITERATES} and {ON} qemu_migration_round <= 1)", " of $1")
    + ")",
    "with_4": _size("with_4", f"({BANDWIDTH} > 0)", "; sends $1/s"),
    "with_5": _size(
        "with_5",
        f"(qemu_migration_dirty_bytes_per_second {_PAST_BULK} unless {ON} {_NOTHING_SENT})",
        ", $1/s dirtied again",
    ),
    "with_6": time_part("with_6", f"({_NEEDED})", "; needs $1 of downtime"),
    "with_7": time_part("with_7", f"(qemu_migration_downtime_limit_seconds and {ON} ({_NEEDED}))", ", limit $1"),
    "with_8": f"({time_part('with_8', f'({_BEST_CASE} <= {_LONG_SECONDS})', '; would take at best another $1')} or {ON} "
    + relabelled(f"({_BEST_CASE} > {_LONG_SECONDS}) ^ 0", "with_8", "; would take at best more than another hour")
    + ")",
    "with_9": _part("with_9", "round(qemu_migration_throttle_ratio * 100) > 0", "; guest throttled by $1 %"),
    "with_command": _command(),
    "trace_id": f'max by ({PER_VM}, trace_id) (qemu_migration_info{{side="source"}})',
}

_WORDS: Final = ", ".join(f'"{label}"' for label in _PARTS if label[-1].isdigit())

#: Seconds since a stall's best boundary, -1 for a migration that is not stalled.
STALLED_FOR: Final = f"((time() - (qemu_migration_stalled_since_timestamp_seconds > 0)) or {ON} 0 * qemu_migration_active - 1) {WHILE_ACTIVE}"

_JOINED: Final = f'label_join({joined(_ACTIVE, _PARTS)}, "sentence", "", {_WORDS})'
_SENTENCE: Final = relabelled(_JOINED, "sentence", "$1", "sentence", "(.+); ")
#: A row for each running migration: the labels `sentence`, `with_command` and `trace_id`, which are never empty.
RUNNING: Final = (
    f"max by ({PER_VM}, sentence, with_command, trace_id)"
    f" ({never_empty(never_empty(_SENTENCE, 'sentence', 'no numbers yet'), 'with_command')}"
    f" * {ON} group_left () ({STALLED_FOR}))"
)
