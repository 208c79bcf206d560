"""Spans kept as they ended, for tests that look at them or encode them themselves."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan
from qemu_migration_exporter.tracing.export.outcomes import CountingProcessor, Counts


class KeptSpans(CountingProcessor):
    """Keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span."""
        self.spans.append(span)

    def counts(self) -> Counts:
        """Count none: what is kept was not sent."""
        return {}
