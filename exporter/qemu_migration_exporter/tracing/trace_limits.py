"""Limits on the size of a trace, and shared spans for the rounds beyond them.

A migration that is stuck for a week has a million rounds. The first rounds are spans of their own; later rounds share
one span a minute. A round belongs to the minute of the migration in which it ended, so a restart of the program makes
the same batches. Rounds arrive up to 2 s late: after the next bandwidth window and the read delay.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.core.model import Identity, Round

#: Longest time that a round waits for its batch.
BATCH_NS: Final = 60_000_000_000
_LATE_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLimits:
    """Maximum size of a trace.

    Attributes:
        max_rounds: Rounds with a span of their own; later rounds share spans.
        max_devices: Devices of the downtime with a span of their own; the others share a span.
        max_spans: Bitmap syncs, devices and markers; more are left out, and the root has their number.
    """

    max_rounds: int = 500
    max_devices: int = 256
    max_spans: int = 5_000


class RoundBatch:
    """Rounds that ended in one minute of a migration.

    Attributes:
        minute: Number of the minute, from 0.
    """

    def __init__(self, minute: int, rounds: Iterable[Round] = ()) -> None:
        self.minute = minute
        self.rounds: list[Round] = list(rounds)

    def add(self, round_: Round) -> None:
        """Add the next round."""
        self.rounds.append(round_)

    def is_complete(self, identity: Identity, now_ns: int) -> bool:
        """Return whether no more rounds of this minute can arrive."""
        return now_ns >= identity.start_ns + (self.minute + 1) * BATCH_NS + _LATE_NS

    @property
    def start_ns(self) -> int:
        return self.rounds[0].start_ns

    @property
    def end_ns(self) -> int:
        return self.rounds[-1].end_ns or self.rounds[-1].start_ns


def minute_of(identity: Identity, round_: Round) -> int:
    """Return the minute of its migration in which a round ended."""
    return ((round_.end_ns or round_.start_ns) - identity.start_ns) // BATCH_NS
