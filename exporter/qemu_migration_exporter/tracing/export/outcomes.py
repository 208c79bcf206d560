"""Delivery outcomes of spans, as labelled in `qemu_migration_exporter_spans_total`.

Every span that was made ends in exactly one outcome, or still waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class SpanOutcome(Enum):
    """The outcome and the reason of a span's delivery: the values of the two labels."""

    #: The receiver or the output file accepted it.
    EXPORTED = ("exported", "")
    #: The receiver rejected it permanently, or is not an OTLP receiver.
    REFUSED = ("failed", "refused")
    #: A replay gave up after its last attempt.
    UNREACHABLE = ("failed", "unreachable")
    #: The queue in memory was full.
    QUEUE_FULL = ("dropped", "queue_full")
    #: The spool was full and this was its oldest batch.
    SPOOL_FULL = ("dropped", "spool_full")
    #: The spooled batch could not be read back.
    SPOOL_DAMAGED = ("dropped", "spool_damaged")
    #: The program ended first, with no spool and no state file to keep it.
    SHUTDOWN = ("dropped", "shutdown")

    @property
    def outcome(self) -> str:
        return self.value[0]

    @property
    def reason(self) -> str:
        return self.value[1]


SpanCounts = dict[SpanOutcome, int]


def total(counts: Iterable[SpanCounts]) -> SpanCounts:
    """Add up the counts of several processors; every outcome is in the sum."""
    summed = dict.fromkeys(SpanOutcome, 0)
    for processor_counts in counts:
        for outcome, spans in processor_counts.items():
            summed[outcome] += spans
    return summed
