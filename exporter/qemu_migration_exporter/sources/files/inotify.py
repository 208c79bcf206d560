"""Inotify watches of one directory and of files in it.

A file is watched by its inode, so a rename or a symbolic link makes no difference. The kernel has only one watch per
inode, even if two descriptors of this program refer to it, so a watch may have several owners.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from inotify_simple import INotify, flags  # type: ignore[import-untyped]  # 2.0 carries no types

from qemu_migration_exporter.sources.errors import SourceError

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

#: Watched file: an open descriptor, or the path of a file that is not open.
Handle = int | str


class Appeared(NamedTuple):
    """Notice that a file now has this name in the directory."""

    name: str


class Vanished(NamedTuple):
    """Notice that the file of this name was `renamed`, or deleted."""

    name: str
    renamed: bool


class Written(NamedTuple):
    """Notice that a file of the stream grew or shrank."""

    stream: str


class Changed(NamedTuple):
    """Notice that a file of the stream has another name, fewer names or other permissions."""

    stream: str


class Overflowed(NamedTuple):
    """Notice that the kernel dropped notices."""


Notice = Appeared | Vanished | Written | Changed | Overflowed


class Watches:
    """Watches of one directory and any number of files.

    Raises:
        SourceError: The user has no inotify instance left.
    """

    def __init__(self) -> None:
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            # inotify_init(2): EMFILE is either limit, of the process's descriptors or of the user's instances.
            raise SourceError(
                f"no inotify instance: {error.strerror}; raise the sysctl fs.inotify.max_user_instances"
                " or the limit on open files"
            ) from error
        self._directory: int | None = None
        self._owners: dict[int, dict[Handle, str]] = {}
        self._watches: dict[Handle, int] = {}

    def fileno(self) -> int:
        return int(self._inotify.fileno())

    @property
    def has_directory(self) -> bool:
        """True while a directory is watched; the watch ends when the directory is moved or deleted."""
        return self._directory is not None

    def watch_directory(self, path: str) -> None:
        """Watch a directory instead of the previous directory.

        Raises:
            OSError: The directory does not exist, or cannot be watched.
        """
        self.leave_directory()
        self._directory = self._inotify.add_watch(path, _IN_DIRECTORY)

    def leave_directory(self) -> None:
        if self._directory is not None:
            self._remove(self._directory)
            self._directory = None

    def watch(self, handle: Handle, stream: str) -> bool:
        """Watch a file of a stream; return whether the kernel had room for it."""
        try:
            watch = self._inotify.add_watch(f"/proc/self/fd/{handle}" if isinstance(handle, int) else handle, _IN_FILE)
        except OSError as error:
            # ENOSPC: fs.inotify.max_user_watches.
            logger.warning("%s: not watched, only polled every second: %s", stream, error.strerror)
            return False
        self._owners.setdefault(watch, {})[handle] = stream
        self._watches[handle] = watch
        return True

    def leave(self, handle: Handle) -> None:
        """Stop watching a file, if it is watched."""
        watch = self._watches.pop(handle, None)
        if watch is None:
            return
        owners = self._owners[watch]
        del owners[handle]
        if not owners:
            del self._owners[watch]
            self._remove(watch)

    def notices(self) -> Iterator[Notice]:
        """Yield the notices since the last call, without blocking."""
        for watch, mask, _, name in self._inotify.read(timeout=0):
            if mask & flags.Q_OVERFLOW:
                yield Overflowed()
            elif watch == self._directory:
                if mask & _GONE:
                    self.leave_directory()
                else:
                    yield from _of_directory(name, mask)
            else:
                for stream in set(self._owners.get(watch, {}).values()):
                    yield from _of_file(stream, mask)

    def close(self) -> None:
        """Close the inotify instance, which ends all watches."""
        self._inotify.close()

    def _remove(self, watch: int) -> None:
        try:
            self._inotify.rm_watch(watch)
        except OSError as error:  # EINVAL: the kernel removed it with its file
            logger.debug("a watch was already removed: %s", os.strerror(error.errno or 0))


def _of_directory(name: str, mask: int) -> Iterator[Notice]:
    if mask & (flags.CREATE | flags.MOVED_TO):
        yield Appeared(name)
    else:
        yield Vanished(name, renamed=bool(mask & flags.MOVED_FROM))


def _of_file(stream: str, mask: int) -> Iterator[Notice]:
    if mask & flags.MODIFY:
        yield Written(stream)
    if mask & (flags.ATTRIB | flags.MOVE_SELF):
        yield Changed(stream)
