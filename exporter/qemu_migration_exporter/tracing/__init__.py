"""Migrations as OpenTelemetry spans.

    changes ─▶ spans.SpansSink ─▶ emitter.Emitter ─▶ SDK ─▶ export: a processor that waits (replay) or queues (daemon)

`spans` decides which spans a change makes, `span_attributes` what they carry, `trace_limits` when rounds share a span,
and `links` which traces belong together.
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
