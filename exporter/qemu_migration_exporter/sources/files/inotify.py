"""What the kernel says of a directory and of files in it: inotify, kept small."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # 2.0 carries no types

logger = logging.getLogger(__name__)

_GONE: Final = int(flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED | flags.UNMOUNT)
_IN_DIRECTORY: Final = int(
    flags.CREATE
    | flags.MOVED_FROM
    | flags.MOVED_TO
    | flags.DELETE
    | flags.DELETE_SELF
    | flags.MOVE_SELF
    | flags.ONLYDIR
)
_IN_FILE: Final = int(flags.MODIFY | flags.ATTRIB | flags.MOVE_SELF)


class Appeared(NamedTuple):
    """Another file has this name in the directory now."""

    name: str


class Vanished(NamedTuple):
    """The file that had this name has another one now, if it was `renamed`, or none."""

    name: str
    renamed: bool


class Written(NamedTuple):
    """A file grew, or shrank."""

    fd: int


class Changed(NamedTuple):
    """A file has another name, fewer names or other rights."""

    fd: int


class Overflowed(NamedTuple):
    """The kernel had more to say than it kept."""


Notice = Appeared | Vanished | Written | Changed | Overflowed


class Watches:
    """Watch one directory and any number of open files, by whichever names they have."""

    def __init__(self) -> None:
        self._inotify = INotify(nonblocking=True)
        self._directory: int | None = None
        self._files: dict[int, int] = {}
        self._watches: dict[int, int] = {}

    def fileno(self) -> int:
        """Return the inotify descriptor."""
        return int(self._inotify.fileno())

    @property
    def has_directory(self) -> bool:
        """Whether a directory is watched; it is not any more once it was moved or deleted."""
        return self._directory is not None

    def watch_directory(self, path: str) -> None:
        """Watch a directory in place of the one before.

        Raises:
            OSError: It does not exist, or cannot be watched.
        """
        self.leave_directory()
        self._directory = self._inotify.add_watch(path, _IN_DIRECTORY)

    def leave_directory(self) -> None:
        """Watch no directory."""
        if self._directory is not None:
            self._remove(self._directory)
            self._directory = None

    def watch(self, fd: int) -> None:
        """Watch an open file: the inode itself, so that a rename or a symbolic link makes no difference."""
        try:
            watch = self._inotify.add_watch(f"/proc/self/fd/{fd}", _IN_FILE)
        except OSError as error:
            # ENOSPC: fs.inotify.max_user_watches. The file is looked at with every tick anyway.
            logger.warning("a file is not watched, only looked at every second: %s", error.strerror)
            return
        self._files[watch] = fd
        self._watches[fd] = watch

    def leave(self, fd: int) -> None:
        """Watch an open file no longer."""
        watch = self._watches.pop(fd, None)
        if watch is not None:
            del self._files[watch]
            self._remove(watch)

    def notices(self) -> Iterator[Notice]:
        """Yield what was said since the last time; never block."""
        for watch, mask, _, name in self._inotify.read(timeout=0):
            fd = self._files.get(watch)
            if mask & flags.Q_OVERFLOW:
                yield Overflowed()
            elif fd is not None:
                yield from _of_file(fd, mask)
            elif watch == self._directory:
                if mask & _GONE:
                    self.leave_directory()
                else:
                    yield from _of_directory(name, mask)

    def close(self) -> None:
        """Close the inotify instance, and all watches with it."""
        self._inotify.close()

    def _remove(self, watch: int) -> None:
        try:
            self._inotify.rm_watch(watch)
        except OSError as error:  # EINVAL: it went with its directory
            logger.debug("a watch was gone already: %s", os.strerror(error.errno or 0))


def _of_directory(name: str, mask: int) -> Iterator[Notice]:
    if mask & (flags.CREATE | flags.MOVED_TO):
        yield Appeared(name)
    else:
        yield Vanished(name, renamed=bool(mask & flags.MOVED_FROM))


def _of_file(fd: int, mask: int) -> Iterator[Notice]:
    if mask & flags.MODIFY:
        yield Written(fd)
    if mask & (flags.ATTRIB | flags.MOVE_SELF):
        yield Changed(fd)
