"""The files that rotation makes from one path.

    rename+create   VM.log → VM.log.0 → VM.log.1 …   (virtlogd from .0, logrotate from .1)
    copytruncate    VM.log is copied to VM.log.1, then truncated

The functions open files and return them newest first. A file is identified by device and inode. The number of an inode
is used again as soon as its file is deleted, so a finished file is identified by its time of last write too.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from qemu_migration_exporter.sources import Position

#: Backups searched: virtlogd keeps 3, numbered from 0; logrotate numbers from 1 and rarely keeps more than a week's.
MAX_BACKUPS: Final = 16

#: Scans in a row. A scan takes a fraction of a millisecond and a rotation comes after 2 MiB, so no rotation disturbs
#: the second scan.
_ATTEMPTS: Final = 8

#: Bytes before a position that identify the content: a line of the log has about 80, and a time of its own.
CHECK_BYTES: Final = 64

#: Device and inode.
Key = tuple[int, int]

#: Finished file: its key, and the nanosecond of its last write.
FileId = tuple[Key, int]


@dataclass(slots=True)
class File:
    """File that is or will be read.

    Attributes:
        path: Path at which it was opened.
        offset: Number of bytes read.
        tail: Last of these bytes, up to `CHECK_BYTES`.
        begins: True if it does not continue another file: the file before it was deleted, not rotated.
    """

    fd: int
    key: Key
    path: str
    offset: int = 0
    tail: bytes = b""
    begins: bool = False

    @property
    def position(self) -> Position:
        return Position(*self.key, self.offset, zlib.crc32(self.tail))

    @property
    def size(self) -> int:
        return os.fstat(self.fd).st_size

    @property
    def is_deleted(self) -> bool:
        """True if the file was deleted."""
        return os.fstat(self.fd).st_nlink == 0

    @property
    def is_replaced(self) -> bool:
        """True if the bytes before the offset are no longer there: the file was truncated."""
        return self.offset > 0 and self.read(0) is None

    @property
    def id(self) -> FileId:
        return (self.key, os.fstat(self.fd).st_mtime_ns)

    def seek(self, offset: int) -> None:
        """Continue at an offset."""
        self.offset = offset
        length = min(offset, CHECK_BYTES)
        self.tail = os.pread(self.fd, length, offset - length)

    def read(self, limit_bytes: int) -> bytes | None:
        """Return the next bytes, empty at the end; None if the file's content was replaced.

        The bytes before the offset are read again and compared, because a file that was truncated and is already longer
        than before looks as if it had grown.
        """
        expected = len(self.tail)
        data = os.pread(self.fd, expected + limit_bytes, self.offset - expected)
        if not data.startswith(self.tail):
            return None
        data = data[expected:]
        if data:
            self.offset += len(data)
            self.tail = (self.tail + data[-CHECK_BYTES:])[-CHECK_BYTES:]
        return data

    def skip_hole(self) -> int:
        """Skip a part of the file that was never written; return its length.

        A writer that does not append leaves a hole after a truncation; it may be larger than any disk.
        """
        try:
            start = os.lseek(self.fd, self.offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # the file system has no holes
                return 0
            start = self.size
        skipped = max(0, start - self.offset)
        if skipped:
            self.seek(start)
        return skipped


class Found(NamedTuple):
    """Result of a scan.

    Attributes:
        newer: Opened files, newest first.
        known: True if the file at which to stop was found.
        older: Files behind it.
        error: The reason why the file at the path itself cannot be read.
        has_unread: True if a backup cannot be read.
        skipped: Reasons why backups cannot be read that are older than an opened file. Other files can be read later.
    """

    newer: list[File]
    known: bool
    older: set[FileId]
    error: OSError | None
    has_unread: bool
    skipped: list[OSError]


def files_newer_than(path: str, newest: Key) -> Found:
    """Open the files that are newer than `newest`."""
    return _Scan(path, newest).run()


def files_from(path: str, oldest: Key) -> Found:
    """Open `oldest` and the files that are newer."""
    return _Scan(path, oldest, inclusive=True).run()


def newest_files(path: str, backups: int) -> Found:
    """Open the file at the path and its newest `backups`."""
    return _Scan(path, None, backups=backups).run()


def count_backups(path: str, since_ns: int) -> int:
    """Return the number of backups that were written after a time."""
    count = 0
    for name in backup_names(path):
        try:
            count += Path(name).stat().st_mtime_ns > since_ns
        except OSError:  # there is no such backup
            continue
    return count


def may_exist(path: str) -> bool:
    """Return whether a file exists, or lies in a directory that may not be searched."""
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):  # it was deleted
        return False
    except OSError:  # reported by its source, which cannot open it
        return True
    return True


def is_present(path: str, position: Position) -> bool:
    """Return whether the file of a position has the path or is one of its backups."""
    return any(_has_key(name, position[:2]) for name in (path, *backup_names(path)))


def close_known(files: list[File], known: AbstractSet[FileId]) -> list[File]:
    """Close the files that are known, and return the others."""
    descriptors = {file.fd for file in files if file.id in known}
    close(file for file in files if file.fd in descriptors)
    return [file for file in files if file.fd not in descriptors]


def close(files: Iterable[File]) -> None:
    """Close some files."""
    for file in files:
        os.close(file.fd)


def backup_names(path: str) -> list[str]:
    """Return the paths of backups, newest first."""
    return [f"{path}.{number}" for number in range(MAX_BACKUPS)]


class _Scan:
    """Scan of the names from new to old, the direction in which rotation moves the files.

    A file that is moved during the scan is visited twice, and no file is missed. A newer file may appear at a name that
    was visited before, so the scan is repeated then. Opened files stay open, because they may be deleted before the
    next visit.
    """

    def __init__(self, path: str, stop: Key | None, *, inclusive: bool = False, backups: int = MAX_BACKUPS) -> None:
        self._names = (path, *backup_names(path))
        self._stop = stop
        self._inclusive = inclusive
        self._backups = backups
        self._files: dict[Key, File] = {}
        self._met: list[Key] = []
        self._known = False
        self._older: set[FileId] = set()
        self._errors: dict[str, OSError] = {}

    def run(self) -> Found:
        """Scan until no file moved during the scan."""
        order: list[Key] = []
        for _ in range(_ATTEMPTS):
            still = self._visit_all()
            order = self._met + [key for key in order if key not in self._met]
            if still:
                break
        error = self._errors.pop(self._names[0], None)
        newer = [self._files[key] for key in order if key in self._files]
        older_names = self._names[self._names.index(newer[0].path) :] if newer else ()
        skipped = [self._errors[name] for name in older_names if name in self._errors]
        return Found(newer, self._known, self._older, error, bool(self._errors), skipped)

    def _visit_all(self) -> bool:
        """Visit all names; return whether no file moved."""
        self._met, self._older, self._errors = [], set(), {}
        still = True
        for name in self._names:
            try:
                still &= self._visit(name)
            except FileNotFoundError:  # there is no such file, or it has another name now
                continue
            except OSError as error:  # part of the result
                self._errors[name] = error
        return still

    def _visit(self, name: str) -> bool:
        found = _file_id(name)
        key = found[0]
        if key in self._met:
            return False
        enough = self._stop in self._met or (name != self._names[0] and self._opened_backups() >= self._backups)
        self._met.append(key)
        if key == self._stop:
            self._known = True
        if (key == self._stop and not self._inclusive) or key in self._files:
            return True
        if enough:
            self._older.add(found)
            return True
        file = open_file(name)
        if file.key != key:
            self._met.pop()
            os.close(file.fd)
            return False
        self._files[key] = file
        return True

    def _opened_backups(self) -> int:
        return sum(key in self._files and self._files[key].path != self._names[0] for key in self._met)


def _has_key(path: str, key: Key) -> bool:
    try:
        return _file_id(path)[0] == key
    except OSError:  # there is no file of this name
        return False


def file_id(path: str) -> FileId | None:
    """Return the identity of the file at a path; None if there is no file."""
    try:
        return _file_id(path)
    except OSError:  # there is no file of this name
        return None


def _file_id(path: str) -> FileId:
    status = Path(path).stat()
    return ((status.st_dev, status.st_ino), status.st_mtime_ns)


def open_file(path: str) -> File:
    """Open a regular file. A FIFO is not opened, because that would wake its writers."""
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    status = os.fstat(fd)
    return File(fd, (status.st_dev, status.st_ino), path)
