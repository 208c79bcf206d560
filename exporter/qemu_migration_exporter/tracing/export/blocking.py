"""How finished spans leave a replay: it waits for its receiver, so nothing is lost however slow that is.

The SDK's own batch processor would drop the oldest spans as soon as its queue is full. Sending a recording again is
harmless: its spans have the same ids.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from qemu_migration_exporter.tracing.export.otlp import Reception, ask
from qemu_migration_exporter.tracing.export.outcomes import EXPORTED, REFUSED, UNREACHABLE, CountingProcessor, Counts

#: The SDK's own batch size (OTEL_BSP_MAX_EXPORT_BATCH_SIZE): some 300 KB a request.
BATCH_SPANS: Final = 512

#: One request may take this long before it counts as failed. Ten seconds, the default, is too short for a receiver that
#: is merely slow.
PATIENCE_SECONDS: Final = 600.0

#: The OTLP client itself retries for half a minute what is worth it; then all of that is tried again.
_ATTEMPTS: Final = 3


class BlockingSpanProcessor(CountingProcessor):
    """Send spans in batches, and wait for each batch to be taken.

    After a batch that could not be delivered nothing more is tried: the spans are counted as failed.
    """

    def __init__(self, exporter: SpanExporter, *, attempts: int = _ATTEMPTS) -> None:
        self._exporter = exporter
        self._attempts = attempts
        self._batch: list[ReadableSpan] = []
        self._counts: Counts = {EXPORTED: 0, REFUSED: 0, UNREACHABLE: 0}

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; may block."""
        self._batch.append(span)
        if len(self._batch) >= BATCH_SPANS:
            self._send()

    def shutdown(self) -> None:
        """Send what is left."""
        self._send()
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Send what is left; a replay takes the time it takes."""
        self._send()
        return self._counts[UNREACHABLE] == 0

    def counts(self) -> Counts:
        """Return how many spans had which fate."""
        return dict(self._counts)

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        for _ in range(self._attempts if batch and not self._counts[UNREACHABLE] else 0):
            answer = ask(self._exporter, batch)
            if answer.reception is Reception.REFUSED:
                self._counts[REFUSED] += len(batch)
                return
            if answer.reception is Reception.TAKEN:
                rejected = min(answer.rejected, len(batch))
                self._counts[EXPORTED] += len(batch) - rejected
                self._counts[REFUSED] += rejected
                return
        self._counts[UNREACHABLE] += len(batch)
