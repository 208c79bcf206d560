"""Numbers of one virtual machine's migrations of one side, the origin of its series.

Counters continue over the attempts of a virtual machine: `next_attempt` keeps the sums of earlier attempts. After a
migration's end its numbers are kept, but not its rounds and devices.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from prometheus_client.samples import Exemplar

from qemu_migration_exporter.core.model import Identity, Migration, PhaseName, Progress, Result, StallReason
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.present.numbers import COUNTERS

NS: Final = 1e9

#: Names of the counters of a virtual machine.
TOTALS: Final = tuple(number.name for number in COUNTERS)

#: QEMU's terminal states.
_TERMINAL_STATES: Final = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class LastMigration:
    """Result and durations of the last migration that ended.

    Attributes:
        load_seconds: A destination's part of the downtime, in which it loaded the last memory and the devices.
    """

    result: Result
    duration_seconds: float | None
    downtime_seconds: float | None
    blackout_seconds: float | None
    load_seconds: float | None

    @classmethod
    def of(cls, migration: Migration) -> LastMigration:
        """Record the numbers of a migration."""
        return cls(
            migration.result,
            None if migration.is_joined else seconds(migration.duration_ns),
            seconds(migration.downtime_ns),
            seconds(migration.blackout_ns),
            seconds(sum(part.end_ns - part.start_ns for part in migration.downtime_parts) or None),
        )


@dataclass(slots=True)
class VmState:
    """The newest migration of a virtual machine on one side, and the counts of earlier attempts.

    Attributes:
        is_gone: QEMU ended after a migration that did not complete.
        before: Counts of earlier attempts.
        version: Grows with every change.
        exemplar: The trace of the newest migration, for its counters.
    """

    identity: Identity
    progress: Progress | None = None
    end_ns: int | None = None
    last: LastMigration | None = None
    is_gone: bool = False
    before: dict[str, int] = field(default_factory=dict)
    version: int = 0
    exemplar: Exemplar = field(init=False)

    def __post_init__(self) -> None:
        self.exemplar = trace_exemplar(self.identity.trace_id, 1)

    def total(self, counter: str) -> int:
        """Return a counter over all attempts."""
        return self.before.get(counter, 0) + int(getattr(self.progress, counter, None) or 0)

    def next_attempt(self, identity: Identity) -> None:
        """Begin another migration."""
        self.before = {counter: self.total(counter) for counter in TOTALS}
        self.identity, self.progress, self.end_ns, self.is_gone = identity, None, None, False
        self.exemplar = trace_exemplar(identity.trace_id, 1)
        self.version += 1

    def resume(self, progress: Progress) -> None:
        """Continue a migration of an earlier run; `before` already has its counts."""
        totals, self.before = self.before, {}
        self.progress = progress
        self.before = {counter: totals.get(counter, 0) - self.total(counter) for counter in TOTALS}
        self.version += 1

    def update(self, progress: Progress) -> None:
        """Replace the numbers by newer numbers."""
        if progress != self.progress:
            self.progress = progress
            self.version += 1

    def end(self, migration: Migration) -> None:
        """Record the end; evidence of the identity may have come late."""
        self.identity, self.end_ns, self.last = migration.identity, migration.end_ns, LastMigration.of(migration)
        self.version += 1

    @property
    def stalled_since_ns(self) -> int | None:
        """Start of the stall in force; None after the outcome, so that no alert outlives its migration."""
        progress = self.progress
        if progress is None or self.end_ns is not None:
            return None
        is_over = progress.phase is PhaseName.CLEANUP or progress.state in _TERMINAL_STATES
        return None if is_over else progress.verdict.stalled_since_ns

    @property
    def stall_reason(self) -> StallReason | None:
        """Reason of the stall in force."""
        return None if self.progress is None or self.stalled_since_ns is None else self.progress.verdict.reason


def trace_exemplar(trace_id: str, value: float) -> Exemplar:
    """Return an exemplar that leads to the root of a trace."""
    return Exemplar({"trace_id": trace_id, "span_id": trace_ids.root_span(trace_id)}, value)


def seconds(duration_ns: int | None) -> float | None:
    """Convert nanoseconds."""
    return None if duration_ns is None else duration_ns / NS
