"""What many children of a trace have in common: the rounds of a minute, and the devices past a number, as one span.

A migration that is stuck for a week has a million rounds. The first of them are spans of their own; what comes after
leaves once a minute. Which rounds share a span follows from their times alone, so a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.core.model import Device, Identity, Round
from qemu_migration_exporter.tracing import attribute_table as names
from qemu_migration_exporter.tracing.emitter import Value

#: Rounds past the limit are told at least this often.
BATCH_NS: Final = 60_000_000_000
#: A round is told when the bandwidth window that reaches past its end is in, 100 ms later, and when its line was read.
_LATE_NS: Final = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceLimits:
    """How large a trace may become.

    Attributes:
        max_rounds: So many are spans of their own; the rest leave in batches.
        max_devices: The same of the devices of the downtime.
        max_spans: So many syncs, devices and markers; what is over is left out, and the root says how many that were.
    """

    max_rounds: int = 500
    max_devices: int = 256
    max_spans: int = 5_000


class RoundBatch:
    """The rounds that ended in one minute of a migration.

    Attributes:
        minute: Which one, from 0.
    """

    def __init__(self, minute: int, rounds: Iterable[Round] = ()) -> None:
        self.minute = minute
        self._rounds: list[Round] = list(rounds)

    def add(self, each: Round) -> None:
        """Add a round, the next one."""
        self._rounds.append(each)

    def is_over(self, identity: Identity, now_ns: int) -> bool:
        """Say whether no more rounds of its minute will come."""
        return now_ns >= identity.start_ns + (self.minute + 1) * BATCH_NS + _LATE_NS

    @property
    def start_ns(self) -> int:
        """When its first round began."""
        return self._rounds[0].start_ns

    @property
    def end_ns(self) -> int:
        """When its last round ended."""
        return self._rounds[-1].end_ns or self._rounds[-1].start_ns

    def attributes(self) -> dict[str, Value | None]:
        """Sum the rounds up."""
        first, last = self._rounds[0], self._rounds[-1]
        boundaries = [
            (each.pending_at_start_bytes, each.number)
            for each in self._rounds
            if each.pending_at_start_bytes is not None
        ]
        best_bytes, best_round = min(boundaries) if boundaries else (None, None)
        return {
            names.ROUNDS: len(self._rounds),
            names.ROUND: first.number,
            names.LAST_ROUND: last.number,
            names.ITERATIONS: sum(each.iterations for each in self._rounds),
            names.TRANSFERRED_BYTES: _sum(each.transferred_bytes for each in self._rounds),
            names.PENDING_AT_START_BYTES: first.pending_at_start_bytes,
            names.PENDING_AT_END_BYTES: last.pending_at_end_bytes,
            names.BEST_PENDING_BYTES: best_bytes,
            names.BEST_ROUND: best_round,
            names.DIRTIED_BYTES: _sum(each.dirtied_bytes for each in self._rounds),
            names.BANDWIDTH_BYTES_PER_SECOND: last.bandwidth_bytes_per_second,
        }


def minute_of(identity: Identity, each: Round) -> int:
    """Say in which minute of its migration a round ended."""
    return ((each.end_ns or each.start_ns) - identity.start_ns) // BATCH_NS


def device_attributes(devices: Sequence[Device]) -> dict[str, Value | None]:
    """Say what devices cost the downtime together, and which cost most; nothing where there are none."""
    timed = [(each.duration_ns, each.name) for each in devices if each.duration_ns is not None]
    slowest_ns, slowest = max(timed, key=lambda each: each[0], default=(None, None))
    return {
        names.DEVICES: len(devices) or None,
        names.DEVICES_SECONDS: sum(duration_ns for duration_ns, _ in timed) / 1e9 if timed else None,
        names.SLOWEST_DEVICE: slowest,
        names.SLOWEST_DEVICE_SECONDS: None if slowest_ns is None else slowest_ns / 1e9,
    }


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
