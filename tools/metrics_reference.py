"""Generator of docs/metrics.md from the table of metrics: `make reference`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from qemu_migration_exporter.core.model import Kind, Mode, PhaseName, Result, Side, StallReason, SurpriseKind
from qemu_migration_exporter.metrics.families import Metric
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION
from qemu_migration_exporter.ops.errors import Component
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome


def _values(kind: type[StrEnum]) -> str:
    return " ".join(f"`{value}`" for value in kind)


#: Reasons why spans were not delivered.
_REASONS: Final = " ".join(f"`{reason}`" for reason in (outcome.reason for outcome in SpanOutcome) if reason)

#: Values of every label.
LABELS: Final = {
    "kind": f"of a migration {_values(Kind)}; of a surprise {_values(SurpriseKind)}",
    "mode": _values(Mode),
    "outcome": "of a line `event` `noise` `malformed`; of a span `exported` `dropped` `failed`",
    "part": _values(Component),
    "phase": _values(PhaseName),
    "python": "version of Python",
    "reason": f"of a stall {_values(StallReason)}; of a span {_REASONS}, else empty",
    "result": _values(Result),
    "side": _values(Side),
    "stream": "path or name of the source",
    "trace_id": "32 hexadecimal digits",
    "uuid": "uuid of the virtual machine, empty if the stream does not have it",
    "version": "version of the exporter",
    "vm": "name of the virtual machine",
}

_INTRODUCTION: Final = """\
# Metrics

Units are bytes, seconds and ratios. Samples have no timestamps.
Series with `vm` describe the newest outgoing migration of a virtual machine and continue over its attempts; those with
`incoming` in their name describe the newest incoming migration.
They are dropped `metrics.retention` after the migration ended, or at once if the guest is gone.
Their number is limited by `metrics.max_vms`.
Every finite label set without `vm` exists at 0 from the start.
Histograms cover outgoing live migrations and are filled when a migration ends; other kinds of jobs are in
`qemu_migrations_finished_total` by `kind`.
Histogram buckets and the counters of migrations have exemplars with `trace_id` and `span_id`.
The numbers in parentheses are the QEMU releases that have the trace event.

`make reference` writes this file.
"""


def text() -> str:
    """Return the document."""
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
