"""Migrations as OpenTelemetry spans.

    changes ─▶ spans.SpansSink ─▶ emitter.Emitter ─▶ SDK ─▶ export: a processor that waits (replay) or queues (daemon)

`spans` decides which spans a change makes, `span_attributes` builds their attributes, `trace_limits` merges rounds into
shared spans, and `links` connects traces of the same migration.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from qemu_migration_exporter.core.changes import Change


class Sink(Protocol):
    """Receiver of changes: metrics, spans or the history."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply the changes of one stream in their order, without blocking for long."""
        ...
