"""How long migrations, downtimes, phases and rounds take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from grafana.builder import BLUE, GREEN, GREY, PURPLE, RED, YELLOW, Panel, Query, Row
from grafana.panels import PHASES, fixed, good_to, graph

NONE_ENDED: Final = "No migration ended up to the last full five minutes."


def _in_classes(title: str, description: str, metric: str, classes: Sequence[tuple[float | None, str, str]]) -> Panel:
    """Return a panel that counts migrations by class, each up to a bound; the last has none.

    Bars, because a heatmap without data has no text, and few migrations are too pale in it.
    """
    below: list[str] = []
    parts: list[str] = []
    for bound, name, _color in classes:
        le = "+Inf" if bound is None else f"{float(bound)}"
        below.append(f'round(sum(increase({metric}_bucket{{le="{le}"}}[$__interval])))')
        number = " - ".join(reversed(below[-2:]))
        parts.append(f'label_replace({number}, "class", "{name}", "", "")')
    return graph(
        title,
        f"{description} The newest bar comes up to five minutes late.",
        [Query(f"({' or '.join(parts)}) > 0", "{{class}}")],
        "none",
        bars=True,
        stacked=True,
        few=True,
        at_least=2,
        overrides=fixed({name: color for _bound, name, color in classes}),
        empty=NONE_ENDED,
        step="5m",
    )


_LAST_HOUR: Final = "No migration ended within an hour before this time range."

#: The row of the dashboard Fleet.
DISTRIBUTIONS: Final = Row(
    "How long it takes",
    [
        _in_classes(
            "Downtime of migrations, in five minutes",
            "How long guests were stopped. QEMU's default limit is 0.3 s; clients notice a second.",
            "qemu_migration_downtime_seconds",
            (
                (0.1, "below 0.1 s", "dark-green"),
                (0.3, "0.1 to 0.3 s", GREEN),
                (1, "0.3 to 1 s", YELLOW),
                (None, "1 s and more", RED),
            ),
        ),
        _in_classes(
            "Duration of migrations, in five minutes",
            "Total time of outgoing migrations.",
            "qemu_migration_duration_seconds",
            (
                (30, "below 30 s", "light-blue"),
                (120, "30 s to 2 min", BLUE),
                (600, "2 to 10 min", "light-purple"),
                (None, "10 min and more", "dark-purple"),
            ),
        ),
        *(
            graph(
                f"{name}: median and 95th percentile",
                "Over the last hour, from buckets: a percentile lies anywhere in its bucket." + more,
                [
                    Query(
                        f"histogram_quantile({share}, sum by (le) (increase(qemu_migration_{metric}_seconds_bucket[1h]))) >= 0",
                        legend,
                        exemplars=True,
                    )
                    for share, legend in ((0.5, "median"), (0.95, "95th percentile"))
                ],
                "s",
                steps=steps,
                few=True,
                overrides=fixed({"median": BLUE, "95th percentile": PURPLE}),
                empty=_LAST_HOUR,
            )
            for name, metric, more, steps in (
                ("Downtime", "downtime", " QEMU's default limit is 0.3 s.", good_to(0.3, 1)),
                ("Duration", "duration", "", ((None, BLUE),)),
            )
        ),
        graph(
            "Mean time of a phase",
            "Over the last hour. A long setup waits for the destination or for huge pages, a long switchover for devices.",
            [
                Query(
                    "sum by (phase) (increase(qemu_migration_phase_duration_seconds_sum[1h]))"
                    " / (sum by (phase) (increase(qemu_migration_phase_duration_seconds_count[1h])) > 0)",
                    "{{phase}}",
                )
            ],
            "s",
            log=10,
            few=True,
            overrides=fixed({name: color for name, (_text, color) in PHASES.items()}),
            empty=_LAST_HOUR,
        ),
        graph(
            "Mean time of a bitmap sync and of a round",
            "Over the last hour. A sync holds QEMU's big lock: from 0.1 s on guests and monitors notice it.",
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
            log=10,
            few=True,
            overrides=fixed({"bitmap sync": PURPLE, "round": BLUE}),
            empty=_LAST_HOUR,
        ),
    ],
)
