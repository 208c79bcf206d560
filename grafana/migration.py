"""One migration: its verdict, rounds, phases, the downtime it needs, and the other end on another host."""

from __future__ import annotations

from typing import Final

from grafana.builder import BLUE, GREEN, GREY, PER_SECOND, PURPLE, RED, TIMES, YELLOW, Dashboard, Json, Query, Row, mark
from grafana.ends import BOTH_ENDS
from grafana.panels import HOST, PHASES, REASON_COLOURS, RESULTS, TRACE, Column, graph, stat, table, timeline
from grafana.sentences import BANDWIDTH, ITERATES, ON, PER_VM, RUNNING, WHILE_ACTIVE

_NOT_RUN: Final = "No migration of this virtual machine is in this time range yet."
_NOTHING_RUNS: Final = "No migration of this virtual machine is running."

#: Stall reasons are drawn as numbers from here on, phases from 1 on; 0 is a migration that is not stalled.
_FIRST_REASON: Final = 11

_LIMIT: Final[Json] = {
    "color": {"mode": "fixed", "fixedColor": RED},
    "custom.lineStyle": {"dash": [6, 4], "fill": "dash"},
    "custom.fillOpacity": 0,
}


def _coloured(color: str) -> Json:
    return {"color": {"mode": "fixed", "fixedColor": color}}


def _numbered(metric: str, label: str, values: dict[str, int]) -> str:
    """Return the number of the label whose series is 1."""
    numbers = (f'({metric}{{{label}="{value}"}} == 1) * {number}' for value, number in values.items())
    return f"max by ({PER_VM}) (" + f" or {ON} ".join(numbers) + ")"


_PHASE: Final = _numbered("qemu_migration_phase", "phase", {name: index for index, name in enumerate(PHASES, 1)})
_REASON: Final = _numbered(
    "qemu_migration_stall_reason",
    "reason",
    {reason.value: index for index, reason in enumerate(REASON_COLOURS, _FIRST_REASON)},
)

#: Of a virtual machine with a migration that ended and is remembered.
_HAS_ENDED: Final = f"and {ON} max by ({PER_VM}) (qemu_migration_last_result) == 1"


def _ended(expr: str) -> str:
    """Return a number of the last migration that ended, -1 where the stream does not give it."""
    return f"max by ({PER_VM}) (({expr} or {ON} 0 * qemu_migration_active - 1) {_HAS_ENDED})"


_VERDICT: Final = Row(
    "Verdict",
    [
        table(
            "Verdict and command",
            "What the migration does, what it would need to end, and the command for it.",
            [RUNNING],
            {
                "Value": Column(
                    title="Stalled for",
                    width=105,
                    unit="s",
                    states={"-1": ("running", BLUE)},
                    steps=((None, BLUE), (0, RED)),
                ),
                "with_command": Column(title="What to do", width=330, wraps=True),
                "sentence": Column(title="In a sentence", wraps=True),
                **HOST,
                **TRACE,
            },
            sort="Stalled for",
            empty=_NOTHING_RUNS,
            height=5,
        ),
        table(
            "How the last one ended",
            "The last migration of this virtual machine that ended. Blackout is all the time the guest did not run.",
            [
                f"max by ({PER_VM}, result) (qemu_migration_last_result == 1)",
                _ended("qemu_migration_last_duration_seconds"),
                _ended("qemu_migration_last_downtime_seconds"),
                _ended("qemu_migration_last_blackout_seconds"),
                _ended("time() - qemu_migration_end_timestamp_seconds"),
            ],
            {
                "result": Column(title="Result", states={name: (name, color) for name, color in RESULTS.items()}),
                "Value #B": Column(title="Duration", width=105, unit="s"),
                "Value #C": Column(title="Downtime", width=105, unit="s"),
                "Value #D": Column(title="Blackout", width=105, unit="s"),
                "Value #E": Column(title="Ended, ago", width=105, unit="s"),
                **HOST,
            },
            sort="Result",
            empty="No migration of this virtual machine ended lately.",
            height=4,
        ),
        stat(
            "Round now",
            "The pass over the dirty bitmap; the first sends all memory.",
            f"max(qemu_migration_round {WHILE_ACTIVE} {ITERATES})",
            "none",
        ),
        stat(
            "No progress for",
            "Time since a round last began with clearly less pending than before; a few per cent are no progress.",
            f"max(time() - qemu_migration_last_progress_timestamp_seconds {WHILE_ACTIVE} {ITERATES})",
            "s",
            steps=((None, BLUE), (60, YELLOW), (300, RED)),
        ),
        stat(
            "Downtime needed",
            "How many times the downtime limit it would take to stop the guest now. QEMU stops it below 1.",
            f"max(qemu_migration_required_downtime_seconds / (qemu_migration_downtime_limit_seconds > 0) {WHILE_ACTIVE} {ITERATES})",
            f"{TIMES} limit",
            steps=((None, BLUE), (1, YELLOW)),
            decimals=1,
        ),
        stat(
            "Memory",
            "Bytes to send at the beginning: all memory.",
            "max(qemu_migration_ram_bytes)",
            "bytes",
        ),
        stat(
            "Runs for",
            "Time since the running migration began.",
            f"max(time() - qemu_migration_start_timestamp_seconds {WHILE_ACTIVE})",
            "s",
        ),
        stat(
            "Last blackout",
            "All the time the guest did not run in the last migration that ended: the downtime and any suspension.",
            "max(qemu_migration_last_blackout_seconds)",
            "s",
            steps=((None, BLUE), (1, YELLOW), (10, RED)),
        ),
    ],
)

_ROUNDS: Final = Row(
    "Rounds",
    [
        timeline(
            "Phases and stalls",
            "A switchover shorter than the scrape interval is seen in the trace only.",
            [
                Query(f"{_PHASE} {WHILE_ACTIVE}", "phase"),
                Query(f"({_REASON} or {ON} 0 * qemu_migration_active) {WHILE_ACTIVE}", "stalled"),
            ],
            {
                "0": ("not stalled", "transparent"),
                **{str(index): shown for index, shown in enumerate(PHASES.values(), 1)},
                **{
                    str(index): (f"stalled: {reason.value}", color)
                    for index, (reason, color) in enumerate(REASON_COLOURS.items(), _FIRST_REASON)
                },
            },
            empty=_NOT_RUN,
        ),
        graph(
            "Pending against threshold",
            "QEMU stops the guest when pending falls below the threshold. In a round it always falls: compare the peaks.",
            [
                Query(f"qemu_migration_pending_bytes {WHILE_ACTIVE}", "pending"),
                Query(f"qemu_migration_best_pending_bytes {WHILE_ACTIVE} {ITERATES}", "best at the start of a round"),
                Query(f"qemu_migration_threshold_bytes {WHILE_ACTIVE} {ITERATES}", "threshold"),
            ],
            "bytes",
            log=2,
            few=True,
            ends=True,
            overrides={
                "pending": _coloured(BLUE),
                "best at the start of a round": _coloured(GREEN),
                "threshold": _LIMIT,
            },
            empty=_NOT_RUN,
        ),
        graph(
            "Sent against dirtied again",
            "Where the guest dirties memory as fast as it is sent, more rounds do not help: more bandwidth, a throttle,"
            " more downtime or post-copy does.",
            [
                Query(f"({BANDWIDTH} > 0) {WHILE_ACTIVE}", "sent"),
                Query(f"qemu_migration_dirty_bytes_per_second {WHILE_ACTIVE} {ITERATES}", "dirtied again"),
                Query(
                    f"qemu_migration_required_bandwidth_bytes_per_second {WHILE_ACTIVE} {ITERATES}", "would be enough"
                ),
            ],
            "binBps",
            log=2,
            few=True,
            ends=True,
            overrides={"sent": _coloured(BLUE), "dirtied again": _coloured(RED), "would be enough": _coloured(PURPLE)},
            empty=_NOT_RUN,
        ),
        graph(
            "Downtime needed against limit",
            "The time that sending the pending memory takes at the present bandwidth, and the limit.",
            [
                Query(f"qemu_migration_required_downtime_seconds {WHILE_ACTIVE} {ITERATES}", "needed"),
                Query(f"qemu_migration_downtime_limit_seconds {WHILE_ACTIVE} {ITERATES}", "limit"),
            ],
            "s",
            log=10,
            few=True,
            ends=True,
            overrides={"needed": _coloured(BLUE), "limit": _LIMIT},
            empty=_NOT_RUN,
        ),
        graph(
            "Round",
            "Rounds that follow each other quickly with little between them send the guest's working set again and again.",
            [Query(f"qemu_migration_round {WHILE_ACTIVE} {ITERATES}", "round")],
            "none",
            few=True,
            ends=True,
            at_least=10,
            overrides={"round": _coloured(BLUE)},
            empty=_NOT_RUN,
        ),
        graph(
            "Throttle",
            "CPU time that auto-converge takes from the guest; its default maximum is 99 %.",
            [Query(f"qemu_migration_throttle_ratio {WHILE_ACTIVE}", "throttled")],
            "percentunit",
            steps=((None, BLUE), (0.5, YELLOW), (0.9, RED)),
            highest=1,
            few=True,
            ends=True,
            overrides={"throttled": _coloured(BLUE)},
            empty="Not throttled, or QEMU is older than 9.2 and does not print it.",
        ),
        graph(
            "Throttle steps and post-copy requests",
            "How often the guest was throttled further, and how many pages the destination asked for.",
            [
                Query(f"rate(qemu_migration_throttles_total[$__rate_interval]) {WHILE_ACTIVE}", "throttle steps"),
                Query(
                    f"rate(qemu_migration_postcopy_requests_total[$__rate_interval]) {WHILE_ACTIVE}",
                    "page requests",
                    exemplars=True,
                ),
            ],
            PER_SECOND,
            few=True,
            ends=True,
            at_least=1,
            overrides={"throttle steps": _coloured(YELLOW), "page requests": _coloured(PURPLE)},
            empty=_NOT_RUN,
        ),
    ],
)

_ENDS: Final = Row(
    "Both ends",
    [
        table(
            "Both ends",
            "Source and destination of the newest migration, joined by the guest's UUID across all hosts, each with its own"
            " trace and report. Of the downtime, a destination knows the part in which it loaded memory and devices, from"
            " QEMU 8.2 on. Rows that began at different times are different migrations.",
            BOTH_ENDS,
            {
                "Value #B": Column(title="Began, ago", width=100, unit="s"),
                "side": Column(title="Side", width=105),
                **HOST,
                "vm": Column(title="VM", width=150, wraps=True),
                "sentence": Column(title="In a sentence", wraps=True),
                "Value #C": Column(title="Downtime", width=95, unit="s"),
                "Value #D": Column(title="Blackout", width=95, unit="s"),
                "Value #A": Column(title=""),
                **TRACE,
            },
            sort="Side",
            empty=_NOT_RUN,
            height=5,
        ),
    ],
)

ONE_MIGRATION: Final = Dashboard(
    uid="qemu-migration-one",
    title="QEMU migration / One migration",
    description="One virtual machine: the verdict and the command, rounds, phases, the downtime it needs, both ends.",
    rows=[_VERDICT, _ROUNDS, _ENDS],
    since="now-30m",
    vm=True,
    marks=[
        mark(
            "Starts", "qemu_migration_start_timestamp_seconds * 1000", BLUE, "migration starts", "{{vm}}", enabled=True
        ),
        mark("Ends", "qemu_migration_end_timestamp_seconds * 1000", GREY, "migration ends", "{{vm}}", enabled=True),
        mark(
            "Alerts",
            'ALERTS_FOR_STATE{alertname=~"QemuMigration.+"} * 1000 and ignoring (alertstate) ALERTS{alertstate="firing"}',
            RED,
            "{{alertname}}",
            "{{vm}} {{instance}}",
            enabled=True,
        ),
    ],
)
