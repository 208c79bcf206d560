"""Open files, each opened once even if it has several names."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources.files.pattern import Pattern
from qemu_migration_exporter.sources.files.rotation import File, Key

logger = logging.getLogger(__name__)

#: Limit of files kept open only to recognise them under a new name, after a rename by hand.
_MAX_STRAYS: Final = 100


class OpenFiles:
    """Owner of the descriptors of a pattern's files.

    Args:
        pattern: Pattern that is followed.
        watch: Called with the descriptor, path and device of every file that is held.
        leave: Called with the descriptor of every file that is released.
        is_stream: Predicate of names that would be taken for a stream's own.
    """

    def __init__(
        self,
        pattern: Pattern,
        watch: Callable[[int, str, int], None],
        leave: Callable[[int], None],
        is_stream: Callable[[str], bool],
    ) -> None:
        self._pattern = pattern
        self._watch = watch
        self._leave = leave
        self._is_stream = is_stream
        self._paths: dict[int, str] = {}
        self._keys: set[Key] = set()
        self._strays: dict[Key, int] = {}

    def hold(self, path: str, file: File) -> bool:
        """Keep a file of a stream open; return False if the file was already read under another name."""
        if file.key in self._keys or file.key in self._strays:
            return False
        self._keys.add(file.key)
        self._paths[file.fd] = path
        self._watch(file.fd, path, file.key[0])
        return True

    def release(self, file: File) -> None:
        """Close a file that was read to its end, unless its new name would make it another stream."""
        path = self._paths.pop(file.fd)
        self._keys.discard(file.key)
        self._leave(file.fd)
        if self._pattern.is_glob and len(self._strays) < _MAX_STRAYS and self._is_stray(path, file):
            self._strays[file.key] = file.fd  # stays open, so that its inode becomes no other file's
        else:
            os.close(file.fd)

    def close_unlinked(self) -> None:
        """Close the strays that were deleted."""
        for key in [key for key, fd in self._strays.items() if os.fstat(fd).st_nlink == 0]:
            os.close(self._strays.pop(key))

    def close(self) -> None:
        """Close the strays; all other files must have been released."""
        for fd in self._strays.values():
            os.close(fd)
        self._strays.clear()

    def _is_stray(self, path: str, file: File) -> bool:
        """Return whether a file now has a name that would be taken for another stream."""
        if file.is_deleted:
            return False
        try:
            now = Path(f"/proc/self/fd/{file.fd}").readlink()
        except OSError as error:
            logger.debug("%s: its new name is unknown: %s", path, error.strerror)
            return False
        moved = self._pattern.path(now.name) != path
        return moved and now.parent == self._pattern.directory.resolve() and self._is_stream(now.name)
