"""Fleet: what migrates now, what does not converge, who starves whom on a host, how migrations end."""

from __future__ import annotations

from typing import Final

from grafana.builder import BLUE, GREEN, GREY, RED, YELLOW, Dashboard, Query, Row, named
from grafana.panels import RESULTS, TO_ONE_MIGRATION, good_to, graph, heatmap, sentence, stat, table, trace_link
from grafana.sentences import RUNNING, worst

_RUNNING: Final = "and on (job, instance, vm) qemu_migration_active == 1"

_NOW: Final = Row(
    "Now",
    [
        sentence(
            "In a sentence",
            "The eight migrations that run and are worst off. Red: it does not get nearer to its end and needs somebody.",
            [worst(RUNNING, 8)],
            height=6,
        ),
        stat("Running", "Outgoing migrations that run now.", "sum(qemu_migration_active)", "none"),
        stat(
            "Stalled",
            "Migrations that do not get nearer to their end (qemu_migration_stalled). Any is one too many.",
            "sum(qemu_migration_stalled)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "Most from one host",
            "The host with most outgoing migrations. They share its link: from three on, more than KubeVirt's default of"
            " two, each is slower for the others.",
            "max(sum by (job, instance) (qemu_migration_active))",
            "none",
            steps=good_to(3, 6),
        ),
        stat(
            "Running longest",
            "Time since the oldest migration that runs began. Long is no fault while it converges.",
            f"max(time() - qemu_migration_start_timestamp_seconds {_RUNNING})",
            "s",
        ),
        stat(
            "Failed",
            "Share of the outgoing migrations that failed, of those that ended in the time range.",
            'sum(increase(qemu_migrations_finished_total{side="source", result="failed"}[$__range]))'
            ' / (sum(increase(qemu_migrations_finished_total{side="source"}[$__range])) > 0)',
            "percentunit",
            steps=good_to(0.05, 0.2),
        ),
        stat(
            "Longest downtime",
            "Of the last migration of every virtual machine that the exporters still remember. From a second on"
            " clients notice, from ten on cluster heartbeats and TCP sessions break.",
            "max(qemu_migration_last_downtime_seconds)",
            "s",
            steps=good_to(1, 10),
        ),
        table(
            "Migrations that run",
            "A line for each; the machine's name leads to its dashboard, the trace to its rounds so far.",
            [
                "max by (instance, vm, trace_id) (qemu_migration_info{side='source'} " + _RUNNING + ")",
                f"max by (vm) (qemu_migration_stalled {_RUNNING})",
                f"max by (vm) (qemu_migration_round {_RUNNING})",
                f"max by (vm) (qemu_migration_pending_bytes {_RUNNING})",
                f"max by (vm) (qemu_migration_threshold_bytes {_RUNNING})",
                f"max by (vm) (qemu_migration_bandwidth_bytes_per_second {_RUNNING})",
                f"max by (vm) (qemu_migration_dirty_bytes_per_second {_RUNNING})",
                f"max by (vm) (qemu_migration_required_downtime_seconds {_RUNNING})",
                f"max by (vm) (qemu_migration_downtime_limit_seconds {_RUNNING})",
                f"max by (vm) (time() - qemu_migration_start_timestamp_seconds {_RUNNING})",
            ],
            {
                "vm": ("VM", {"links": [TO_ONE_MIGRATION]}),
                "instance": ("Host", {}),
                "Value #B": (
                    "Stalled",
                    {
                        "mappings": [named({"0": ("no", GREEN), "1": ("yes", RED)})],
                        "custom.cellOptions": {"type": "color-text"},
                    },
                ),
                "Value #C": ("Round", {"unit": "none"}),
                "Value #D": ("Pending", {"unit": "bytes"}),
                "Value #E": ("Stops below", {"unit": "bytes"}),
                "Value #F": ("Sends", {"unit": "binBps"}),
                "Value #G": ("Dirtied again", {"unit": "binBps"}),
                "Value #H": ("Downtime needed", {"unit": "s"}),
                "Value #I": ("Limit", {"unit": "s"}),
                "Value #J": ("Since", {"unit": "s"}),
                "trace_id": ("Trace", {"links": [trace_link("${__data.fields.trace_id}")]}),
            },
            join="vm",
        ),
    ],
)

_HOSTS: Final = Row(
    "Who starves whom on a host",
    [
        graph(
            "Bandwidth of every migration",
            "Stacked: the height is what all migrations of the hosts send together, QEMU's own figure of its last window.",
            [Query(f"qemu_migration_bandwidth_bytes_per_second {_RUNNING}", "{{instance}} {{vm}}")],
            "binBps",
            stacked=True,
        ),
        graph(
            "Share of its host's bandwidth",
            "What part of all that its host sends for migrations each one gets. One that falls behind here is starved"
            " by its neighbours; the remedy is fewer at a time, not more downtime.",
            [
                Query(
                    f"(qemu_migration_bandwidth_bytes_per_second {_RUNNING}) / on (job, instance) group_left ()"
                    f" (sum by (job, instance) (qemu_migration_bandwidth_bytes_per_second {_RUNNING}) > 0)",
                    "{{instance}} {{vm}}",
                )
            ],
            "percentunit",
            highest=1,
        ),
        graph(
            "Dirtied again for every byte sent",
            "From 1 on the guest dirties memory at least as fast as it is sent. A hint at the cause, not the verdict:"
            " the pages may be the same ones again and again.",
            [
                Query(
                    f"(qemu_migration_dirty_bytes_per_second {_RUNNING})"
                    " / (qemu_migration_bandwidth_bytes_per_second > 0)",
                    "{{instance}} {{vm}}",
                )
            ],
            "none",
            steps=good_to(0.8, 1),
        ),
        graph(
            "Pending for every byte of the threshold",
            "How many times more is pending than may be, for QEMU to stop the guest; it stops below 1.",
            [
                Query(
                    f"(qemu_migration_pending_bytes {_RUNNING}) / (qemu_migration_threshold_bytes > 0)",
                    "{{instance}} {{vm}}",
                )
            ],
            "none",
            steps=((None, BLUE), (1, YELLOW)),
            log=True,
        ),
    ],
)

_OUTCOMES: Final = Row(
    "Verdicts and outcomes",
    [
        graph(
            "Stalled, by reason",
            "How many migrations are stalled for which reason (qemu_migration_stall_reason).",
            [Query("sum by (reason) (qemu_migration_stall_reason)", "{{reason}}")],
            "none",
            steps=good_to(1),
            stacked=True,
        ),
        graph(
            "Migrations that ended",
            "Outgoing ones, by how they ended.",
            [
                Query(
                    'sum by (result) (increase(qemu_migrations_finished_total{side="source"}[$__rate_interval]))',
                    "{{result}}",
                    exemplars=True,
                )
            ],
            "none",
            bars=True,
            stacked=True,
            overrides=RESULTS,
        ),
        graph(
            "Failure rate",
            "Failed of ended, in and out, over an hour. A few per cent come with life: a cancelled job is none.",
            [
                Query(
                    'sum by (side) (increase(qemu_migrations_finished_total{result="failed"}[1h]))'
                    " / (sum by (side) (increase(qemu_migrations_finished_total[1h])) > 0)",
                    "{{side}}",
                )
            ],
            "percentunit",
            steps=good_to(0.05, 0.2),
            highest=1,
        ),
        graph(
            "Sent by migrations",
            "All bytes of all migrations. It is what the migration network has to carry.",
            [
                Query(
                    'sum by (job, instance) (rate(qemu_migrations_transferred_bytes_total{side="source"}[$__rate_interval]))',
                    "{{instance}}",
                )
            ],
            "binBps",
            stacked=True,
        ),
    ],
)

_DISTRIBUTIONS: Final = Row(
    "How long it takes",
    [
        heatmap(
            "Downtime",
            "How long guests stood still; a dot is a migration and leads to its trace.",
            "sum by (le) (increase(qemu_migration_downtime_seconds_bucket[$__rate_interval]))",
        ),
        heatmap(
            "Duration",
            "Total time of outgoing migrations; a dot is a migration and leads to its trace.",
            "sum by (le) (increase(qemu_migration_duration_seconds_bucket[$__rate_interval]))",
        ),
        graph(
            "Downtime, half and 95 % of migrations",
            "Over the last hour. QEMU's default limit is 0.3 s; what lies above was allowed more, or did not keep to it.",
            [
                Query(
                    f"histogram_quantile({share}, sum by (le) (increase(qemu_migration_downtime_seconds_bucket[1h]))) >= 0",
                    name,
                    exemplars=True,
                )
                for share, name in ((0.5, "half"), (0.95, "95 %"))
            ],
            "s",
            steps=good_to(0.3, 1),
        ),
        graph(
            "Duration, half and 95 % of migrations",
            "Over the last hour.",
            [
                Query(
                    f"histogram_quantile({share}, sum by (le) (increase(qemu_migration_duration_seconds_bucket[1h]))) >= 0",
                    name,
                    exemplars=True,
                )
                for share, name in ((0.5, "half"), (0.95, "95 %"))
            ],
            "s",
        ),
        graph(
            "Mean time of a phase",
            "Over the last hour: setup, rounds, switchover, post-copy, cleanup. A long setup waits for the destination"
            " or for huge pages, a long switchover for devices.",
            [
                Query(
                    "sum by (phase) (increase(qemu_migration_phase_duration_seconds_sum[1h]))"
                    " / (sum by (phase) (increase(qemu_migration_phase_duration_seconds_count[1h])) > 0)",
                    "{{phase}}",
                )
            ],
            "s",
        ),
        graph(
            "Mean time of a bitmap sync and of a round",
            "Over the last hour. A sync holds QEMU's big lock: from 0.1 s on guests and monitors feel it.",
            [
                Query(
                    "sum(increase(qemu_migration_bitmap_sync_duration_seconds_sum[1h]))"
                    " / (sum(increase(qemu_migration_bitmap_sync_duration_seconds_count[1h])) > 0)",
                    "bitmap sync",
                ),
                Query(
                    "sum(increase(qemu_migration_round_duration_seconds_sum[1h]))"
                    " / (sum(increase(qemu_migration_round_duration_seconds_count[1h])) > 0)",
                    "round",
                ),
            ],
            "s",
            steps=((None, BLUE), (0.1, GREY)),
            log=True,
        ),
    ],
)

FLEET: Final = Dashboard(
    uid="qemu-migration-fleet",
    title="QEMU migration / Fleet",
    description="What migrates now, what does not converge and why, who starves whom, and how migrations end.",
    rows=[_NOW, _HOSTS, _OUTCOMES, _DISTRIBUTIONS],
    since="now-3h",
)
