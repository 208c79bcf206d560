"""Receivers of changes: metrics, the history behind page and API, spans, and the journal.

Changes are pushed to the sinks when they happen. The numbers of running migrations are read once a second, before each
checkpoint and for each answer of the server, and replace the numbers shown before. An error in one sink affects no
other sink.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.model import Migration
from qemu_migration_exporter.journal import Journal
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.tracing import Sink

if TYPE_CHECKING:
    from qemu_migration_exporter.tracing.export.queued import QueuedSpanProcessor
    from qemu_migration_exporter.tracing.spans import SpansSink


@dataclass(frozen=True, slots=True)
class Sinks:
    """All receivers of changes; spans only if their own receiver is configured."""

    metrics: MetricsSink
    history: MigrationHistory
    spans: SpansSink | None = None
    delivery: QueuedSpanProcessor | None = None
    failures: ErrorCounter = field(default_factory=ErrorCounter)
    journal: Journal | None = None

    def apply(self, changes: Sequence[Change]) -> None:
        """Apply changes to all sinks; an error only loses one change of one sink."""
        self._push(Component.METRICS, self.metrics, changes)
        self._push_to_others(changes)

    def cut(self, ends: Sequence[MigrationEnded]) -> None:
        """Apply the end of a recording to migrations that have not ended: they stay running in the metrics."""
        self._step(Component.METRICS, partial(self.metrics.update, [end.migration for end in ends]))
        self._push_to_others(ends)

    def _push_to_others(self, changes: Sequence[Change]) -> None:
        self._push(Component.PAGE, self.history, changes)
        if self.spans is not None:
            self._push(Component.SPANS, self.spans, changes)
        if self.journal is not None:
            self._push(Component.JOURNAL, self.journal, changes)

    def _push(self, part: Component, sink: Sink, changes: Sequence[Change]) -> None:
        left = iter(changes)
        for _ in range(len(changes) + 1):  # every failure consumes at least one change
            with self.failures.guard(part, "a change is lost to the %s", part) as attempt:
                sink.apply(left)
            if not attempt.failed:
                return

    def update(self, running: Sequence[Migration]) -> None:
        """Replace the numbers of the running migrations, of which these are all."""
        self._step(Component.METRICS, partial(self.metrics.update, running))
        self._step(Component.PAGE, partial(self.history.set_running, running))

    def tick(self, now_ns: int, retention_ns: int) -> None:
        """Pass the time to all sinks."""
        # The monotonic clock: setting the wall clock does not change how long an ended migration is shown.
        self._step(Component.METRICS, partial(self.metrics.expire, time.monotonic_ns(), retention_ns))
        if self.spans is not None:
            self._step(Component.SPANS, partial(self.spans.tick, now_ns))

    def interrupt(self, now_ns: int) -> None:
        """Mark the open traces."""
        if self.spans is not None:
            with self.failures.guard(Component.SPANS, "open traces are not marked as interrupted"):
                self.spans.interrupt(now_ns)

    def _step(self, part: Component, step: Callable[[], None]) -> None:
        with self.failures.guard(part, "the %s failed", part):
            step()
