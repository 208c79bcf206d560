"""Files that grow, one or all that match a pattern, through rotation, truncation and deletion."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from functools import partial
from typing import Final

from qemu_migration_exporter.sources import (
    CHUNK_BYTES,
    READ_BYTES,
    Data,
    DataLost,
    Item,
    Position,
    StatusChanged,
    StreamClosed,
)
from qemu_migration_exporter.sources.files.inotify import Appeared, Changed, Overflowed, Vanished, Watches, Written
from qemu_migration_exporter.sources.files.open_files import OpenFiles
from qemu_migration_exporter.sources.files.pattern import Pattern
from qemu_migration_exporter.sources.files.rotated_log import RotatedLog

logger = logging.getLogger(__name__)

#: Streams of one pattern: more than any host has virtual machines. Each holds a descriptor or more.
MAX_FILES: Final = 1_000

#: How long a file is let alone after it could be opened and not read: a disk's error does not pass in a second.
_REST_S: Final = 60.0


class Follow:
    """Follow files.

    Args:
        pattern: A path, or a `Pattern`'s text.
        resume: Where to go on in a stream, by its path. Streams not named begin at their first byte.

    Raises:
        SourceError: The pattern has a wildcard in a directory's name, or names no file.
    """

    def __init__(self, pattern: str, resume: Mapping[str, Position] | None = None) -> None:
        self._pattern = Pattern(pattern)
        self._resume = {path: position for path, position in (resume or {}).items() if self._pattern.has(path)}
        self._watches = Watches()
        self._chains: dict[str, RotatedLog] = {}
        self._held = OpenFiles(self._pattern, self._watches, self._is_stream)
        self._ready: dict[str, None] = {}  # in the order in which they are served
        self._retries: dict[str, float] = {}
        self._said: dict[str, str] = {pattern: ""} if self._pattern.is_glob else {}
        self._items: list[Item] = []
        self._listed: tuple[int, int, int] | None = None  # the directory and its last change when it was listed
        self._list_again = False
        self._crowded = False
        self._now = 0.0

    def fileno(self) -> int:
        """Return the descriptor that is readable when a file changed."""
        return self._watches.fileno()

    @property
    def pending(self) -> bool:
        """Whether a file may have more to read."""
        return bool(self._ready)

    def read(self) -> list[Item]:
        """Take what changed, and from each file in turn what is next."""
        self._notice()
        budget = READ_BYTES
        while budget > 0 and self._ready:
            path = next(iter(self._ready))
            del self._ready[path]
            if path in self._chains:
                budget -= self._read(path, self._chains[path], min(budget, CHUNK_BYTES))
        return self._given()

    def tick(self, now: float) -> list[Item]:
        """Try again what failed, and look for what no notice told: not every file system has any."""
        self._now = now
        self._notice()
        self._watch()
        for path in [path for path, due in self._retries.items() if due <= now]:
            self._adopt(path)
        for path, chain in list(self._chains.items()):
            if not chain.is_current():
                self._refresh(path, chain)
                continue
            self._items += chain.account()
            if chain.has_news():
                self._ready[path] = None
        self._held.tidy()
        return self._given()

    def close(self) -> None:
        """Close all files."""
        for chain in self._chains.values():
            chain.close()
        self._chains.clear()
        self._held.close()
        self._ready.clear()
        self._watches.close()

    def _given(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _say(self, stream: str, reason: str) -> None:
        """Say once that a stream is down for a reason, or up for none."""
        if self._said.get(stream) != reason:
            self._said[stream] = reason
            self._items.append(StatusChanged(stream, not reason, reason))

    def _notice(self) -> None:
        """Take what the kernel says, all of it before anything is done, so that it is known what was rotated."""
        born: dict[str, int] = {}  # paths that were not followed, and how many of their files were renamed already
        moved: dict[str, None] = {}
        overflowed = False
        for notice in self._watches.notices():
            match notice:
                case Overflowed():
                    overflowed = True
                case Appeared(name):
                    self._appeared(name, born, moved)
                case Vanished(name, renamed):
                    path = self._pattern.path(name)
                    moved[path] = None
                    if path in born:
                        born[path] += renamed
                    elif path in self._chains and not renamed:
                        self._chains[path].deleted = True
                case Written(fd):
                    self._ready[self._held.stream(fd)] = None
                case Changed(fd):
                    moved[self._held.stream(fd)] = None
        if overflowed:
            self._recover()
        for path, rotated in born.items():
            self._adopt(path, rotated)
        for path in moved:
            if path in self._chains:
                self._refresh(path, self._chains[path])

    def _recover(self) -> None:
        """Find out without notices what happened."""
        logger.warning("%s: more happened than inotify could tell; looking at all files", self._pattern.text)
        for chain in self._chains.values():
            chain.recount()
        self._list()

    def _appeared(self, name: str, born: dict[str, int], moved: dict[str, None]) -> None:
        path = self._pattern.path(name)
        base = self._pattern.of_backup(name)
        if path in self._chains:
            self._chains[path].arrived += 1
            moved[path] = None
        elif base in self._chains:
            moved[base] = None
        elif self._is_stream(name):
            born.setdefault(path, 0)

    def _is_stream(self, name: str) -> bool:
        """Whether a name is a stream's own, and not that of a stream's backup."""
        base = self._pattern.of_backup(name)
        return self._pattern.matches(name) and not (base and (base in self._chains or os.path.lexists(base)))

    def _watch(self) -> None:
        """Watch the directory, and list it when it changed or is another one."""
        directory = self._pattern.directory
        try:
            status = directory.stat()
            seen = (status.st_dev, status.st_ino, status.st_mtime_ns)
            if not self._watches.has_directory or (self._listed and self._listed[:2] != seen[:2]):
                self._watches.watch_directory(str(directory))
                self._listed = None
        except OSError as error:
            self._watches.leave_directory()
            self._listed = None
            if self._pattern.is_glob or not self._chains:
                self._say(self._pattern.text, _reason(error))
            return
        changed = self._listed != seen
        if changed or self._list_again:
            self._listed = seen
            self._list_again = changed  # what changed within the same jiffy has the same time
            self._list()

    def _list(self) -> None:
        """Follow what is in the directory, and find out what is in it no more."""
        try:
            names = self._pattern.names()
        except OSError as error:
            self._listed = None
            self._say(self._pattern.text, _reason(error))
            return
        paths = {self._pattern.path(name): name for name in names}
        for path in [path for path in self._retries if path not in paths]:
            self._forget(path)
        for path, chain in self._chains.items():
            self._ready[path] = None
            if not chain.is_current():
                self._refresh(path, chain)
        self._crowded = False
        for path in [path for path in self._resume if path not in self._retries]:
            self._adopt(path)
        for path, name in paths.items():
            if path not in self._retries and self._is_stream(name):
                self._adopt(path)
        if self._pattern.is_glob and not self._crowded:
            self._say(self._pattern.text, "")

    def _adopt(self, path: str, rotated: int = 0) -> None:
        """Begin a stream, with its newest `rotated` backups, or say why not and try again with the next tick."""
        if path in self._chains:
            return
        if path not in self._retries and len(self._chains) + len(self._retries) >= MAX_FILES:
            self._crowded = True
            self._say(self._pattern.text, f"more than {MAX_FILES} files match, the rest is not read")
            return
        chain = RotatedLog(path, partial(self._held.take, path), self._held.drop)
        resume = self._resume.pop(path, None)
        try:
            items = chain.start(resume, rotated)
        except FileExistsError:  # it is read under another name
            self._retries.pop(path, None)
            return
        except FileNotFoundError as error:
            if resume is not None:
                self._items += [DataLost(path, f"was deleted behind byte {resume.offset}"), StreamClosed(path)]
            if self._pattern.is_glob:
                self._forget(path)
                return
            self._fail(path, error, None)
            return
        except OSError as error:
            self._fail(path, error, resume)
            return
        self._retries.pop(path, None)
        self._chains[path] = chain
        self._say(path, _reason(chain.error) if chain.error else "")
        self._items += items
        self._ready[path] = None

    def _fail(self, path: str, error: OSError, resume: Position | None, rest_s: float = 0.0) -> None:
        self._say(path, _reason(error))
        self._retries[path] = self._now + rest_s
        if resume is not None:
            self._resume[path] = resume

    def _forget(self, path: str) -> None:
        """Give up a path that could not be read and is gone."""
        if self._retries.pop(path, None) is not None and self._said.pop(path, None) is not None:
            self._items.append(StreamClosed(path))

    def _refresh(self, path: str, chain: RotatedLog) -> None:
        self._items += chain.refresh()
        self._ready[path] = None
        self._say(path, _reason(chain.error) if chain.error else "")

    def _read(self, path: str, chain: RotatedLog, limit_bytes: int) -> int:
        """Read a piece; return its bytes."""
        try:
            items = chain.read(limit_bytes)
        except OSError as error:
            position = chain.files[0].position
            self._close(path)
            self._fail(path, error, position, _REST_S)
            return 0
        self._items += items
        read = sum(len(item.data) for item in items if isinstance(item, Data))
        if read:
            self._ready[path] = None
        elif chain.is_deleted():
            self._refresh(path, chain)
            if chain.is_deleted():
                self._close(path)
                del self._said[path]
                self._items.append(StreamClosed(path))
                if self._crowded:
                    self._listed = None  # there is room for another one
                self._adopt(path)
        return read

    def _close(self, path: str) -> None:
        self._chains.pop(path).close()
        self._ready.pop(path, None)


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.errno == errno.EINVAL else str(error.strerror or error)
