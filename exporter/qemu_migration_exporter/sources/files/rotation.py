"""The files that rotation made of one path: NAME.log now, NAME.log.0 before it, NAME.log.1 before that."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from qemu_migration_exporter.sources import Position

#: Backups looked at: virtlogd keeps 3 and numbers from 0, logrotate numbers from 1 and rarely keeps more than a week's.
_BACKUPS: Final = 16

#: A look takes a fraction of a millisecond, and a rotation comes after 2 MiB: the second is undisturbed.
_ATTEMPTS: Final = 8

#: Device and inode: a file, whatever its name.
Key = tuple[int, int]

#: A finished file, and the nanosecond it was last written. Inodes are used again as soon as a file is deleted; a file
#: of the same inode and another time is another file.
FileId = tuple[Key, int]


@dataclass(slots=True)
class File:
    """A file that is or will be read.

    Attributes:
        path: Where it lay when it was opened.
        offset: Bytes of it that were given out.
        begins: Whether it continues nothing: the one before it was deleted, not rotated.
    """

    fd: int
    key: Key
    path: str
    offset: int = 0
    begins: bool = False

    @property
    def position(self) -> Position:
        """The place behind what was given out."""
        return Position(*self.key, self.offset)

    @property
    def size(self) -> int:
        """Bytes in it now."""
        return os.fstat(self.fd).st_size

    @property
    def is_deleted(self) -> bool:
        """Whether it has no name any more."""
        return os.fstat(self.fd).st_nlink == 0

    @property
    def mark(self) -> FileId:
        """What it will be known by if it is not written any more."""
        return (self.key, os.fstat(self.fd).st_mtime_ns)


class Found(NamedTuple):
    """What lies in the directory.

    Attributes:
        newer: Opened files, newest first.
        known: Whether the file where to stop was there.
        older: The files behind it.
        error: Why the file at the path itself cannot be read.
        unread: Why backups cannot be.
    """

    newer: list[File]
    known: bool
    older: set[FileId]
    error: OSError | None
    unread: list[OSError]


def since(path: str, newest: Key) -> Found:
    """Open what is newer than `newest`."""
    return _Scan(path, newest).run()


def from_on(path: str, oldest: Key) -> Found:
    """Open `oldest` and what is newer."""
    return _Scan(path, oldest, inclusive=True).run()


def newest(path: str, backups: int) -> Found:
    """Open what is at the path, and the newest `backups`."""
    return _Scan(path, None, backups=backups).run()


def drop(files: list[File], marks: AbstractSet[FileId]) -> list[File]:
    """Close those of some files that are marked, and return the others."""
    known = {file.fd for file in files if file.mark in marks}
    close(file for file in files if file.fd in known)
    return [file for file in files if file.fd not in known]


def close(files: Iterable[File]) -> None:
    """Close some files."""
    for file in files:
        os.close(file.fd)


class _Scan:
    """Try the names from new to old, the way in which rotation moves the files.

    So one that is moved meanwhile is met twice, and none is passed by. But a newer one may come past those that were
    met before, so then all is tried again. What is open stays so: it may be deleted before it is met another time.
    """

    def __init__(self, path: str, stop: Key | None, *, inclusive: bool = False, backups: int = _BACKUPS) -> None:
        self._names = (path, *(f"{path}.{number}" for number in range(_BACKUPS)))
        self._stop = stop
        self._inclusive = inclusive
        self._backups = backups
        self._files: dict[Key, File] = {}
        self._met: list[Key] = []
        self._known = False
        self._older: set[FileId] = set()
        self._errors: dict[str, OSError] = {}

    def run(self) -> Found:
        """Look until nothing moves meanwhile."""
        order: list[Key] = []
        for _ in range(_ATTEMPTS):
            still = self._look()
            order = self._met + [key for key in order if key not in self._met]
            if still:
                break
        error = self._errors.pop(self._names[0], None)
        newer = [self._files[key] for key in order if key in self._files]
        return Found(newer, self._known, self._older, error, list(self._errors.values()))

    def _look(self) -> bool:
        """Try all names; return whether nothing moved."""
        self._met, self._older, self._errors = [], set(), {}
        still = True
        for name in self._names:
            try:
                still &= self._visit(name)
            except FileNotFoundError:  # there is none of this name, or it has another one now
                continue
            except OSError as error:  # told with what was found
                self._errors[name] = error
        return still

    def _visit(self, name: str) -> bool:
        mark = _mark(name)
        key = mark[0]
        if key in self._met:
            return False
        enough = self._stop in self._met or (name != self._names[0] and self._taken() >= self._backups)
        self._met.append(key)
        if key == self._stop:
            self._known = True
        if (key == self._stop and not self._inclusive) or key in self._files:
            return True
        if enough:
            self._older.add(mark)
            return True
        file = _open(name)
        if file.key != key:
            self._met.pop()
            os.close(file.fd)
            return False
        self._files[key] = file
        return True

    def _taken(self) -> int:
        """Count the backups among the files that were met and are open."""
        return sum(key in self._files and self._files[key].path != self._names[0] for key in self._met)


def _mark(path: str) -> FileId:
    status = Path(path).stat()
    return ((status.st_dev, status.st_ino), status.st_mtime_ns)


def _open(path: str) -> File:
    """Open a regular file, and nothing else: to open a FIFO would wake its writers."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    status = os.fstat(fd)
    return File(fd, (status.st_dev, status.st_ino), path)
