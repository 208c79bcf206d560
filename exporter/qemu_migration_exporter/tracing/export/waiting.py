"""Spans in memory: those that are in no batch yet, and batches in their order.

A batch may not leave before a time. It waits for its commit, for the disk that the commit is written to, and for the
receiver:

    add ─▶ held ─commit(n)─▶ held, secured ─release(n)─▶ free ─take─▶ being sent ─▶ done, or added again

A batch that has a copy in the spool is forgotten here as soon as it is free, because the spool sends it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from qemu_migration_exporter.tracing.export.sender import SpanBatch
from qemu_migration_exporter.tracing.export.spool import Spool


class OpenSpans:
    """Ended spans that are in no batch yet; not thread-safe."""

    def __init__(self, batch_spans: int) -> None:
        self._batch_spans = batch_spans
        self._spans: list[ReadableSpan] = []
        self._since = 0.0

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def is_full(self) -> bool:
        """True if there are enough spans for a batch."""
        return len(self._spans) >= self._batch_spans

    def add(self, span: ReadableSpan) -> bool:
        """Add a span; return True if it is the first or the last of a batch."""
        if not self._spans:
            self._since = time.monotonic()
        self._spans.append(span)
        return len(self._spans) in {1, self._batch_spans}

    def take(self, linger_seconds: float) -> list[ReadableSpan]:
        """Remove and return the spans of a batch, if they are enough or the first waited for this time."""
        if not (self.is_full or time.monotonic() >= self._since + linger_seconds):
            return []
        spans, self._spans = self._spans[: self._batch_spans], self._spans[self._batch_spans :]
        self._since = time.monotonic()
        return spans


@dataclass(slots=True, eq=False)
class Waiting:
    """A batch in memory.

    Attributes:
        held_until: Monotonic time before which only `release` frees it.
        commit: Number of the commit that returned or stored it.
        file: Name of its copy in the spool.
        failing_since: Monotonic time of the first answer that limits the retries.
    """

    batch: SpanBatch
    held_until: float = 0.0
    commit: int | None = None
    file: str | None = None
    failing_since: float | None = None


class Committed(NamedTuple):
    """Result of a commit: its number for `release`, and the batches to save with the positions."""

    number: int
    unsent: tuple[SpanBatch, ...]


class WaitingBatches:
    """Batches in memory; not thread-safe.

    Attributes:
        sending: The batch that is being sent from memory.
    """

    def __init__(self) -> None:
        self.sending: Waiting | None = None
        self._queue: deque[Waiting] = deque()
        self._commits = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, item: Waiting) -> None:
        """Append a batch."""
        self._queue.append(item)

    def restore(self, batches: Iterable[SpanBatch]) -> int:
        """Put batches in front of all others; return the number of spans in them."""
        restored = [Waiting(batch) for batch in batches]
        self._queue.extendleft(reversed(restored))
        return sum(item.batch.spans for item in restored)

    def take(self, *, is_last: bool) -> Waiting | None:
        """Remove and return the first batch that is free and not in the spool; at the end no batch is held."""
        now = time.monotonic()
        for item in self._queue:
            if item.file is None and (is_last or item.held_until <= now):
                self._queue.remove(item)
                return item
        return None

    def put_back(self) -> None:
        """Put the batch that is being sent in front of all others."""
        if self.sending is not None:
            self._queue.appendleft(self.sending)
            self.sending = None

    def commit(self) -> Committed:
        """Assign a number to the batches so far; return the batches that are not in the spool."""
        self._commits += 1
        for item in self._all():
            item.commit = item.commit or self._commits
        return Committed(self._commits, tuple(item.batch for item in self._all() if item.file is None))

    def release(self, number: int) -> None:
        """Free the batches of this commit and of earlier commits."""
        for item in self._all():
            if item.commit is not None and item.commit <= number:
                item.held_until = 0.0

    def store(self, spool: Spool, held_until: float = math.inf) -> None:
        """Copy to the spool the batch that is being sent, and the batches that are free by some time."""
        for item in self._all():
            if item.file is None and (item.held_until <= held_until or item is self.sending):
                item.file = spool.put(item.batch)
                if item is self.sending:
                    spool.sending = item.file

    def forget_stored(self) -> int:
        """Drop the free batches that have a copy in the spool; return the number of their spans."""
        now = time.monotonic()
        stored = [item for item in self._queue if item.file is not None and item.held_until <= now]
        for item in stored:
            self._queue.remove(item)
        return sum(item.batch.spans for item in stored)

    def forget(self) -> int:
        """Drop all batches; return the number of spans that are not in the spool."""
        lost = sum(item.batch.spans for item in self._queue if item.file is None)
        self._queue.clear()
        return lost

    def is_any_free(self) -> bool:
        """Return whether a batch may be sent; any thread may ask."""
        now = time.monotonic()
        return any(item.held_until <= now for item in tuple(self._queue))

    def held_files(self) -> set[str]:
        """Return the files of the spool that wait for their release; any thread may ask."""
        return {item.file for item in tuple(self._queue) if item.file is not None}

    def _all(self) -> list[Waiting]:
        """Return all batches, the one that is being sent first."""
        return [*([self.sending] if self.sending is not None else []), *self._queue]
