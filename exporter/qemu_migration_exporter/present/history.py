"""The migrations that run and those that ended last, for people and scripts that ask over HTTP."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.model import Migration

#: What a person looks through; what is older is in the metrics' histograms and in the traces.
_RECENT: Final = 50


class MigrationHistory:
    """Keep what ended last, and what runs as of the last time somebody looked at the streams.

    It is written by the thread that reads the streams and read by the one that serves: both fields are replaced whole.
    """

    def __init__(self) -> None:
        self._ended: deque[Migration] = deque(maxlen=_RECENT)
        self.recent: tuple[Migration, ...] = ()
        self.running: tuple[Migration, ...] = ()

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes, see `qemu_migration_exporter.tracing.Sink`."""
        ended = [change.migration for change in changes if isinstance(change, MigrationEnded)]
        if ended:
            self._ended.extendleft(ended)
            self.recent = tuple(self._ended)

    def look(self, running: Sequence[Migration]) -> None:
        """Note the migrations that run now, the longest running first."""
        self.running = tuple(sorted(running, key=lambda migration: migration.identity.start_ns))
