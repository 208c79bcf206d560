"""The files behind one path, in the order in which they were written: what rotation renamed, then what is there now."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources import Data, DataLost, Item, Position, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.files import rotation
from qemu_migration_exporter.sources.files.rotation import File, FileId

#: Files held open because they are not read yet. More stay in the directory until there is room, or are lost there.
_MAX_FILES: Final = 32


class RotatedLog:
    """Follow one path. It has at least one file from `start` to `close`.

    Args:
        path: The path, which is also the stream's name.
        hold: Called with each file it opens to read; says whether it may.
        release: Called with each file that was held when it is done with; closes it.

    Attributes:
        files: The one being read and those after it.
        arrived: How many files are known to have appeared at the path.
        deleted: Whether a file is known to have been deleted at the path, not rotated.
        error: Why the file that is now at the path cannot be read, though others before it can.
    """

    def __init__(self, path: str, hold: Callable[[File], bool], release: Callable[[File], None]) -> None:
        self.path = path
        self._at = Path(path)
        self.files: deque[File] = deque()
        self.arrived = 0
        self.deleted = False
        self.error: OSError | None = None
        self._taken = 0
        self._gap = False
        self._crowded = False
        self._older: set[FileId] = set()
        self._hold = hold
        self._release = release

    def start(self, resume: Position | None, rotated: int = 0) -> list[Item]:
        """Open the file at the path and the newest `rotated`, or go on from `resume`, in whichever backup that is now.

        Raises:
            FileExistsError: It may not be held.
            OSError: There is nothing to read, or it cannot be read.
        """
        if resume:
            found = rotation.from_on(self.path, (resume.device, resume.inode))
            if found.known and found.newer[-1].size >= resume.offset:
                found.newer[-1].offset = resume.offset
                self._begin(found)
                return []
            rotation.close(found.newer)
        found = rotation.newest(self.path, rotated)
        if not found.newer:
            raise found.error or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.path)
        self._begin(found)
        if resume is None:
            return []
        return [DataLost(self.path, f"nothing goes on at byte {resume.offset} of inode {resume.inode}: begins anew")]

    def refresh(self) -> list[Item]:
        """Take up the files that came after the newest known one."""
        newest = self.files[-1]
        newer, known, older, self.error, unread = rotation.since(self.path, newest.key)
        if known:
            self._older = older
            self.deleted = False  # that was another one
        elif self.deleted and newest.is_deleted:
            # What is a backup now was one before.
            rotation.close(file for file in newer if file.path != self.path)
            newer = [file for file in newer if file.path == self.path]
            for file in newer:
                file.begins = True
                self.deleted = False
        else:
            newer = rotation.drop(newer, self._older)
        items: list[Item] = []
        if newer:
            items += [DataLost(self.path, f"{error.filename}: {error.strerror}") for error in unread]
        self._append(newer)
        self._gap |= not known
        return items + self._missed(done=False)

    def account(self) -> list[Item]:
        """Say how many files were missed. To be called when all notices were taken and it `is_current`."""
        return self._missed(done=True)

    def recount(self) -> None:
        """Forget how many files appeared: some of them may have gone uncounted."""
        self.arrived = self._taken = 0

    def is_current(self) -> bool:
        """Whether the newest known file is the one at the path; if nothing is there, it is."""
        try:
            status = self._at.stat()
        except OSError:  # whoever opens it will say why
            return True
        return (status.st_dev, status.st_ino) == self.files[-1].key

    def has_news(self) -> bool:
        """Whether `read` would have something to do, by the file's own status."""
        status = os.fstat(self.files[0].fd)
        return status.st_size != self.files[0].offset or status.st_nlink == 0 or len(self.files) > 1

    def is_deleted(self) -> bool:
        """Whether the only file has no name any more."""
        return len(self.files) == 1 and self.files[0].is_deleted

    def read(self, limit_bytes: int) -> list[Item]:
        """Give out what comes next; no data means that all was given out.

        Raises:
            OSError: The file could not be read; it can be gone on from its position.
        """
        items: list[Item] = []
        while True:
            # Asked before the end is: a writer that has gone on to the next file writes to this one no more.
            left = self._is_left()
            file = self.files[0]
            size = file.size
            if size < file.offset:
                items.append(DataLost(self.path, f"truncated from {file.offset} bytes to {size}"))
                file.offset = 0
            data = os.pread(file.fd, limit_bytes, file.offset) if size > file.offset else b""
            if data:
                file.offset += len(data)
                items.append(Data(self.path, data, file.position))
                return items
            if not left:
                return items
            self._retire()
            if self.files[0].begins:
                items += [StreamClosed(self.path), StatusChanged(self.path, up=True, reason="")]
            if self._crowded:
                items += self.refresh()

    def close(self) -> None:
        """Let go of all files."""
        while self.files:
            self._release(self.files.popleft())

    def _begin(self, found: rotation.Found) -> None:
        self._older = found.older
        self.error = found.error
        self._append(found.newer)
        self.arrived = self._taken
        if not self.files:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.path)

    def _missed(self, *, done: bool) -> list[Item]:
        """Compare how many files appeared and were opened; one may be opened before it is known to have appeared."""
        if self._crowded:
            return []
        missed = self.arrived - self._taken if self._gap else 0
        if done or missed > 0:
            self._taken = self.arrived
        self._gap = self._gap and not done
        return [DataLost(self.path, f"{missed} files were gone before they were read")] if missed > 0 else []

    def _is_left(self) -> bool:
        """Whether the writer has gone on: a rename alone does not say so, the next file may be empty yet."""
        if len(self.files) == 1:
            return False
        return self.files[1].begins or any(file.size > 0 for file in islice(self.files, 1, None))

    def _retire(self) -> None:
        file = self.files.popleft()
        self._older.add(file.mark)
        self._release(file)

    def _append(self, newer: list[File]) -> None:
        """Take files, newest first, as far as there is room."""
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
