"""How finished spans leave a daemon: through a bounded queue and a thread, so that nothing waits for a receiver.

While the receiver takes nothing they wait, on disk if there is a place for it, else in memory.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.blocking import BATCH_SPANS
from qemu_migration_exporter.tracing.export.otlp import Answer, Reception, ask
from qemu_migration_exporter.tracing.export.outcomes import (
    EXPORTED,
    QUEUE_FULL,
    REFUSED,
    SHUTDOWN,
    CountingProcessor,
    Counts,
)
from qemu_migration_exporter.tracing.export.spool import Spool

logger = logging.getLogger(__name__)

#: Some 60 MB of spans: hours of one stuck migration, or a minute of a host that is emptied.
DEFAULT_QUEUE_SPANS: Final = 16_384

#: A batch leaves this long after its first span at the latest, so that a trace grows while one looks at it.
_LINGER_SECONDS: Final = 1.0

#: Between two attempts in an outage; a receiver that asks for more (Retry-After) gets it, up to a limit.
_MIN_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 60.0
_MAX_ASKED_SECONDS: Final = 300.0
#: Enough for the longest pause.
_MAX_FAILURES: Final = 8

#: While spans go to the disk, a file that is not full is written this often: a second's worth would be many small ones.
_STORE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """How many spans wait and leave together; what is not given is as OTEL_BSP_ variables say, else ours."""

    queue_spans: int = DEFAULT_QUEUE_SPANS
    batch_spans: int = BATCH_SPANS
    linger_seconds: float = _LINGER_SECONDS

    @classmethod
    def of(cls, queue_spans: int | None) -> BatchConfig:
        """Read the variables."""
        queue = queue_spans or _number("OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_QUEUE_SPANS)
        batch = min(queue, _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SPANS))
        linger = _number("OTEL_BSP_SCHEDULE_DELAY", round(_LINGER_SECONDS * 1_000))
        return cls(queue_spans=queue, batch_spans=batch, linger_seconds=linger / 1_000)


class QueuedSpanProcessor(CountingProcessor):
    """Queue spans and send them from a thread; what does not fit is dropped, the newest first, and counted.

    Args:
        exporter: Sends a batch.
        pace: How many at once.
        spool: An open one, where spans wait for a receiver that is away.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        pace: BatchConfig | None = None,
        spool: Spool | None = None,
        failures: ErrorCounter | None = None,
    ) -> None:
        self._failures = failures or ErrorCounter()
        self._exporter = exporter
        self._pace = pace or BatchConfig()
        self._spool = spool
        self._queue: deque[ReadableSpan] = deque()
        #: What was taken out of the queue and is not settled.
        self._sending: Sequence[ReadableSpan] = ()
        self._taken_at = time.monotonic()
        self._counts: Counts = {EXPORTED: 0, REFUSED: 0, QUEUE_FULL: 0, SHUTDOWN: 0}
        self._unanswered = 0
        self._resume_at = 0.0
        self._stopping = self._is_stopped = False
        #: Of the queue, and never held for long.
        self._wake = threading.Condition()
        #: Of the spool, and held while the disk writes. Who takes both takes this one first.
        self._disk = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; never blocks."""
        with self._wake:
            if self._stopping:
                self._counts[SHUTDOWN] += 1
            elif len(self._queue) >= self._pace.queue_spans:
                self._counts[QUEUE_FULL] += 1
            else:
                self._queue.append(span)
                if len(self._queue) >= self._pace.batch_spans:
                    self._wake.notify()

    def stop(self, seconds: float) -> None:
        """Send what is left, for so long at most; the rest goes to the disk, or is counted as dropped."""
        with self._wake:
            self._stopping = True
            self._resume_at = 0.0  # one last attempt
            self._wake.notify()
        self._thread.join(seconds)
        with self._disk:
            if not self._is_stopped:
                self._is_stopped = True
                self._put_away()

    def shutdown(self) -> None:
        """Give up what is left: `stop` is for waiting."""
        self.stop(0)
        self._exporter.shutdown()

    @property
    def is_settled(self) -> bool:
        """Whether everything that was told is with the receiver or on disk, and would outlive this program."""
        with self._wake:
            return not self._queue and not self._sending

    def counts(self) -> Counts:
        """Return how many spans had which fate."""
        return {**self._counts, **(self._spool.counts() if self._spool is not None else {})}

    def _put_away(self) -> None:
        with self._wake:
            left = [*self._sending, *self._queue]
            self._queue.clear()
        size = self._pace.batch_spans
        for batch in (left[start : start + size] for start in range(0, len(left), size)):
            if self._spool is None or not self._spool.put(batch):
                self._counts[SHUTDOWN] += len(batch)
        if self._spool is not None:
            self._spool.close()

    # The thread

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(self._is_due, self._pace.linger_seconds)
                batch = self._take()
                if self._stopping and not batch:
                    return
            # A thread that ends would end all export.
            with self._failures.attempt(Component.SPANS, "%d spans were not delivered", len(batch)) as attempt:
                if batch:
                    self._deliver(batch)
                elif self._spool and not self._is_pausing:
                    self._deliver_stored(self._spool)
            if attempt.failed:
                self._settle(batch, Answer(Reception.REFUSED))
                self._pause(0.0)

    def _is_due(self) -> bool:
        """Say whether there is something to do before the linger is over."""
        is_full = len(self._queue) >= self._pace.batch_spans
        if self._is_pausing:
            return self._stopping or (is_full and self._stores)
        return self._stopping or is_full or bool(self._spool)

    @property
    def _is_pausing(self) -> bool:
        return time.monotonic() < self._resume_at

    @property
    def _stores(self) -> bool:
        """Whether the disk takes spans."""
        return self._spool is not None and not self._spool.is_failing

    @property
    def _waits_for_disk(self) -> bool:
        """Whether what is taken out of the queue now goes to the disk: the receiver is away, or has others to take."""
        return self._stores and (self._is_pausing or (bool(self._spool) and not self._stopping))

    def _take(self) -> list[ReadableSpan]:
        """Take a batch out of the queue, unless it is to stay there for now."""
        if self._is_pausing and not self._stores:
            return []
        is_small = len(self._queue) < self._pace.batch_spans
        if (
            self._waits_for_disk
            and is_small
            and not self._stopping
            and time.monotonic() < self._taken_at + _STORE_SECONDS
        ):
            return []
        self._taken_at = time.monotonic()
        self._sending = [self._queue.popleft() for _ in range(min(len(self._queue), self._pace.batch_spans))]
        return list(self._sending)

    def _deliver(self, batch: Sequence[ReadableSpan]) -> None:
        """Send a batch, or keep it: on disk, behind what waits there, or else in the queue."""
        if self._waits_for_disk or not self._settle(batch, ask(self._exporter, batch)):
            with self._disk:
                if self._is_stopped:
                    return  # `stop` has put it away
                is_stored = self._spool is not None and self._spool.put(batch)
                with self._wake:
                    self._sending = ()
                    self._queue.extend(() if is_stored else batch)

    def _deliver_stored(self, spool: Spool) -> None:
        """Send one batch that waited on disk."""
        try:
            with self._disk:
                batch = spool.first()
        except OSError as error:
            self._failures.note(
                Component.SPOOL, "spans wait on disk for longer: %s: %s", error.filename, error.strerror
            )
            self._resume_at = time.monotonic() + _MIN_PAUSE_SECONDS
            return
        if batch is None:
            return
        is_settled = self._settle(batch.spans, ask(self._exporter, batch.spans))
        with self._disk:
            if self._is_stopped:
                return  # it stays, and is sent again by the next run
            if is_settled:
                spool.remove(batch.name)
            else:
                spool.defer(batch.name)

    def _settle(self, batch: Sequence[ReadableSpan], answer: Answer) -> bool:
        """Count a batch by what the receiver said; say whether that was the end of it."""
        if self._is_stopped:
            return True  # `stop` has counted it
        if answer.reception is Reception.LATER:
            self._pause(answer.after_seconds or 0.0)
            return False
        rejected = min(answer.rejected, len(batch)) if answer.reception is Reception.TAKEN else len(batch)
        with self._wake:
            self._sending = ()
            self._counts[EXPORTED] += len(batch) - rejected
            self._counts[REFUSED] += rejected
        if rejected:
            logger.warning("%d spans were refused", rejected)
        if self._unanswered:
            logger.info("the receiver answers again")
        self._unanswered = 0
        return True

    def _pause(self, asked_seconds: float) -> None:
        """Leave the receiver alone for a while, longer each time: it may be many that ask it."""
        if not self._unanswered:
            logger.warning("the receiver takes no spans; they wait %s", "on disk" if self._stores else "in memory")
        pause = min(_MIN_PAUSE_SECONDS * 2**self._unanswered, _MAX_PAUSE_SECONDS)
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 - it spreads attempts, and keeps no secret
        self._unanswered = min(self._unanswered + 1, _MAX_FAILURES)
        self._resume_at = time.monotonic() + max(pause, min(asked_seconds, _MAX_ASKED_SECONDS))


def _number(variable: str, default: int) -> int:
    """Read a whole number above 0 from the environment."""
    text = os.environ.get(variable, "").strip()
    if text.isdecimal() and int(text):
        return int(text)
    if text:
        logger.warning("%s: expected a whole number above 0, got %r; it is ignored", variable, text)
    return default
