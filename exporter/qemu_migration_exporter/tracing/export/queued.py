"""Span processor of the daemon: the daemon never waits for the receiver, and a crash loses no span.

    on_end ─▶ open spans ─seal─▶ batches in memory ─▶ sender
                                        │  ▲             │ not accepted
                                        ▼  │ restore     ▼
                       commit ─▶ spool, or checkpoint   spool, or back to memory

A thread seals the open spans into a batch, which is an encoded request, when there are enough or when the first span is
a second old. The thread sends batches of the spool first, then batches in memory. While the receiver is away, batches
move to the spool, or stay in memory without a spool. The queue's limit counts open and sealed spans in memory; above
it, new spans are dropped.

`commit` and `release` keep spans and positions consistent:

    commit: spans so far ─▶ spool, or returned ─▶ state file written and synced ─▶ release: the spans may be sent

After `commit`, every span made so far is on disk, or in the returned batches, which belong into the checkpoint. A crash
after the save loses no span; a crash before it makes the same spans again, with the same ids. With `hold_seconds`, no
span is sent before its release, so that lines that are read again do not repeat sent spans. A span is sent at least
once. It is sent twice only if the program is killed between the receiver's answer and the next save, or if the state
file could not be written for `hold_seconds`.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.backoff import Backoff
from qemu_migration_exporter.tracing.export.batch_config import LINGER_SECONDS, BatchConfig
from qemu_migration_exporter.tracing.export.codec import encode
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, SpanOutcome
from qemu_migration_exporter.tracing.export.processor import CountingProcessor
from qemu_migration_exporter.tracing.export.sender import (
    ExportResult,
    ExportStatus,
    Sender,
    SpanBatch,
    export_batch,
    limit_retries,
)
from qemu_migration_exporter.tracing.export.spool import Spool, StoredBatch
from qemu_migration_exporter.tracing.export.waiting import Committed, OpenSpans, Waiting, WaitingBatches

logger = logging.getLogger(__name__)

#: Age at which open spans are sealed while the receiver is away; a batch a second would make many small files.
_OUTAGE_LINGER_SECONDS: Final = 5.0

#: Time that a batch waits for its release, if there is a state file: twice the time between two saves.
HOLD_SECONDS: Final = 10.0


class QueuedSpanProcessor(CountingProcessor):
    """Bounded queue of spans with a sending thread.

    Args:
        sender: The way to the receiver.
        config: Sizes of queue and batch.
        spool: An open spool for batches that cannot be sent yet.
        hold_seconds: Longest time that a batch waits for its release before it is sent.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        config: BatchConfig | None = None,
        spool: Spool | None = None,
        failures: ErrorCounter | None = None,
        hold_seconds: float = 0.0,
    ) -> None:
        self._failures = failures or ErrorCounter()
        self._sender = sender
        self._config = config or BatchConfig()
        self._spool = spool
        self._hold_seconds = hold_seconds
        self._open = OpenSpans(self._config.batch_spans)
        self._memory_spans = 0
        self._counts: SpanCounts = dict.fromkeys(
            (SpanOutcome.EXPORTED, SpanOutcome.REFUSED, SpanOutcome.QUEUE_FULL, SpanOutcome.SHUTDOWN), 0
        )
        self._batches = WaitingBatches()
        self._failing_files: dict[str, float] = {}
        self._backoff = Backoff()
        self._stopping = self._is_stopped = False
        #: Guards the open spans and the counts; held briefly.
        self._wake = threading.Condition()
        #: Guards batches and spool; held during disk writes. Acquired before `_wake` where both are needed.
        self._batch_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span; never blocks on disk or network."""
        with self._wake:
            if self._stopping:
                self._counts[SpanOutcome.SHUTDOWN] += 1
            elif self._memory_spans >= self._config.queue_spans:
                self._counts[SpanOutcome.QUEUE_FULL] += 1
            else:
                self._memory_spans += 1
                if self._open.add(span):
                    self._wake.notify()

    def commit(self) -> Committed:
        """Secure every span so far against a crash, and return the batches that the caller has to save.

        With a working spool all batches are on disk, and there are none to save.
        """
        with self._batch_lock:
            while self._seal(everything=True):
                pass
            self._store()
            committed = self._batches.commit()
            if self._is_stopped:
                self._batches.forget()
        return committed

    def release(self, number: int) -> None:
        """Permit sending the spans of a commit and of earlier commits, because the positions behind them are saved."""
        with self._batch_lock:
            self._batches.release(number)
            self._forget_stored()
        with self._wake:
            self._wake.notify()

    def restore(self, batches: Iterable[SpanBatch]) -> None:
        """Queue batches that an earlier run's `commit` returned, before any others."""
        with self._batch_lock, self._wake:
            self._memory_spans += self._batches.restore(batches)
            self._wake.notify()

    def stop(self, seconds: float) -> None:
        """Send waiting spans within this time; the rest goes to the spool, or waits for a last `commit`."""
        with self._wake:
            self._stopping = True
            self._backoff.resume()  # a last attempt, even if the receiver requested a pause
            self._wake.notify()
        self._thread.join(seconds)
        with self._batch_lock:
            if self._is_stopped:
                return
            self._is_stopped = True
            self._batches.put_back()
            while self._seal(everything=True):
                pass
            self._store()

    def shutdown(self) -> None:
        """Stop without waiting, and count spans that were not saved as dropped."""
        self.stop(0)
        with self._batch_lock:
            lost = self._batches.forget()
            if self._spool is not None:
                self._spool.close()
        with self._wake:
            self._counts[SpanOutcome.SHUTDOWN] += lost
        if lost:
            logger.warning("%d spans lost at shutdown: receiver away, no spool", lost)
        self._sender.close()

    def counts(self) -> SpanCounts:
        return {**self._counts, **(self._spool.counts() if self._spool is not None else {})}

    # The thread

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._has_work():
                    self._wake.wait(self._wait_seconds())
                is_last = self._stopping
            # An exception must never end the export thread.
            with self._failures.guard(Component.SPANS, "span export failed") as attempt:
                is_idle = not self._work()
            if attempt.failed:
                self._pause(0.0)
            elif is_last and is_idle:
                return
            if not is_last and self._stopping:
                self._backoff.resume()  # `stop` came during an attempt; one more follows

    def _has_work(self) -> bool:
        """Return whether the thread has work to do at once."""
        if self._stopping:
            return True
        if self._backoff.is_pausing:
            return self._open.is_full and self._stores
        is_stored = self._spool is not None and self._spool.batches > len(self._batches.held_files())
        return self._open.is_full or is_stored or self._batches.is_any_free()

    def _wait_seconds(self) -> float | None:
        """Return the time that the thread may sleep, None until a new span comes."""
        is_idle = not (self._open or self._batches or self._spool)
        return None if is_idle else min(self._config.linger_seconds, LINGER_SECONDS)

    @property
    def _stores(self) -> bool:
        """True if there is a spool that accepts batches."""
        return self._spool is not None and not self._spool.is_failing

    def _work(self) -> bool:
        """Seal a batch if it is due, then send one batch or store all; return whether there was a batch to send."""
        with self._batch_lock:
            if self._is_stopped:
                return False
            self._seal(everything=self._stopping)
            if self._backoff.is_pausing:
                self._store(time.monotonic())  # not the batches that wait for a commit
                return False
            self._forget_stored()
            stored = self._take_next()
        if stored is not None:
            self._settle_stored(stored.name, stored.batch, export_batch(self._sender, stored.batch))
            return True
        sending = self._batches.sending
        if sending is not None:
            self._settle(sending, export_batch(self._sender, sending.batch))
            return True
        return False

    def _seal(self, *, everything: bool) -> bool:
        """Encode the open spans as a batch if it is full or due; return whether any spans were left."""
        linger = 0.0 if everything else self._config.linger_seconds
        if not everything and self._backoff.is_pausing:
            linger = max(linger, _OUTAGE_LINGER_SECONDS)
        with self._wake:
            spans = self._open.take(linger)
        if not spans:
            return False
        try:
            batch = encode(spans)
        except Exception:
            logger.exception("span encoding failed: %d spans", len(spans))
            self._release(len(spans))
            self._count(SpanOutcome.REFUSED, len(spans))
        else:
            self._batches.add(Waiting(batch, held_until=time.monotonic() + self._hold_seconds))
        return True

    def _store(self, held_until: float = math.inf) -> None:
        """Move to the spool the batches that are free by some time."""
        if self._spool is not None:
            self._batches.store(self._spool, held_until)
            self._forget_stored()

    def _forget_stored(self) -> None:
        """Leave to the spool the free batches in it."""
        self._release(self._batches.forget_stored())

    def _take_next(self) -> StoredBatch | None:
        """Return the batch of the spool to send now, or make a batch in memory the one to send.

        The spool has the older batches. At the end its batches are safe, so batches in memory come first.
        """
        batches = self._batches
        batches.sending = batches.take(is_last=True) if self._stopping else None
        stored = self._next_stored() if batches.sending is None else None
        if stored is None:
            batches.sending = batches.sending or batches.take(is_last=self._stopping)
        elif not self._stopping:
            self._store(time.monotonic())
        return stored

    def _next_stored(self) -> StoredBatch | None:
        if self._spool is None:
            return None
        try:
            return self._spool.first(() if self._stopping else self._batches.held_files())
        except OSError as error:
            message = "spool read failed, retrying: %s: %s"
            self._failures.record(Component.SPOOL, message, error.filename, error.strerror)
            self._backoff.wait()
            return None

    def _settle(self, item: Waiting, result: ExportResult) -> None:
        """Finish or requeue a batch that was sent from memory."""
        with self._batch_lock:
            if self._is_stopped:
                return  # `stop` has put it away already
            self._batches.sending = None
            final, item.failing_since = self._final_result(result, item.failing_since)
            if final is not None:
                self._finish(item.batch, final)
                self._release(item.batch.spans)
                if item.file is not None and self._spool is not None:
                    self._spool.remove(item.file)
                return
            if item.file is None and self._spool is not None:
                item.file = self._spool.put(item.batch)
            if item.file is None:
                self._batches.add(item)
            else:
                self._release(item.batch.spans)

    def _settle_stored(self, name: str, batch: SpanBatch, result: ExportResult) -> None:
        """Finish or defer a batch that was sent from the spool."""
        with self._batch_lock:
            if self._is_stopped or self._spool is None:
                return  # it stays on disk for the next run
            final, failing_since = self._final_result(result, self._failing_files.pop(name, None))
            if final is not None:
                self._spool.remove(name)
                self._finish(batch, final)
                return
            self._spool.defer(name)
            if failing_since is not None:
                self._failing_files[name] = failing_since

    def _final_result(
        self, result: ExportResult, failing_since: float | None
    ) -> tuple[ExportResult | None, float | None]:
        """Return the final result of a batch, or None and the time since which its retries are limited."""
        if result.status is not ExportStatus.RETRYABLE:
            if self._backoff.succeeded():
                logger.info("receiver answers again")
            return result, None
        self._pause(result.retry_after_seconds or 0.0)
        return limit_retries(result, failing_since)

    def _finish(self, batch: SpanBatch, result: ExportResult) -> None:
        accepted = result.status is ExportStatus.ACCEPTED
        rejected = min(result.rejected, batch.spans) if accepted else batch.spans
        self._count(SpanOutcome.EXPORTED, batch.spans - rejected)
        self._count(SpanOutcome.REFUSED, rejected)
        if rejected:
            logger.warning("span export failed: %d spans rejected", rejected)

    def _release(self, spans: int) -> None:
        """Free the queue's room for these spans."""
        with self._wake:
            self._memory_spans -= spans

    def _count(self, outcome: SpanOutcome, spans: int) -> None:
        with self._wake:
            self._counts[outcome] += spans

    def _pause(self, asked_seconds: float) -> None:
        """Pause before the next attempt."""
        if self._backoff.failed(asked_seconds):
            logger.warning("span export failed, retrying; spans wait %s", "on disk" if self._stores else "in memory")
