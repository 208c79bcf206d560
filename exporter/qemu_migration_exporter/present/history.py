"""Migrations that run and those that ended last, for people and scripts that ask over HTTP."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.model import Migration
from qemu_migration_exporter.present.view import MigrationView
from qemu_migration_exporter.present.view_builder import migration_view

#: As many as a person looks through; older ones are in the histograms and the traces.
_RECENT: Final = 50


class MigrationHistory:
    """Running and recently ended migrations.

    The thread that reads the streams writes, the one that serves reads: both fields are replaced whole.
    """

    def __init__(self) -> None:
        self._ended: deque[Migration] = deque(maxlen=_RECENT)
        self.recent: tuple[Migration, ...] = ()
        self.running: tuple[Migration, ...] = ()

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes; see `qemu_migration_exporter.tracing.Sink`."""
        ended = [change.migration for change in changes if isinstance(change, MigrationEnded)]
        if ended:
            self._ended.extendleft(ended)
            self.recent = tuple(self._ended)

    def set_running(self, running: Sequence[Migration]) -> None:
        """Replace the migrations that run now, the longest running first."""
        self.running = tuple(sorted(running, key=lambda migration: migration.identity.start_ns))

    def running_views(self, now_ns: int) -> tuple[MigrationView, ...]:
        """Return the views of the migrations that run."""
        return tuple(migration_view(migration, now_ns=now_ns) for migration in self.running)

    def recent_views(self) -> tuple[MigrationView, ...]:
        """Return the views of the migrations that ended, the last to end first."""
        return tuple(migration_view(migration) for migration in self.recent)

    def find(self, trace_id: str, now_ns: int) -> MigrationView | None:
        """Return the view of one migration by its trace id."""
        for migration in self.running:
            if migration.identity.trace_id == trace_id:
                return migration_view(migration, now_ns=now_ns)
        for migration in self.recent:
            if migration.identity.trace_id == trace_id:
                return migration_view(migration)
        return None
