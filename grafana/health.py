"""Exporter health: hosts and streams that are down by name, then what the exporters read and deliver."""

from __future__ import annotations

from typing import Final

from grafana.builder import BLUE, GREEN, GREY, PER_SECOND, RED, YELLOW, Dashboard, Query, Row
from grafana.panels import HOST, Column, fixed, good_to, graph, stat, table

_NOT_SCRAPED: Final = "No exporter was scraped in this time range."

_NOW: Final = Row(
    "Now",
    [
        stat(
            "Exporters down",
            "Targets that Prometheus cannot scrape; the table below lists them.",
            "count(up) - sum(up)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "Streams down",
            "Sources that cannot be read: a log is gone, a probe has ended.",
            "count(qemu_migration_exporter_stream_up) - sum(qemu_migration_exporter_stream_up)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "Malformed lines",
            "Share of the lines in the time range that look like QEMU's and do not parse. Any: the table of events lacks"
            " this QEMU's layout, or lines are torn.",
            'sum(increase(qemu_migration_exporter_lines_total{outcome="malformed"}[$__range]))'
            " / (sum(increase(qemu_migration_exporter_lines_total[$__range])) > 0)",
            "percentunit",
            steps=((None, GREEN), (0.0001, YELLOW), (0.01, RED)),
            empty="no lines",
        ),
        stat(
            "Spans lost",
            "Spans dropped or refused in the time range: traces have holes.",
            'round(sum(increase(qemu_migration_exporter_spans_total{outcome!="exported"}[$__range])))',
            "none",
            steps=good_to(1),
        ),
        stat(
            "Reload failed",
            "Exporters whose last configuration was refused; they go on with the one before.",
            "count(qemu_migration_exporter_config_last_reload_successful)"
            " - sum(qemu_migration_exporter_config_last_reload_successful)",
            "none",
            steps=good_to(1),
        ),
        stat(
            "VMs without series",
            "Virtual machines over metrics.max_vms in the time range: counted in the totals, absent elsewhere.",
            "round(sum(increase(qemu_migration_exporter_series_limited_total[$__range])))",
            "none",
            steps=good_to(1),
        ),
        table(
            "Exporters that do not answer",
            "Targets that Prometheus cannot scrape. Migrations of these hosts are not seen.",
            ["max by (job, instance) (up) == 0"],
            {
                "instance": Column(title="Host"),
                "job": Column(title="Job", width=200),
                "Value": Column(title="Answers", width=100, states={"0": ("no", RED)}),
            },
            sort="Host",
            empty="All exporters answer.",
            height=5,
            width=12,
        ),
        table(
            "Streams that cannot be read",
            "The exporter's log and its landing page give the error.",
            ["max by (job, instance, stream) (qemu_migration_exporter_stream_up) == 0"],
            {
                "stream": Column(title="Stream", wraps=True),
                **HOST,
                "Value": Column(title="Readable", width=100, states={"0": ("no", RED)}),
            },
            sort="Stream",
            empty="All streams can be read.",
            height=5,
            width=12,
        ),
    ],
)

_READ: Final = Row(
    "Reading",
    [
        graph(
            "Lines",
            "Event: used. Noise: other lines, harmless; much of it is a reason for a shorter list of events in the probe.",
            [Query("sum by (outcome) (rate(qemu_migration_exporter_lines_total[$__rate_interval]))", "{{outcome}}")],
            PER_SECOND,
            few=True,
            at_least=1,
            overrides=fixed({"event": BLUE, "noise": GREY, "malformed": RED}),
            empty=_NOT_SCRAPED,
        ),
        graph(
            "Surprises",
            "Events that parse and were not expected there, by kind. They change nothing, but may mean a probe that loses"
            " lines.",
            [Query("sum by (kind) (rate(qemu_migration_exporter_surprises_total[$__rate_interval])) > 0", "{{kind}}")],
            PER_SECOND,
            stacked=True,
            at_least=1,
            hue=YELLOW,
            empty="No surprises in this time range.",
        ),
        graph(
            "Age of the last event",
            "By the stream's own clock. It grows while nothing migrates; during a migration more than a few seconds mean"
            " that the probe is behind.",
            [
                Query(
                    "time() - qemu_migration_exporter_stream_last_event_timestamp_seconds",
                    "{{stream}} {{instance}}",
                )
            ],
            "s",
            rename="^(?:.*/)?(.*?)(?::[0-9]+)?$",
            empty="No stream has had an event.",
        ),
        table(
            "Streams",
            "Every source of every exporter.",
            ["max by (job, instance, stream) (qemu_migration_exporter_stream_up)"],
            {
                "stream": Column(title="Stream", wraps=True),
                **HOST,
                "Value": Column(title="Readable", width=100, states={"0": ("no", RED), "1": ("yes", GREEN)}),
            },
            sort="Readable",
            empty=_NOT_SCRAPED,
            width=12,
        ),
    ],
)

_GIVEN: Final = Row(
    "Delivering",
    [
        graph(
            "Spans",
            "By their outcome. Dropped: the queue was full. Failed: the receiver did not take them.",
            [
                Query(
                    'sum(rate(qemu_migration_exporter_spans_total{outcome="exported"}[$__rate_interval])) > 0',
                    "exported",
                ),
                Query(
                    "sum by (outcome, reason)"
                    ' (rate(qemu_migration_exporter_spans_total{outcome!="exported"}[$__rate_interval])) > 0',
                    "{{outcome}}, {{reason}}",
                ),
            ],
            PER_SECOND,
            stacked=True,
            at_least=1,
            hue=RED,
            overrides=fixed({"exported": BLUE}),
            empty="No spans in this time range.",
        ),
        graph(
            "Failures",
            "Operations of the exporters that failed, by part: a disk that takes no state, a connection that was not"
            " accepted. The exporter's log has the error.",
            [Query("sum by (part) (rate(qemu_migration_exporter_failures_total[$__rate_interval])) > 0", "{{part}}")],
            PER_SECOND,
            stacked=True,
            at_least=1,
            hue=RED,
            empty="No failures in this time range.",
        ),
        graph(
            "Duration of a scrape",
            "Thousands of virtual machines take longer; above a tenth of the interval lower metrics.max_vms.",
            [Query("scrape_duration_seconds", "{{instance}}")],
            "s",
            at_least=0.1,
            empty=_NOT_SCRAPED,
        ),
        graph(
            "Migrations begun, in five minutes",
            "Both directions. A host that migrates and shows none here has no working probe.",
            [
                Query(
                    "sum by (job, instance, side) (round(increase(qemu_migrations_started_total[$__interval]))) > 0",
                    "{{side}} {{instance}}",
                    exemplars=True,
                )
            ],
            "none",
            bars=True,
            stacked=True,
            at_least=2,
            step="5m",
            empty="No migration began up to the last full five minutes.",
        ),
        table(
            "Versions",
            "The exporter of each host.",
            ["max by (job, instance, version, python) (qemu_migration_exporter_build_info)"],
            {
                "instance": Column(title="Host"),
                "version": Column(title="Version", width=200),
                "python": Column(title="Python", width=120),
            },
            sort="Version",
            empty=_NOT_SCRAPED,
            width=12,
        ),
    ],
)

EXPORTER_HEALTH: Final = Dashboard(
    uid="qemu-migration-exporter",
    title="QEMU migration / Exporter health",
    description="Hosts and streams that are down, and whether the exporters read, parse and deliver.",
    rows=[_NOW, _READ, _GIVEN],
    since="now-6h",
)
