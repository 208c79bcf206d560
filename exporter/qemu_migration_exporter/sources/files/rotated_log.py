"""The files of one path in the order in which they were written: rotated files, then the file at the path.

    files[0]  being read          files[-1]  the newest known file, normally at the path
       │                             │
    read to its end, and a later file has content  ─→  retired; the next file is read

A rename alone does not end a file: as long as the new file is empty, the writer may still write to the old file. So an
empty file at the end of the queue does not count as unread.
"""

from __future__ import annotations

import errno
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources import READ_BYTES, Data, DataLost, Item, Position, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.files import rotation, truncation
from qemu_migration_exporter.sources.files.rotation import File, FileId, Key

logger = logging.getLogger(__name__)

#: Unread files held open. Further files wait in the directory for room, where they may be deleted.
_MAX_FILES: Final = 32

#: Bytes read of a log that was there at the start: more than a VM's log has unless a careless glob prints every page.
#: Migrations that ended in it are not reported; the limit bounds the time until an open migration is found.
_MAX_HISTORY_BYTES: Final = 1 << 30


class RotatedLog:
    """Reader of one path. It has at least one file from `start` to `close`.

    Args:
        path: Path and name of the stream.
        hold: Called with every file to be read; returns whether the file may be read.
        release: Called with a held file after use; closes it.

    Attributes:
        files: The file being read and the files after it.
        arrived: Number of files that are known to have appeared at the path.
        deleted: True if a file at the path is known to have been deleted, not rotated.
        error: The reason why the file at the path cannot be read, although files before it can.
        is_at_end: True if `read` has returned the last bytes of the last file; inotify reports what is written or
            deleted after that, so another look would find nothing. It halves the system calls of a live line.
    """

    def __init__(self, path: str, hold: Callable[[File], bool], release: Callable[[File], None]) -> None:
        self.path = path
        self.files: deque[File] = deque()
        self.arrived = 0
        self.deleted = False
        self.error: OSError | None = None
        self.is_at_end = False
        self._at = Path(path)
        self._taken = 0
        self._gap = False
        self._crowded = False
        self._older: set[FileId] = set()
        self._skipped: list[OSError] = []
        self._reported: set[FileId | None] = set()
        self._retired: Key | None = None
        self._hold = hold
        self._release = release

    def start(self, resume: Position | None, rotated: int = 0, since_ns: int | None = None) -> list[Item]:
        """Open the file at the path and its newest `rotated` backups, or resume in the file of a position.

        If no file continues the position, its content was truncated, and files written after `since_ns`, the time of
        the position, are unread.

        Raises:
            FileExistsError: The file is read under another name.
            OSError: There is no file, or it cannot be read.
        """
        if resume is not None and self._resume(resume):
            if self.is_unread and since_ns is not None:
                self._older = {file for file in self._older if file[1] <= since_ns}
            return [*self._lost(self._skipped)]
        if resume is not None and since_ns is not None:
            rotated = rotation.count_backups(self.path, since_ns)
        found = rotation.newest_files(self.path, rotated)
        if not found.newer:
            raise found.error or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self._begin(found)
        lost: list[Item] = [*self._lost(self._skipped)]
        if resume is None:
            self._limit_history(self.files[-1])
            return lost
        if not lost:
            detail = f"nothing continues byte {resume.offset} of inode {resume.inode}: read from the beginning"
            lost = [DataLost(self.path, detail)]
        # Without backups the log was deleted, not rotated: another file has its name now.
        is_another = not found.older and not found.has_unread and self.files[-1].key != (resume.device, resume.inode)
        return [*lost, StreamClosed(self.path), StatusChanged(self.path, up=True, reason="")] if is_another else lost

    def refresh(self) -> list[Item]:
        """Open the files that came after the newest known file."""
        newest = self.files[-1]
        newer, known, older, self.error, _, skipped = rotation.files_newer_than(self.path, newest.key)
        if known:
            if not (self.is_unread or _may_be_truncated(newest)):  # otherwise a new backup may hold unread bytes
                self._older = older
            self.deleted = False  # that was another file
        elif self.deleted and newest.is_deleted:
            # A file that is a backup now was one before.
            rotation.close(file for file in newer if file.path != self.path)
            newer = [file for file in newer if file.path == self.path]
            for file in newer:
                file.begins = True
                self.deleted = False
        else:
            newer = rotation.close_known(newer, self._older)
        items: list[Item] = [
            *self._lost(error for error in skipped if rotation.file_id(error.filename) not in self._older)
        ]
        self._append(newer)
        self._gap |= not known
        return items + self._missed(done=False)

    def account(self) -> list[Item]:
        """Report the number of missed files. All notices must have been read, and `is_current` must be True."""
        return self._missed(done=True)

    def recount(self) -> None:
        """Forget how many files appeared, because some may have been missed."""
        self.arrived = self._taken = 0

    def is_current(self) -> bool:
        """Return whether the newest known file is at the path, or the path has no file."""
        try:
            status = self._at.stat()
        except OSError:  # reported by the attempt to open it
            return True
        return (status.st_dev, status.st_ino) == self.files[-1].key

    def has_news(self) -> bool:
        """Return whether `read` would change the state."""
        status = os.fstat(self.files[0].fd)
        return status.st_size != self.files[0].offset or status.st_nlink == 0 or self._is_left()

    @property
    def is_unread(self) -> bool:
        """True if no byte of the newest file was read: a copy of its bytes is then recognised by its age only."""
        return self.files[-1].offset == 0

    def is_behind(self) -> bool:
        """Return whether there are unread bytes."""
        return os.fstat(self.files[0].fd).st_size > self.files[0].offset or self._is_left()

    def is_deleted(self) -> bool:
        """Return whether the only file was deleted."""
        return len(self.files) == 1 and self.files[0].is_deleted

    def is_at_rest(self) -> bool:
        """Return whether the position is the whole state: the only file is at the path and was read to its end."""
        return len(self.files) == 1 and self.error is None and not self.has_news() and self.is_current()

    def read(self, limit_bytes: int) -> list[Item]:
        """Return the next items; no data means that everything was read.

        Raises:
            OSError: The file could not be read; it can be resumed from its position.
        """
        items: list[Item] = []
        self.is_at_end = False
        if self.is_unread:
            if self.files[0].is_replaced:  # its own copies are none of the newest file
                items += self._restart(self.files[0].size)
            copies = truncation.unread_copies(self.files[-1], self._is_known)
            self._insert(copies.files, len(self.files) - 1)
            items += self._lost(copies.unread)
        while True:
            # Evaluated before the end of the file: a writer that has moved on does not return.
            left = self._is_left()
            file = self.files[0]
            status = os.fstat(file.fd)
            size = status.st_size
            data: bytes | None = b""
            # A smaller size alone does not prove a truncation: on FUSE it can be that of a newer file of the same name.
            if size != file.offset:
                if size - file.offset > READ_BYTES and not file.is_replaced and (hole := file.skip_hole()):
                    logger.info("%s: skipped %d bytes that were never written", self.path, hole)
                data = file.read(limit_bytes)
            elif file.is_replaced:
                data = None
            if data is None:
                return items + self._restart(size) + self.read(limit_bytes)
            if data:
                items.append(Data(self.path, data, file.position))
                self.is_at_end = not left and file.offset >= size and status.st_nlink > 0
                return items
            if not left:
                return items
            self._retire()
            if self.files[0].begins:
                items += [StreamClosed(self.path), StatusChanged(self.path, up=True, reason="")]
            if self._crowded:
                items += self.refresh()

    def close(self) -> None:
        while self.files:
            self._release(self.files.popleft())

    def _resume(self, position: Position) -> bool:
        """Open the files that continue a position; return whether there are any.

        Raises:
            OSError: The file of the position has this path, and cannot be read.
        """
        key = (position.device, position.inode)
        found = rotation.files_from(self.path, key)
        oldest = found.newer[-1] if found.newer and found.newer[-1].key == key else None
        if found.known and oldest is None and found.error is not None:
            rotation.close(found.newer)
            raise found.error
        if oldest is not None:
            try:
                continues = _continues(oldest, position)
            except OSError as error:
                if oldest is found.newer[0]:  # no later file could be read instead
                    rotation.close(found.newer)
                    raise
                rotation.close([found.newer.pop()])
                found.skipped.append(OSError(error.errno, error.strerror, oldest.path))
                continues = True
            if continues:
                self._begin(found)
                return True
        if position.check:
            copies = truncation.copies_from(self.path, key, position.offset, position.check)
            if copies.files:
                rotation.close(file for file in found.newer if file.path != self.path)
                current = [file for file in found.newer if file.path == self.path]
                for file in current:
                    file.begins = not found.known  # the truncated file was deleted
                self._begin(found._replace(newer=[*current, *copies.files], skipped=copies.unread))
                return True
        rotation.close(found.newer)
        return False

    def _restart(self, size: int) -> list[Item]:
        """Read a truncated file from its beginning, after the rest of its copy if there is one."""
        file = self.files[0]
        offset, check = file.offset, file.position.check
        file.seek(0)
        copies = truncation.copies_from(self.path, file.key, offset, check)
        self._insert(copies.files, 0)
        lost = self._lost(copies.unread)
        if copies.files:
            return [*lost]
        reasons = [f"; {item.detail}" for item in lost]
        return [DataLost(self.path, f"truncated from {offset} bytes to {size}{''.join(reasons[:1])}")]

    def _lost(self, unread: Iterable[OSError]) -> list[DataLost]:
        """Return the losses of backups that cannot be read, each backup once."""
        items: list[DataLost] = []
        for error in unread:
            file = rotation.file_id(error.filename)
            if file is None or file not in self._reported:
                items.append(DataLost(self.path, f"{error.filename}: {error.strerror}"))
                self._reported.add(file)
        return items

    def _insert(self, copies: list[File], place: int) -> None:
        """Queue copies, given newest first, before the file at a place."""
        for copy in copies:
            if self._hold(copy):
                self.files.insert(place, copy)
            else:
                rotation.close([copy])

    def _is_known(self, backup: FileId) -> bool:
        return backup in self._older or backup[0] in {self._retired, *(file.key for file in self.files)}

    def _limit_history(self, file: File) -> None:
        if len(self.files) == 1 and file.size > _MAX_HISTORY_BYTES:
            logger.warning("%s: only the last %d bytes are read of what was there", self.path, _MAX_HISTORY_BYTES)
            file.seek(file.size - _MAX_HISTORY_BYTES)

    def _begin(self, found: rotation.Found) -> None:
        self._older = found.older
        self.error, self._skipped = found.error, found.skipped
        self._append(found.newer)
        self.arrived = self._taken
        if not self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path)

    def _missed(self, *, done: bool) -> list[Item]:
        """Compare the numbers of files that appeared and were opened; either may be known first."""
        if self._crowded:
            return []
        missed = self.arrived - self._taken if self._gap else 0
        if done or missed > 0:
            self._taken = self.arrived
        self._gap = self._gap and not done
        return [DataLost(self.path, f"{missed} files were gone before they were read")] if missed > 0 else []

    def _is_left(self) -> bool:
        """Return whether the writer writes to a later file."""
        if len(self.files) == 1:
            return False
        return self.files[1].begins or any(file.size > 0 for file in islice(self.files, 1, None))

    def _retire(self) -> None:
        file = self.files.popleft()
        self._older.add(file.id)
        self._retired = file.key
        self._release(file)

    def _append(self, newer: list[File]) -> None:
        """Queue files, given newest first, up to the limit."""
        self._crowded = False
        for file in reversed(newer):
            if len(self.files) >= _MAX_FILES:
                self._crowded = True
                rotation.close([file])  # it will be found again
            elif self._hold(file):
                self._taken += 1
                self.files.append(file)
            else:
                rotation.close([file])


def _may_be_truncated(file: File) -> bool:
    try:
        return file.is_replaced
    except OSError:  # reported by the attempt to read it
        return True


def _continues(file: File, position: Position) -> bool:
    """Return whether a file continues a position, at which it is then.

    Raises:
        OSError: The file cannot be read at the position.
    """
    if file.size < position.offset:
        return False
    file.seek(position.offset)
    if position.check in {0, file.position.check}:
        os.pread(file.fd, 1, position.offset)
        return True
    file.seek(0)
    return False
