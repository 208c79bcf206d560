"""Outcomes of spans: their labels, and their sums."""

from __future__ import annotations

import re

from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome, total

from tests.support.paths import ROOT


def test_labels_are_documented() -> None:
    text = (ROOT / "docs" / "traces.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(exported|failed|dropped)` \| (?:`(\w+)`)? ?\|", text, re.MULTILINE)

    assert [(outcome.outcome, outcome.reason) for outcome in SpanOutcome] == rows


def test_total_has_every_outcome() -> None:
    counts = total([{SpanOutcome.EXPORTED: 3}, {SpanOutcome.EXPORTED: 4, SpanOutcome.SHUTDOWN: 1}])

    assert counts == {**dict.fromkeys(SpanOutcome, 0), SpanOutcome.EXPORTED: 7, SpanOutcome.SHUTDOWN: 1}
