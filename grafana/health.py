"""Exporter health: whether the exporters see, understand and deliver what they should."""

from __future__ import annotations

from typing import Final

from grafana.builder import GREEN, RED, YELLOW, Dashboard, Query, Row, named
from grafana.panels import good_to, graph, stat, table

_IS_UP: Final = ((None, RED), (1, GREEN))

_NOW: Final = Row(
    "Now",
    [
        stat(
            "Exporters down",
            "Targets that Prometheus cannot scrape.",
            "count(up) - sum(up)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "Streams down",
            "Sources that cannot be read: a log is away, a probe has ended.",
            "count(qemu_migration_exporter_stream_up) - sum(qemu_migration_exporter_stream_up)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "Malformed lines",
            "Share of the lines of the time range that look like QEMU's and cannot be understood. Any: the vocabulary"
            " lacks this QEMU's layout, or lines are torn.",
            'sum(increase(qemu_migration_exporter_lines_total{outcome="malformed"}[$__range]))'
            " / (sum(increase(qemu_migration_exporter_lines_total[$__range])) > 0)",
            "percentunit",
            steps=((None, GREEN), (0.0001, YELLOW), (0.01, RED)),
        ),
        stat(
            "Spans lost",
            "Spans dropped or refused in the time range: traces with holes.",
            'sum(increase(qemu_migration_exporter_spans_total{outcome!="exported"}[$__range]))',
            "none",
            steps=good_to(1),
        ),
        stat(
            "Reload failed",
            "Exporters whose last configuration was refused; they run on with the one before.",
            "count(qemu_migration_exporter_config_last_reload_successful)"
            " - sum(qemu_migration_exporter_config_last_reload_successful)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "Machines without series",
            "Virtual machines over metrics.max_vms in the time range: counted in the totals, missing elsewhere.",
            "sum(increase(qemu_migration_exporter_series_limited_total[$__range]))",
            "none",
            steps=good_to(1),
        ),
    ],
)

_READ: Final = Row(
    "What is read",
    [
        graph(
            "Lines",
            "Event: used. Noise: not ours, harmless; much of it is worth a shorter list of events in the probe.",
            [Query("sum by (outcome) (rate(qemu_migration_exporter_lines_total[$__rate_interval]))", "{{outcome}}")],
            "cps",
            overrides={"malformed": {"color": {"mode": "fixed", "fixedColor": RED}}},
        ),
        graph(
            "Surprises",
            "Events that parse and were not expected there, by kind. They change nothing but may name a probe that loses lines.",
            [Query("sum by (kind) (rate(qemu_migration_exporter_surprises_total[$__rate_interval]))", "{{kind}}")],
            "cps",
            stacked=True,
        ),
        graph(
            "Age of the last event",
            "By the stream's own clock. It grows while nothing migrates; while something does, it should stay below a"
            " few seconds, else the probe is behind.",
            [
                Query(
                    "time() - qemu_migration_exporter_stream_last_event_timestamp_seconds",
                    "{{instance}} {{stream}}",
                )
            ],
            "s",
        ),
        table(
            "Streams",
            "Every source of every exporter, and whether it can be read.",
            ["max by (stream, instance) (qemu_migration_exporter_stream_up)"],
            {
                "stream": ("Stream", {}),
                "instance": ("Host", {}),
                "Value": (
                    "Can be read",
                    {
                        "mappings": [named({"0": ("no", RED), "1": ("yes", GREEN)})],
                        "custom.cellOptions": {"type": "color-text"},
                    },
                ),
            },
            join="stream",
            width=12,
        ),
    ],
)

_GIVEN: Final = Row(
    "What is given",
    [
        graph(
            "Spans",
            "By what became of them. Dropped: the queue was full. Failed: the receiver did not take them.",
            [
                Query(
                    "sum by (outcome, reason) (rate(qemu_migration_exporter_spans_total[$__rate_interval]))",
                    "{{outcome}} {{reason}}",
                )
            ],
            "cps",
            stacked=True,
        ),
        graph(
            "Failures",
            "What exporters failed to do themselves, by part: a disk that takes no state, a connection that was not accepted."
            " Nothing else stops for it; the log of the exporter says what and why.",
            [
                Query(
                    "sum by (part) (rate(qemu_migration_exporter_failures_total[$__rate_interval]))",
                    "{{part}}",
                )
            ],
            "cps",
            stacked=True,
        ),
        graph(
            "Time of a scrape",
            "As Prometheus sees it. Thousands of virtual machines take longer; from a tenth of the interval on, lower metrics.max_vms.",
            [Query("scrape_duration_seconds", "{{instance}}")],
            "s",
            steps=good_to(1, 5),
        ),
        graph(
            "Migrations begun",
            "On both sides. A host that migrates and shows none here has no working probe.",
            [
                Query(
                    "sum by (job, instance, side) (increase(qemu_migrations_started_total[$__rate_interval]))",
                    "{{instance}} {{side}}",
                    exemplars=True,
                )
            ],
            "none",
            bars=True,
            stacked=True,
        ),
        table(
            "Versions",
            "Which exporter runs where.",
            ["max by (instance, version, python) (qemu_migration_exporter_build_info)"],
            {"instance": ("Host", {}), "version": ("Version", {}), "python": ("Python", {})},
            join="instance",
            width=12,
        ),
    ],
)

EXPORTER_HEALTH: Final = Dashboard(
    uid="qemu-migration-exporter",
    title="QEMU migration / Exporter health",
    description="Whether the exporters see their streams, understand them, and deliver metrics and spans.",
    rows=[_NOW, _READ, _GIVEN],
    since="now-6h",
)
