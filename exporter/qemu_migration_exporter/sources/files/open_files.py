"""The files that are open, each once, whatever it is called."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources.files.inotify import Watches
from qemu_migration_exporter.sources.files.pattern import Pattern
from qemu_migration_exporter.sources.files.rotation import File, Key

logger = logging.getLogger(__name__)

#: Files kept open only to be known again under their new name; each is a rename by hand.
_MAX_STRAYS: Final = 100


class OpenFiles:
    """Hold and watch the files of a pattern's streams.

    Args:
        pattern: What is followed.
        watches: Told of each file.
        is_stream: Whether a name would be taken for a stream's own.
    """

    def __init__(self, pattern: Pattern, watches: Watches, is_stream: Callable[[str], bool]) -> None:
        self._pattern = pattern
        self._watches = watches
        self._is_stream = is_stream
        self._files: dict[int, tuple[str, File]] = {}
        self._keys: set[Key] = set()
        self._strays: dict[Key, int] = {}

    def stream(self, fd: int) -> str:
        """Return the stream a file belongs to."""
        return self._files[fd][0]

    def take(self, path: str, file: File) -> bool:
        """Hold a file of a stream, unless it is or was read under another name; say which."""
        if file.key in self._keys or file.key in self._strays:
            return False
        self._keys.add(file.key)
        self._files[file.fd] = (path, file)
        self._watches.watch(file.fd)
        return True

    def drop(self, file: File) -> None:
        """Let go of a file that was read to its end."""
        path, _ = self._files.pop(file.fd)
        self._keys.discard(file.key)
        self._watches.leave(file.fd)
        if self._pattern.is_glob and len(self._strays) < _MAX_STRAYS and self._is_stray(path, file):
            self._strays[file.key] = file.fd  # held open, so that its inode becomes no other file's
        else:
            os.close(file.fd)

    def tidy(self) -> None:
        """Let go of the strays that have no name any more."""
        for key in [key for key, fd in self._strays.items() if os.fstat(fd).st_nlink == 0]:
            os.close(self._strays.pop(key))

    def close(self) -> None:
        """Let go of the strays; all others must have been dropped."""
        for fd in self._strays.values():
            os.close(fd)
        self._strays.clear()

    def _is_stray(self, path: str, file: File) -> bool:
        """Whether a file lies under a name that would be taken for another stream."""
        if file.is_deleted:
            return False
        try:
            now = Path(f"/proc/self/fd/{file.fd}").readlink()
        except OSError as error:
            logger.debug("%s: its new name is not known: %s", path, error.strerror)
            return False
        moved = self._pattern.path(now.name) != path
        return moved and now.parent == self._pattern.directory.resolve() and self._is_stream(now.name)
