"""How finished spans leave a daemon: through a bounded queue and a thread, so that nothing waits for a receiver."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from exporter.sinks.delivery import BATCH_SPANS, Delivery

logger = logging.getLogger(__name__)

#: A batch leaves this long after its first span at the latest, so that a trace grows while one looks at it.
_LINGER_SECONDS: Final = 1.0


class LiveDelivery(Delivery):
    """Queue spans and send them from a thread; what does not fit is dropped, the newest first, and counted."""

    def __init__(self, exporter: SpanExporter, *, queue_spans: int) -> None:
        super().__init__(exporter)
        self._queue: deque[ReadableSpan] = deque()
        self._queue_spans = queue_spans
        self._wake = threading.Condition()
        self._stopping = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; never blocks."""
        with self._wake:
            if len(self._queue) >= self._queue_spans or self._stopping:
                self._dropped += 1
                return
            self._queue.append(span)
            if len(self._queue) >= BATCH_SPANS:
                self._wake.notify()

    def stop(self, seconds: float) -> None:
        """Send what is left, for so long at most; the rest is counted as dropped."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(seconds)
        with self._wake:
            self._dropped += len(self._queue)
            self._queue.clear()

    def shutdown(self) -> None:
        """Give up what is left: `stop` is for waiting."""
        self.stop(0)
        self._exporter.shutdown()

    def counts(self) -> dict[tuple[str, str], int]:
        """Return spans by (outcome, reason)."""
        return {**super().counts(), ("dropped", "queue_full"): self._dropped}

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopping or len(self._queue) >= BATCH_SPANS, _LINGER_SECONDS)
                batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_SPANS))]
                if not batch and self._stopping:
                    return
            if batch:
                self._deliver(batch)

    def _deliver(self, batch: Sequence[ReadableSpan]) -> None:
        """Send a batch once: the exporter itself retries what is worth it."""
        if self._exporter.export(batch) is SpanExportResult.SUCCESS:
            self._exported += len(batch)
        else:
            self._failed += len(batch)
            logger.warning("%d spans were not delivered", len(batch))
