"""The reference of the metrics, METRICS.md, made of their single list: `make reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from qemu_migration_exporter.core.model import Mode, PhaseName, Result, Side, StallReason, SurpriseKind
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION, Metric
from qemu_migration_exporter.ops.errors import Component
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome


def _values(kind: type[StrEnum]) -> str:
    return " ".join(f"`{value}`" for value in kind)


#: Why a span was not delivered; the README has a sentence for each.
_REASONS: Final = " ".join(f"`{reason}`" for reason in (outcome.reason for outcome in SpanOutcome) if reason)

#: What each label can be.
LABELS: Final = {
    "kind": _values(SurpriseKind),
    "mode": _values(Mode),
    "outcome": "of a line `event` `noise` `malformed`; of a span `exported` `dropped` `failed`",
    "part": _values(Component),
    "phase": _values(PhaseName),
    "python": "the version of Python",
    "reason": f"of a stall {_values(StallReason)}; of a span {_REASONS}, else empty",
    "result": _values(Result),
    "side": _values(Side),
    "stream": "the source's path, or what stands for it",
    "trace_id": "32 hexadecimal digits",
    "uuid": "the virtual machine's, empty where the stream does not tell it",
    "version": "the version of the exporter",
    "vm": "the virtual machine's name",
}

_INTRODUCTION: Final = """\
# Metrics

Bytes, seconds and ratios, nothing else; samples carry no timestamps.
Series with `vm` describe the newest outgoing migration of a virtual machine, and go on over its attempts.
They disappear `metrics.retention` after it ended, and their number is capped by `metrics.max_vms`.
Every finite set of labels without `vm` is there at 0 from the start.
Histogram buckets and the counters of migrations carry exemplars with `trace_id` and `span_id`.
A number in parentheses is the release of QEMU that has the event.

This file is made by `make reference`.
"""


def text() -> str:
    """Give the whole document."""
    labels = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in LABELS.items())
    return "\n".join(
        (
            _INTRODUCTION,
            "## Migrations\n",
            _table(metric for metric in MIGRATION if metric.kind != "histogram"),
            "## Durations\n",
            _table(metric for metric in MIGRATION if metric.kind == "histogram"),
            *(_buckets(metric) for metric in MIGRATION if metric.buckets),
            "",
            "## The exporter\n",
            _table(EXPORTER),
            "## Labels\n",
            f"| label | values |\n|---|---|\n{labels}",
        )
    )


def _table(metrics: Iterable[Metric]) -> str:
    rows = (
        f"| `{metric.name}` | {metric.kind} | {' '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |\n"
        for metric in metrics
    )
    return f"| name | type | labels | |\n|---|---|---|---|\n{''.join(rows)}"


def _buckets(metric: Metric) -> str:
    return f"- `{metric.name}`: buckets to {', '.join(f'{bound:g}' for bound in metric.buckets)} s"


if __name__ == "__main__":
    sys.stdout.write(text())
