"""Fleet: running migrations with the stalled ones first, competition on each host, and how migrations end."""

from __future__ import annotations

from typing import Final

from grafana.builder import BLUE, GREEN, GREY, PURPLE, RED, TIMES, YELLOW, Dashboard, Query, Row, mark
from grafana.durations import DISTRIBUTIONS, NONE_ENDED
from grafana.panels import (
    HOST,
    REASON_COLOURS,
    RESULTS,
    TRACE,
    VM,
    WIDE_VM,
    Column,
    fixed,
    good_to,
    graph,
    stat,
    table,
)
from grafana.sentences import BANDWIDTH, ITERATES, ON, PER_VM, RUNNING, STALLED_FOR, WHILE_ACTIVE

_NOTHING_RUNS: Final = "No migration is running."
_NONE_RAN: Final = "No migration ran in this time range."

_ENDED: Final = f"and {ON} qemu_migration_active == 0"


#: 0 where exporters answer and no virtual machine has series; without an answer there is no number.
_NO_MIGRATION: Final = "0 * count(qemu_migration_exporter_build_info)"

_STALLED: Final = Column(
    title="Stalled for", width=105, unit="s", states={"-1": ("running", BLUE)}, steps=((None, BLUE), (0, RED))
)


def _running(metric: str, also: str = "") -> str:
    """Return a gauge of the running migrations, -1 where the stream does not give it."""
    return f"max by ({PER_VM}) ({metric} {WHILE_ACTIVE} {also} or {ON} (0 * qemu_migration_active - 1 {WHILE_ACTIVE}))"


def _ended(metric: str) -> str:
    """Return a gauge of the migrations that are over, -1 where the stream does not give it."""
    return f"max by ({PER_VM}) ({metric} {_ENDED} or {ON} (0 * qemu_migration_active - 1 {_ENDED}))"


def _going_on(expr: str) -> str:
    """Return an expression that goes on at 0 where a migration has ended: its legend shows 0, not its last figure.

    The aggregation drops the names of the metrics, else both halves would be series of their own.
    """
    return f"max by ({PER_VM}) ({expr} or {ON} (qemu_migration_active == 0))"


_NOW: Final = Row(
    "Now",
    [
        stat(
            "Stalled",
            "Migrations that do not get nearer to their end.",
            f"sum(qemu_migration_stalled) or {_NO_MIGRATION}",
            "none",
            steps=good_to(1),
        ),
        stat("Running", "Outgoing migrations that run now.", f"sum(qemu_migration_active) or {_NO_MIGRATION}", "none"),
        stat(
            "Most on one host",
            "The host with most outgoing migrations. They share its link; KubeVirt allows two at a time by default.",
            "max(sum by (job, instance) (qemu_migration_active))",
            "none",
            steps=((None, BLUE), (3, YELLOW), (6, RED)),
        ),
        stat(
            "Oldest",
            "Time since the oldest running migration began. A long time is no fault while it converges.",
            f"max(time() - qemu_migration_start_timestamp_seconds {WHILE_ACTIVE})",
            "s",
        ),
        stat(
            "Failed",
            "Outgoing migrations that failed in the time range.",
            'round(sum(increase(qemu_migrations_finished_total{side="source", kind="live", result="failed"}[$__range])))',
            "none",
            steps=good_to(1),
        ),
        stat(
            "Longest blackout",
            "The longest time a guest did not run, suspensions included, in the last migration of each virtual machine."
            " Clients notice a second; cluster heartbeats and TCP sessions break after ten.",
            "max(qemu_migration_last_blackout_seconds)",
            "s",
            steps=((None, BLUE), (1, YELLOW), (10, RED)),
        ),
        table(
            "Running migrations, stalled first",
            "Red rows need an operator. The command takes a tenth more than was measured; read its runbook before a long"
            " pause. The machine's name leads to its own dashboard.",
            [RUNNING],
            {
                **VM,
                "Value": _STALLED,
                "with_command": Column(title="What to do", width=330, wraps=True),
                "sentence": Column(title="In a sentence", wraps=True),
                **HOST,
                **TRACE,
            },
            sort="Stalled for",
            empty=_NOTHING_RUNS,
            height=13,
        ),
        table(
            "Numbers of the running migrations",
            "Pending falls in a round and rises at the next bitmap sync. QEMU stops the guest when it is below the threshold.",
            [
                _running("time() - qemu_migration_start_timestamp_seconds"),
                f"max by ({PER_VM}) ({STALLED_FOR})",
                _running("qemu_migration_round", ITERATES),
                _running("qemu_migration_pending_bytes"),
                _running("qemu_migration_threshold_bytes", ITERATES),
                _running(BANDWIDTH),
                _running("qemu_migration_dirty_bytes_per_second", ITERATES),
                _running("qemu_migration_required_downtime_seconds", ITERATES),
                _running("qemu_migration_downtime_limit_seconds", ITERATES),
            ],
            {
                **WIDE_VM,
                "Value #B": _STALLED,
                "Value #A": Column(title="Runs for", width=90, unit="s"),
                "Value #C": Column(title="Round", width=75, unit="none"),
                "Value #D": Column(title="Pending", width=100, unit="bytes"),
                "Value #E": Column(title="Threshold", width=100, unit="bytes"),
                "Value #F": Column(title="Sends", width=105, unit="binBps"),
                "Value #G": Column(title="Dirtied again", width=115, unit="binBps"),
                "Value #H": Column(title="Needs downtime", width=130, unit="s"),
                "Value #I": Column(title="Limit", width=80, unit="s"),
                **HOST,
            },
            sort="Stalled for",
            empty=_NOTHING_RUNS,
            height=11,
        ),
        table(
            "Migrations that ended lately",
            "The last outgoing migration of each virtual machine, until the exporter forgets it (15 minutes by default).",
            [
                _ended("time() - qemu_migration_end_timestamp_seconds"),
                f"max by ({PER_VM}, result) (qemu_migration_last_result == 1 {_ENDED})",
                _ended("qemu_migration_last_duration_seconds"),
                _ended("qemu_migration_last_downtime_seconds"),
                _ended("qemu_migration_last_blackout_seconds"),
                f'max by ({PER_VM}, kind, trace_id) (qemu_migration_info{{side="source"}} {_ENDED})',
            ],
            {
                **WIDE_VM,
                "result": Column(
                    title="Result", width=105, states={name: (name, color) for name, color in RESULTS.items()}
                ),
                "kind": Column(title="Kind", width=85),
                "Value #C": Column(title="Duration", width=105, unit="s"),
                "Value #D": Column(
                    title="Downtime", width=105, unit="s", steps=((None, "text"), (1, YELLOW), (10, RED))
                ),
                "Value #E": Column(
                    title="Blackout", width=105, unit="s", steps=((None, "text"), (1, YELLOW), (10, RED))
                ),
                "Value #A": Column(title="Ended, ago", width=105, unit="s"),
                **HOST,
                **TRACE,
            },
            sort="Result",
            empty="No migration ended lately.",
            height=8,
        ),
    ],
)

_HOSTS: Final = Row(
    "Competition on a host",
    [
        graph(
            "Sent by each migration",
            "Stacked: the height is the sum of all. QEMU's own figure for its last window, 0 while nothing is sent.",
            [Query(_going_on(f"{BANDWIDTH} {WHILE_ACTIVE}"), "{{vm}} {{instance}}")],
            "binBps",
            stacked=True,
            empty=_NONE_RAN,
        ),
        graph(
            "Share of its host's bandwidth",
            "A migration that falls behind here is starved by its neighbours. The remedy is fewer at a time, not more"
            " downtime.",
            [
                Query(
                    _going_on(
                        f"({BANDWIDTH} {WHILE_ACTIVE}) / on (job, instance) group_left ()"
                        f" (sum by (job, instance) ({BANDWIDTH} {WHILE_ACTIVE}) > 0)"
                    ),
                    "{{vm}} {{instance}}",
                )
            ],
            "percentunit",
            highest=1,
            empty=_NONE_RAN,
        ),
        graph(
            "Dirtied again for every byte sent",
            "From 1 on the guest dirties memory at least as fast as it is sent. A hint at the cause and no verdict: the"
            " pages may be the same ones again and again.",
            [
                Query(
                    f"(qemu_migration_dirty_bytes_per_second {WHILE_ACTIVE} {ITERATES}) / {ON} ({BANDWIDTH} > 0)",
                    "{{vm}} {{instance}}",
                )
            ],
            TIMES,
            steps=((None, BLUE), (1, RED)),
            at_least=1.5,
            ends=True,
            empty=_NONE_RAN,
        ),
        graph(
            "Pending for every byte of the threshold",
            "QEMU stops the guest below 1.",
            [
                Query(
                    f"(qemu_migration_pending_bytes {WHILE_ACTIVE} {ITERATES}) / (qemu_migration_threshold_bytes > 0)",
                    "{{vm}} {{instance}}",
                )
            ],
            TIMES,
            steps=((None, BLUE), (1, GREEN)),
            log=10,
            ends=True,
            empty=_NONE_RAN,
        ),
    ],
)

_OUTCOMES: Final = Row(
    "Verdicts and outcomes",
    [
        graph(
            "Stalled, by reason",
            "How many running migrations are stalled, and why.",
            [Query("sum by (reason) (qemu_migration_stall_reason) > 0", "{{reason}}")],
            "none",
            stacked=True,
            at_least=2,
            overrides=fixed({reason.value: color for reason, color in REASON_COLOURS.items()}),
            empty="Nothing was stalled in this time range.",
        ),
        graph(
            "Migrations that ended, in five minutes",
            "Outgoing migrations by their result. The newest bar comes up to five minutes late.",
            [
                Query(
                    'sum by (result) (round(increase(qemu_migrations_finished_total{side="source", kind="live"}[$__interval]))) > 0',
                    "{{result}}",
                    exemplars=True,
                )
            ],
            "none",
            bars=True,
            stacked=True,
            at_least=2,
            overrides=fixed(RESULTS),
            empty=NONE_ENDED,
            step="5m",
        ),
        graph(
            "Failed of ended, in an hour",
            "Both directions. Cancelled migrations are not failed.",
            [
                Query(
                    'sum by (side) (increase(qemu_migrations_finished_total{kind="live", result="failed"}[1h]))'
                    ' / (sum by (side) (increase(qemu_migrations_finished_total{kind="live"}[1h])) > 0)',
                    "{{side}}",
                )
            ],
            "percentunit",
            steps=good_to(0.05, 0.2),
            highest=1,
            few=True,
            overrides=fixed({"source": BLUE, "destination": PURPLE}),
            empty="No migration ended within an hour before this time range.",
        ),
        graph(
            "Sent by the migrations of a host",
            "All bytes of all migrations: the load of the migration network.",
            [
                Query(
                    'sum by (job, instance) (rate(qemu_migrations_transferred_bytes_total{side="source"}[$__rate_interval]))',
                    "{{instance}}",
                )
            ],
            "binBps",
            stacked=True,
            at_least=1 << 20,
            empty=_NONE_RAN,
        ),
    ],
)

FLEET: Final = Dashboard(
    uid="qemu-migration-fleet",
    title="QEMU migration / Fleet",
    description="Running migrations with the stalled ones first, what to do, who competes on a host, and how migrations end.",
    rows=[_NOW, _HOSTS, _OUTCOMES, DISTRIBUTIONS],
    since="now-30m",
    marks=[
        mark(
            "Starts", "qemu_migration_start_timestamp_seconds * 1000", BLUE, "migration starts", "{{vm}}", enabled=False
        ),
        mark("Ends", "qemu_migration_end_timestamp_seconds * 1000", GREY, "migration ends", "{{vm}}", enabled=False),
    ],
)
