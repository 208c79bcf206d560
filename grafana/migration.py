"""One migration: pending against threshold, sent against dirtied, phases, the downtime it needs, the verdict."""

from __future__ import annotations

from typing import Final

from grafana.builder import BLUE, GREY, RED, Dashboard, Query, Row, named
from grafana.panels import YES_OR_NO, good_to, graph, sentence, stat, table, timeline, trace_link
from grafana.sentences import ENDED, RUNNING

_VERDICT: Final = Row(
    "Verdict",
    [
        sentence(
            "In a sentence",
            "What the migration does, what it would need to end, or how it ended.",
            [RUNNING, ENDED],
        ),
        stat(
            "Stalled",
            "Whether it does not get nearer to its end.",
            "max(qemu_migration_stalled)",
            "none",
            steps=good_to(1),
            mappings=[YES_OR_NO],
        ),
        stat(
            "Round",
            "The pass over the dirty bitmap it is in; the first sends all memory.",
            "max(qemu_migration_round)",
            "none",
        ),
        stat(
            "No progress for",
            "Time since pending was last at a new least, at the end of a round; while it runs.",
            "max(time() - qemu_migration_last_progress_timestamp_seconds and on (job, instance, vm) qemu_migration_active == 1)",
            "s",
            steps=good_to(60, 300),
        ),
        stat(
            "Downtime needed, of the limit",
            "The downtime it would take to send what was pending at the last boundary, over the limit. QEMU stops the"
            " guest below 1; from 1 on it goes round again.",
            "max(qemu_migration_required_downtime_seconds / (qemu_migration_downtime_limit_seconds > 0))",
            "percentunit",
            steps=good_to(1, 3),
        ),
        stat(
            "Last downtime",
            "How long the guest stood still, in the last migration that ended.",
            "max(qemu_migration_last_downtime_seconds)",
            "s",
            steps=good_to(1, 10),
        ),
        stat(
            "Last duration",
            "Total time of the last migration that ended.",
            "max(qemu_migration_last_duration_seconds)",
            "s",
        ),
    ],
)

_ROUNDS: Final = Row(
    "Rounds",
    [
        graph(
            "Pending against threshold",
            "Pending must fall below the threshold for QEMU to stop the guest. Within a round it always falls: compare"
            " the peaks, and the best of them.",
            [
                Query("qemu_migration_pending_bytes", "pending"),
                Query("qemu_migration_best_pending_bytes", "best at a boundary"),
                Query("qemu_migration_threshold_bytes", "threshold"),
                Query("qemu_migration_round", "round"),
            ],
            "bytes",
            overrides={
                "threshold": {
                    "color": {"mode": "fixed", "fixedColor": RED},
                    "custom.lineStyle": {"dash": [6, 4], "fill": "dash"},
                },
                "round": {
                    "unit": "none",
                    "color": {"mode": "fixed", "fixedColor": GREY},
                    "custom.axisPlacement": "right",
                    "custom.lineInterpolation": "stepAfter",
                    "custom.fillOpacity": 0,
                },
            },
        ),
        graph(
            "Sent against dirtied again",
            "Where the guest dirties memory faster than it is sent, no number of rounds will do: more bandwidth, a"
            " throttle, more downtime or post-copy.",
            [
                Query("qemu_migration_bandwidth_bytes_per_second", "sent, last window"),
                Query(
                    "rate(qemu_migration_transferred_bytes_total[$__rate_interval])", "sent, measured", exemplars=True
                ),
                Query("qemu_migration_dirty_bytes_per_second", "dirtied again"),
                Query("qemu_migration_required_bandwidth_bytes_per_second", "would be enough"),
            ],
            "binBps",
            overrides={"dirtied again": {"color": {"mode": "fixed", "fixedColor": RED}}},
        ),
        timeline(
            "Phases",
            "Setup, rounds, switchover, post-copy, cleanup. A switchover shorter than the scrape interval is seen in the"
            " trace only.",
            Query("qemu_migration_phase", "{{phase}}"),
            [named({"0": ("", "transparent"), "1": ("here", BLUE)})],
        ),
        graph(
            "Downtime needed against limit",
            "What sending the pending bytes takes at the present bandwidth, and what is allowed.",
            [
                Query("qemu_migration_required_downtime_seconds", "needed"),
                Query("qemu_migration_downtime_limit_seconds", "limit"),
            ],
            "s",
            overrides={
                "limit": {
                    "color": {"mode": "fixed", "fixedColor": RED},
                    "custom.lineStyle": {"dash": [6, 4], "fill": "dash"},
                }
            },
        ),
        timeline(
            "Stalled, and why",
            "A line for each reason, coloured while it holds.",
            Query("qemu_migration_stall_reason", "{{reason}}"),
            [named({"0": ("", "transparent"), "1": ("here", RED)})],
        ),
        graph(
            "Bitmap syncs and slices",
            "Each sync begins a round. Many a second with little between them: the guest's working set is re-sent whole.",
            [
                Query("rate(qemu_migration_bitmap_syncs_total[$__rate_interval])", "bitmap syncs", exemplars=True),
                Query("rate(qemu_migration_iterations_total[$__rate_interval])", "iterations"),
            ],
            "ops",
        ),
        graph(
            "Throttle",
            "How much of the guest's CPU time auto-converge takes away (QEMU 9.2 and later tell); its default maximum is 99 %.",
            [Query("qemu_migration_throttle_ratio", "throttle")],
            "percentunit",
            steps=good_to(0.5, 0.9),
            highest=1,
        ),
        graph(
            "Throttle steps and post-copy requests",
            "How often the guest was throttled further, and how many pages the destination had to ask for.",
            [
                Query("rate(qemu_migration_throttles_total[$__rate_interval])", "throttle steps"),
                Query(
                    "rate(qemu_migration_postcopy_requests_total[$__rate_interval])", "page requests", exemplars=True
                ),
            ],
            "ops",
        ),
    ],
)

_FACTS: Final = Row(
    "Trace and facts",
    [
        table(
            "Trace",
            "Of the newest migration, on both sides where both have an exporter; the trace grows while it runs.",
            ["max by (trace_id, vm, uuid, side, mode, instance) (qemu_migration_info)"],
            {
                "vm": ("VM", {}),
                "side": ("Side", {}),
                "mode": ("Mode", {}),
                "instance": ("Host", {}),
                "uuid": ("UUID", {}),
                "trace_id": ("Trace", {"links": [trace_link("${__data.fields.trace_id}")]}),
            },
            join="trace_id",
            height=5,
            width=16,
        ),
        stat(
            "Memory",
            "Bytes pending after setup: all memory to send.",
            "max(qemu_migration_ram_bytes)",
            "bytes",
            width=4,
        ),
        stat(
            "Started",
            "When the newest migration began.",
            "max(qemu_migration_start_timestamp_seconds) * 1000",
            "dateTimeAsIso",
            width=4,
        ),
    ],
)

ONE_MIGRATION: Final = Dashboard(
    uid="qemu-migration-one",
    title="QEMU migration / One migration",
    description="One virtual machine: its rounds, what it would need, its phases, its verdict, the way to its trace.",
    rows=[_VERDICT, _ROUNDS, _FACTS],
    vm=True,
)
