"""Rotated logs in a replay: the files of one log, oldest first, are one recording.

    VM.log.2  VM.log.1.gz  VM.log.0  VM.log   →  one stream, in any order on the command line

If a log is given without backups and begins in the middle of a migration, its backups are read too, back to the
beginning of that migration.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from qemu_migration_exporter.sources.recording import Recording

_BACKUP: Final = re.compile(r"(?P<log>.+\.log)(?:\.(?P<number>\d+))?(?:\.gz)?", re.DOTALL)

#: Backups looked for: virtlogd keeps three, logrotate rarely more than a week's.
_BACKUPS: Final = 16


class RotatedRecording:
    """Recording in several files.

    Attributes:
        name: Path of the newest file.
        modified_ns: Time of its last write.
        size: Bytes of all files, None if unknown.
        is_live: True if a file is written while it is read.

    Raises:
        SourceError: A file cannot be opened.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._parts = [Recording(name) for name in names]
        newest = self._parts[-1]
        self.name, self.modified_ns = newest.name, newest.modified_ns
        self.is_live = any(part.is_live for part in self._parts)
        sizes = [part.size for part in self._parts if part.size is not None]
        self.size = sum(sizes) if len(sizes) == len(self._parts) else None

    @property
    def read(self) -> int:
        """Bytes read so far."""
        return sum(part.read for part in self._parts)

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of all files; the errors are those of `Recording.chunks`."""
        for part in self._parts:
            yield from part.chunks()

    def close(self) -> None:
        """Close all files."""
        for part in self._parts:
            part.close()


def group_by_log(names: Sequence[str]) -> list[list[str]]:
    """Group files by log; a group has its oldest file first, and the groups keep the order of the arguments."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_log_of(name) or name, []).append(name)
    return [sorted(dict.fromkeys(group), key=_age, reverse=True) for group in groups.values()]


def with_backups(name: str, begins_in_the_middle: Callable[[str], bool]) -> list[str]:
    """Return a log given without backups, with the backups that hold the beginning of its first migration."""
    match = _BACKUP.fullmatch(name)
    if match is None or match["number"] is not None:
        return [name]
    group = [name]
    for backup in _backups(match["log"]):
        if not begins_in_the_middle(group[0]):
            break
        group.insert(0, backup)
    return group


def _log_of(name: str) -> str | None:
    match = _BACKUP.fullmatch(name)
    return match["log"] if match else None


def _age(name: str) -> int:
    match = _BACKUP.fullmatch(name)
    return -1 if match is None or match["number"] is None else int(match["number"])


def _backups(log: str) -> Iterator[str]:
    """Yield the backups of a log, newest first, up to the first gap; virtlogd counts from 0, logrotate from 1."""
    for number in range(_BACKUPS):
        found = next((path for path in (f"{log}.{number}", f"{log}.{number}.gz") if os.path.isfile(path)), None)  # noqa: PTH113 - a name that is too long is no file either
        if found is not None:
            yield found
        elif number > 0:
            return
