"""Spans as they ended, for tests that inspect or encode them."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts
from qemu_migration_exporter.tracing.export.processor import CountingProcessor


class KeptSpans(CountingProcessor):
    """A processor that keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self.spans.append(span)

    def counts(self) -> SpanCounts:
        """Return no counts: the spans were not sent."""
        return {}
