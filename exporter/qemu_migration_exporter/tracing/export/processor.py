"""Base class of the span processors: they receive ended spans from OpenTelemetry's SDK and count their outcomes."""

from __future__ import annotations

from abc import abstractmethod

from opentelemetry.sdk.trace import SpanProcessor

from qemu_migration_exporter.tracing.export.outcomes import SpanCounts


class CountingProcessor(SpanProcessor):
    """A span processor that knows the outcome of every span."""

    @abstractmethod
    def counts(self) -> SpanCounts:
        """Return the number of spans by outcome; an outcome that never occurred may be missing."""
