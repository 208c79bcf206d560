"""Running and recently ended migrations, for the HTTP server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.model import Migration

if TYPE_CHECKING:
    from qemu_migration_exporter.present.view import MigrationView

#: Enough for an operator to look through; older migrations are in the histograms and the traces.
_RECENT: Final = 50


class MigrationHistory:
    """Running and recently ended migrations.

    The thread that reads streams writes the fields and the HTTP thread reads them, so both fields are replaced, never
    changed.
    """

    def __init__(self) -> None:
        self.recent: tuple[Migration, ...] = ()
        self.running: tuple[Migration, ...] = ()

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes; see `qemu_migration_exporter.tracing.Sink`."""
        ended = [change.migration for change in changes if isinstance(change, MigrationEnded)]
        if ended:
            # The running migrations are replaced once a second; until then, or for good in a replay, none is in both.
            over = {migration.identity.trace_id for migration in ended}
            self.running = tuple(migration for migration in self.running if migration.identity.trace_id not in over)
            newest_first = sorted(
                (*reversed(ended), *self.recent), key=lambda migration: migration.end_ns, reverse=True
            )
            self.recent = tuple(newest_first[:_RECENT])

    def set_running(self, running: Sequence[Migration]) -> None:
        """Replace the running migrations, the longest running first."""
        self.running = tuple(sorted(running, key=lambda migration: migration.identity.start_ns))

    def running_views(self, now_ns: int) -> tuple[MigrationView, ...]:
        """Return the views of the running migrations."""
        return tuple(_view(migration, now_ns) for migration in self.running)

    def recent_views(self) -> tuple[MigrationView, ...]:
        """Return the views of the ended migrations, the most recent end first."""
        return tuple(_view(migration) for migration in self.recent)

    def find(self, trace_id: str, now_ns: int) -> MigrationView | None:
        """Return the view of one migration by its trace id."""
        for migration in self.running:
            if migration.identity.trace_id == trace_id:
                return _view(migration, now_ns)
        for migration in self.recent:
            if migration.identity.trace_id == trace_id:
                return _view(migration)
        return None


def _view(migration: Migration, now_ns: int | None = None) -> MigrationView:
    from qemu_migration_exporter.present.view_builder import migration_view  # noqa: PLC0415 - see app

    return migration_view(migration, now_ns=now_ns)
