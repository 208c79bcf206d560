"""Interface between span processors and the senders that know a protocol.

A processor encodes finished spans into a `SpanBatch`, one OTLP request, and passes it to a `Sender` as bytes. The same
bytes are sent, spooled, and saved in the state file.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from enum import Enum, auto
from typing import Protocol

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """One serialised OTLP request and the number of spans in it."""

    content: bytes
    spans: int


class ExportStatus(Enum):
    """OTLP's classes of answers to a request."""

    ACCEPTED = auto()
    #: No answer, or a request to try again later.
    RETRYABLE = auto()
    REJECTED = auto()


@dataclass(frozen=True, slots=True)
class ExportResult:
    """Answer of a receiver to one batch.

    Attributes:
        rejected: Spans of an accepted batch that the receiver dropped (OTLP's partial success).
        retry_after_seconds: Pause that the receiver requested (Retry-After).
        give_up_after_seconds: Limit on retrying this batch, for errors that may be permanent; None for no limit.
    """

    status: ExportStatus
    rejected: int = 0
    retry_after_seconds: float | None = None
    give_up_after_seconds: float | None = None


ACCEPTED = ExportResult(ExportStatus.ACCEPTED)
RETRYABLE = ExportResult(ExportStatus.RETRYABLE)
REJECTED = ExportResult(ExportStatus.REJECTED)


def limit_retries(result: ExportResult, failing_since: float | None) -> tuple[ExportResult | None, float | None]:
    """Reject a batch at the end of its retries; before that, return None and the time since which they are limited."""
    if result.give_up_after_seconds is None:
        return None, failing_since
    now = time.monotonic()
    since = now if failing_since is None else failing_since
    return (REJECTED, None) if now - since >= result.give_up_after_seconds else (None, since)


class Sender(Protocol):
    """A way to one receiver."""

    def send(self, batch: SpanBatch) -> ExportResult: ...

    def close(self) -> None: ...


def export_batch(sender: Sender, batch: SpanBatch) -> ExportResult:
    """Send a batch once; a bug in the sender rejects the batch, because retrying would not help."""
    try:
        return sender.send(batch)
    except Exception:
        logger.exception("span export failed: %d spans", batch.spans)
        return REJECTED
