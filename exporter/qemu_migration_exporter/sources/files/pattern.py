"""Which files of a directory are followed: the one that is named, or all that match."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources.recording import SourceError

_BACKUP: Final = re.compile(r"(.+)\.\d+", re.DOTALL)


class Pattern:
    """A path; in its last component `*`, `?` and `[` match as in a shell.

    Attributes:
        text: As it was given.
        directory: Where the files are.
        name: What their names are like.
        is_glob: Whether it may match several.

    Raises:
        SourceError: It has a wildcard in a directory's name, or names no file.
    """

    def __init__(self, text: str) -> None:
        directory, self.name = os.path.split(text)
        if glob.has_magic(directory):
            raise SourceError(f"{text}: a wildcard may stand in the file's name only, not in {directory}")
        if not self.name:
            raise SourceError(f"{text}: names a directory; expected a file, or a pattern such as {text}*.log")
        self.text = text
        self.directory = Path(directory or ".")
        self.is_glob = glob.has_magic(self.name)
        self._prefix = text.removesuffix(self.name)
        self._matches = re.compile(fnmatch.translate(self.name)).match

    def path(self, name: str) -> str:
        """Spell the path of a file in the directory, as a stream is called by it."""
        return self._prefix + name

    def matches(self, name: str) -> bool:
        """Whether a file of this name is followed; as in a shell a wildcard matches no leading dot."""
        if not self.is_glob:
            return name == self.name
        return self._matches(name) is not None and (self.name.startswith(".") or not name.startswith("."))

    def has(self, path: str) -> bool:
        """Whether a stream of this path is one of the pattern's."""
        return path.startswith(self._prefix) and self.matches(path.removeprefix(self._prefix))

    def of_backup(self, name: str) -> str | None:
        """Spell the path of the file whose backup has this name, NAME.log for NAME.log.0; None if there is none."""
        base = _BACKUP.fullmatch(name)
        return self.path(base[1]) if base and self.matches(base[1]) else None

    def names(self) -> list[str]:
        """List the names there may be files of.

        Raises:
            OSError: The directory cannot be read.
        """
        if not self.is_glob:
            return [self.name]
        return sorted(name for entry in self.directory.iterdir() if self.matches(name := entry.name))
