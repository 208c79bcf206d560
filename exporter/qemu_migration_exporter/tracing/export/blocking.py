"""Span processor of a replay: it waits for its receiver, so that a slow receiver loses nothing.

The SDK's own batch processor drops spans when its queue is full. Replaying a recording again is harmless, because its
spans have the same ids.
"""

from __future__ import annotations

import time
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from qemu_migration_exporter.tracing.export.batch_config import BATCH_SPANS
from qemu_migration_exporter.tracing.export.codec import encode
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, SpanOutcome
from qemu_migration_exporter.tracing.export.processor import CountingProcessor
from qemu_migration_exporter.tracing.export.sender import ExportResult, ExportStatus, Sender, SpanBatch, export_batch

#: With pauses that double from half a second, the attempts at one batch take half a minute.
_ATTEMPTS: Final = 7
_FIRST_PAUSE_SECONDS: Final = 0.5
_MAX_PAUSE_SECONDS: Final = 60.0


class BlockingSpanProcessor(CountingProcessor):
    """Sender of batches that blocks until a batch is accepted.

    After the first batch that could not be delivered, later batches are not tried, and count as failed.
    """

    def __init__(
        self, sender: Sender, *, attempts: int = _ATTEMPTS, first_pause_seconds: float = _FIRST_PAUSE_SECONDS
    ) -> None:
        self._sender = sender
        self._attempts = attempts
        self._first_pause_seconds = first_pause_seconds
        self._spans: list[ReadableSpan] = []
        self._counts: SpanCounts = {SpanOutcome.EXPORTED: 0, SpanOutcome.REFUSED: 0, SpanOutcome.UNREACHABLE: 0}

    def on_end(self, span: ReadableSpan) -> None:
        """Add a finished span; a full batch is sent before this returns."""
        self._spans.append(span)
        if len(self._spans) >= BATCH_SPANS:
            self._send()

    def shutdown(self) -> None:
        self._send()
        self._sender.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Send waiting spans without a limit of time; return whether every batch so far was delivered."""
        self._send()
        return self._counts[SpanOutcome.UNREACHABLE] == 0

    def counts(self) -> SpanCounts:
        return dict(self._counts)

    def _send(self) -> None:
        spans, self._spans = self._spans, []
        if not spans:
            return
        result = None if self._counts[SpanOutcome.UNREACHABLE] else self._send_with_retries(encode(spans))
        if result is None:
            self._counts[SpanOutcome.UNREACHABLE] += len(spans)
        else:
            accepted = result.status is ExportStatus.ACCEPTED
            rejected = min(result.rejected, len(spans)) if accepted else len(spans)
            self._counts[SpanOutcome.EXPORTED] += len(spans) - rejected
            self._counts[SpanOutcome.REFUSED] += rejected

    def _send_with_retries(self, batch: SpanBatch) -> ExportResult | None:
        """Return the final answer, or None if the receiver answered every attempt with "later" or not at all."""
        began = time.monotonic()
        for attempt in range(self._attempts):
            result = export_batch(self._sender, batch)
            if result.status is not ExportStatus.RETRYABLE:
                return result
            limit = result.give_up_after_seconds
            if limit is not None and time.monotonic() - began >= limit:
                break
            if attempt + 1 < self._attempts:
                pause = max(self._first_pause_seconds * 2**attempt, result.retry_after_seconds or 0.0)
                time.sleep(min(pause, _MAX_PAUSE_SECONDS))
        return None
