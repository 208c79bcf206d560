"""Sizes of the span queue and of its batches, from the configuration or from OTEL_BSP_ variables."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import Final

logger = logging.getLogger(__name__)

#: Some 10 MB of encoded spans: hours of one stuck migration, or a minute of a host that is being emptied.
DEFAULT_QUEUE_SPANS: Final = 16_384

#: The SDK's own batch size, some 300 KB a request.
BATCH_SPANS: Final = 512

#: Maximum delay of a span, so that a trace grows while an operator looks at it.
LINGER_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchConfig:
    """Sizes of queue and batch, and how long a span waits for its batch to fill."""

    queue_spans: int = DEFAULT_QUEUE_SPANS
    batch_spans: int = BATCH_SPANS
    linger_seconds: float = LINGER_SECONDS

    @classmethod
    def of(cls, queue_spans: int | None) -> BatchConfig:
        """Read the variables; a queue size from the configuration overrides theirs."""
        queue = queue_spans or _read_number("OTEL_BSP_MAX_QUEUE_SIZE", DEFAULT_QUEUE_SPANS)
        batch = min(queue, _read_number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH_SPANS))
        linger = _read_number("OTEL_BSP_SCHEDULE_DELAY", round(LINGER_SECONDS * 1_000))
        return cls(queue_spans=queue, batch_spans=batch, linger_seconds=linger / 1_000)


def _read_number(variable: str, default: int) -> int:
    """Read a whole number above 0 from the environment."""
    text = os.environ.get(variable, "").strip()
    if text.isdecimal() and int(text):
        return int(text)
    if text:
        logger.warning("%s ignored: expected a whole number above 0, got %r", variable, text)
    return default
