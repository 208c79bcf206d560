"""The backups that copytruncate makes: copies of a file that keeps its device and inode, and is then truncated.

A copy is recognised by its content before a position, or by its age if no byte of the file was read.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from qemu_migration_exporter.sources.files.rotation import (
    CHECK_BYTES,
    File,
    FileId,
    Key,
    backup_names,
    close,
    file_id,
    open_file,
)


class Copies(NamedTuple):
    """Backups that copytruncate made.

    Attributes:
        files: Opened backups, newest first.
        unread: Reasons why backups cannot be read.
    """

    files: list[File]
    unread: list[OSError]


def copies_from(path: str, key: Key, offset: int, check: int) -> Copies:
    """Open the backup that continues at a position of a truncated file, and newer ones.

    The file at the path keeps its key. There are no copies if no backup continues at the position.
    """
    copies = Copies([], [])
    for name in backup_names(path):
        file = _open_copy(name, copies)
        if file is not None and file.key != key and file.size >= offset > 0:
            file.seek(offset)
            if zlib.crc32(file.tail) == check:
                return copies
            file.seek(0)
    close(copies.files)
    return Copies([], copies.unread)


def unread_copies(current: File, known: Callable[[FileId], bool]) -> Copies:
    """Open the backups that hold what was in a file before its first byte was read.

    They are newer than the backups that are known. A backup that begins as the file does is no reason: the file is not
    truncated yet.
    """
    copies = Copies([], [])
    for name in backup_names(current.path):
        found = file_id(name)
        if found is None:
            continue
        if known(found) or found[0] == current.key:
            break
        _open_copy(name, copies)
    newest = next((copy for copy in copies.files if copy.size > 0), None)  # the log may have been empty at a rotation
    if newest is not None and _begins_with(current, os.pread(newest.fd, CHECK_BYTES, 0)):
        close(copies.files)
        return Copies([], [])
    # A copy that cannot be read cannot be compared, but a copy of the file has its size.
    return copies._replace(unread=[error for error in copies.unread if _size(error.filename) != current.size])


def _open_copy(name: str, copies: Copies) -> File | None:
    """Open a backup and add it to the copies, with the reason if it cannot be read."""
    try:
        copies.files.append(open_file(name))
    except OSError as error:  # no such backup, no regular file, or part of the result
        if error.errno not in {errno.ENOENT, errno.EINVAL}:
            copies.unread.append(error)
        return None
    return copies.files[-1]


def _begins_with(file: File, data: bytes) -> bool:
    return os.pread(file.fd, len(data), 0) == data


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # there is no file of this name
        return 0
