"""What becomes of spans: the closed set that `qemu_migration_exporter_spans_total` counts by."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Final

from opentelemetry.sdk.trace import SpanProcessor

#: An outcome and a reason.
Fate = tuple[str, str]
Counts = dict[Fate, int]

#: The receiver has them, or the file.
EXPORTED: Final[Fate] = ("exported", "")
#: The receiver will never take them, or is no receiver.
REFUSED: Final[Fate] = ("failed", "refused")
#: A replay waited, and nobody took them.
UNREACHABLE: Final[Fate] = ("failed", "unreachable")
#: More waited in memory than may.
QUEUE_FULL: Final[Fate] = ("dropped", "queue_full")
#: More waited on disk than may; these were the oldest.
SPOOL_FULL: Final[Fate] = ("dropped", "spool_full")
#: They waited on disk and cannot be read any more.
SPOOL_DAMAGED: Final[Fate] = ("dropped", "spool_damaged")
#: The program ended before somebody took them.
SHUTDOWN: Final[Fate] = ("dropped", "shutdown")

FATES: Final = (EXPORTED, REFUSED, UNREACHABLE, QUEUE_FULL, SPOOL_FULL, SPOOL_DAMAGED, SHUTDOWN)


class CountingProcessor(SpanProcessor):
    """Takes finished spans, and knows what became of them."""

    @abstractmethod
    def counts(self) -> Counts:
        """Return how many spans had which fate; what is not in it did not happen."""


def total(counts: Iterable[Counts]) -> Counts:
    """Add up, every fate there can be included."""
    summed = dict.fromkeys(FATES, 0)
    for each in counts:
        for fate, spans in each.items():
            summed[fate] += spans
    return summed
