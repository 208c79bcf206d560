"""Pattern of the files that are followed: one path, or all names of a directory that match."""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources.errors import SourceError

_BACKUP: Final = re.compile(r"(.+)\.\d+", re.DOTALL)


class Pattern:
    """A path; in its last component `*`, `?` and `[` match as in a shell.

    Attributes:
        text: The pattern as written in the configuration.
        directory: Directory of the files.
        name: Pattern of their names.
        is_glob: True if it may match several files.

    Raises:
        SourceError: A directory has a wildcard, or no file is named.
    """

    def __init__(self, text: str) -> None:
        directory, self.name = os.path.split(text)
        if glob.has_magic(directory):
            raise SourceError(f"{text}: expected wildcards in the file's name only, found one in {directory}")
        if not self.name:
            raise SourceError(f"{text}: names a directory; expected a file, or a pattern such as {text}*.log")
        self.text = text
        self.directory = Path(directory or ".")
        self.is_glob = glob.has_magic(self.name)
        self._prefix = text.removesuffix(self.name)
        self._matches = re.compile(fnmatch.translate(self.name)).match

    def path(self, name: str) -> str:
        """Return the path of a file in the directory, which is the name of its stream."""
        return self._prefix + name

    def matches(self, name: str) -> bool:
        """Return whether a file of this name is followed; as in a shell, a wildcard matches no leading dot."""
        if not self.is_glob:
            return name == self.name
        return self._matches(name) is not None and (self.name.startswith(".") or not name.startswith("."))

    def has(self, path: str) -> bool:
        """Return whether a stream of this path belongs to the pattern."""
        return path.startswith(self._prefix) and self.matches(path.removeprefix(self._prefix))

    def of_backup(self, name: str) -> str | None:
        """Return the path of the log with a backup of this name (NAME.log for NAME.log.0), None for other names."""
        base = _BACKUP.fullmatch(name)
        return self.path(base[1]) if base and self.matches(base[1]) else None

    def names(self) -> list[str]:
        """Return the names that files may have.

        Raises:
            OSError: The directory cannot be read.
        """
        if not self.is_glob:
            return [self.name]
        return sorted(name for entry in self.directory.iterdir() if self.matches(name := entry.name))
