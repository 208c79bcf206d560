"""The logs of a pattern, each in one of four states.

    open      read when inotify reports a write; at most `MAX_OPEN` logs
    parked    read to its end and closed, to make room: its position and a watch are kept, no descriptor
    waiting   to be opened as soon as a log can be parked
    retried   could not be opened or read; the next tick tries again

The most recently written logs are open. `Follow` finds out which logs changed.
"""

from __future__ import annotations

import errno
import heapq
import os
from collections.abc import Collection, KeysView
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from qemu_migration_exporter.sources import (
    CHUNK_BYTES,
    READ_BYTES,
    READ_LAG_NS,
    CaughtUp,
    Data,
    DataLost,
    HistoryBegins,
    Item,
    Position,
    StatusChanged,
    StreamClosed,
)
from qemu_migration_exporter.sources.files import rotation
from qemu_migration_exporter.sources.files.inotify import Handle, Watches
from qemu_migration_exporter.sources.files.mounts import notifies
from qemu_migration_exporter.sources.files.open_files import OpenFiles
from qemu_migration_exporter.sources.files.pattern import Pattern
from qemu_migration_exporter.sources.files.rotated_log import RotatedLog

#: Open logs of one pattern, with one or more descriptors per log: more than a host has running virtual machines.
MAX_OPEN: Final = 1_000

#: Pause after a read error, because errors of a disk last longer than a second.
_REST_S: Final = 60.0

#: Logs parked at a time, because the search for the oldest log takes milliseconds.
_PARKED_TOGETHER: Final = 50


class _Parked(NamedTuple):
    """A closed log: its position and its last status."""

    position: Position
    modified_ns: int


class FollowedLogs:
    """Logs of one pattern.

    Args:
        resume: Positions at which streams continue, by path. Other streams begin at their first byte.
        since_ns: Time since which files were not followed, in nanoseconds since the epoch. Backups that were written
            after it belong to logs without a position. None if the pattern was never followed.

    Attributes:
        open: Open logs by path.
        resume: Positions of logs that are not open yet.
        ready: Logs that may have more to read, in the order in which they are read.
        existing: Logs that were found at the first listing and not read to their end.
        polled: Logs of which inotify does not report everything.
        now: Time of the last tick.
    """

    def __init__(self, pattern: Pattern, watches: Watches, resume: dict[str, Position], since_ns: int | None) -> None:
        self.open: dict[str, RotatedLog] = {}
        self.resume = resume
        self.ready: dict[str, None] = {}
        self.existing: set[str] = set()
        self.polled: set[str] = set()
        self.now = 0.0
        self._parked: dict[str, _Parked] = {}
        self._waiting: dict[str, None] = {}  # in the order in which they are opened
        self._retries: dict[str, float] = {}
        self._history_bytes: dict[str, int] = {}  # of the logs that are read to the end they had then
        self._pattern = pattern
        self._watches = watches
        self._open_files = OpenFiles(pattern, self._watch, watches.leave, self.is_stream)
        self._since_ns = since_ns
        self._status: dict[str, str] = {pattern.text: ""} if pattern.is_glob else {}
        self._items: list[Item] = []

    @property
    def parked(self) -> KeysView[str]:
        """Paths of the parked logs."""
        return self._parked.keys()

    @property
    def retried(self) -> KeysView[str]:
        """Paths of the retried logs."""
        return self._retries.keys()

    @property
    def behind(self) -> Collection[str]:
        """Logs with unread bytes, and logs that wait to be opened."""
        unread = {path for path in self.ready if path in self.open and self.open[path].is_behind()}
        return unread | self._waiting.keys()

    def read(self) -> None:
        """Read the next bytes of every log in turn."""
        budget = READ_BYTES
        while budget > 0 and self.ready:
            chunk = CHUNK_BYTES if len(self.ready) > 1 else READ_BYTES
            path = next(iter(self.ready))
            del self.ready[path]
            if path in self.open:
                budget -= self._read(path, self.open[path], min(budget, chunk))
        self.open_waiting()

    def retry(self) -> None:
        """Open the logs whose next attempt is due, and logs for which there is room."""
        for path in [path for path, due in self._retries.items() if due <= self.now]:
            self.adopt(path)
        self.open_waiting()

    def drain(self) -> list[Item]:
        """Return the changes of streams since the last call."""
        items, self._items = self._items, []
        return items

    def close_unlinked(self) -> None:
        """Close deleted files that were kept open to recognise them under a new name."""
        self._open_files.close_unlinked()

    def close(self) -> None:
        """Close all files."""
        for log in self.open.values():
            log.close()
        self.open.clear()
        self._open_files.close()
        self.ready.clear()

    def set_status(self, stream: str, reason: str) -> None:
        """Report a change: the stream is down for a reason, or up if there is none."""
        if self._status.get(stream) != reason:
            self._status[stream] = reason
            self._items.append(StatusChanged(stream, not reason, reason))

    def is_stream(self, name: str) -> bool:
        """Return whether a name is that of a log, and not of a log's backup."""
        base = self._pattern.of_backup(name)
        return self._pattern.matches(name) and not (base and (self.is_followed(base) or os.path.lexists(base)))

    def is_followed(self, path: str) -> bool:
        """Return whether a log is open, parked or waiting."""
        return path in self.open or path in self._parked or path in self._waiting

    def look(self, path: str) -> None:
        """Check a log's status for changes."""
        log, parked = self.open.get(path), self._parked.get(path)
        if log is not None:
            if not log.is_current():
                self.refresh(path, log)
                return
            self._items += log.account()
            if log.has_news() or log.is_unread:
                self.ready[path] = None
        elif parked is not None and not _is_unchanged(path, parked):
            self._unpark(path)

    # Opening, reading and closing

    def adopt(self, path: str, rotated: int = 0) -> None:
        """Open a log with its newest `rotated` backups, or report the cause and retry at the next tick."""
        if path in self.open:
            return
        resume = self.resume.get(path)
        if len(self.open) >= MAX_OPEN and not self._park_oldest():
            if resume is not None and (modified_ns := _unchanged_since(path, resume)) is not None:
                self._waiting.pop(path, None)
                self.existing.discard(path)
                self._items.append(CaughtUp(path))
                self._park(path, _Parked(self.resume.pop(path), modified_ns))
            else:
                self._waiting[path] = None
            return
        self._waiting.pop(path, None)
        self.resume.pop(path, None)
        log = RotatedLog(path, partial(self._open_files.hold, path), self._open_files.release)
        if path in self.existing and resume is None and self._since_ns is not None:
            rotated = rotation.count_backups(path, self._since_ns - READ_LAG_NS)
        try:
            items = log.start(resume, rotated, self._since_ns)
        except FileExistsError:  # it is read under another name
            self._retries.pop(path, None)
            return
        except FileNotFoundError as error:
            self.existing.discard(path)
            if resume is not None:
                self._items += [DataLost(path, f"was deleted behind byte {resume.offset}"), StreamClosed(path)]
            if self._pattern.is_glob:
                self.forget(path)
                return
            self._fail(path, error, None)
            return
        except OSError as error:
            self._fail(path, error, resume)
            return
        self._retries.pop(path, None)
        self.open[path] = log
        if path in self.existing:
            self.existing.discard(path)
            self._history_bytes[path] = log.files[-1].size
            if resume is None:
                self._items.append(HistoryBegins(path, os.fstat(log.files[-1].fd).st_mtime_ns))
        self.set_status(path, reason(log.error, path) if log.error else "")
        self._items += items
        self.ready[path] = None

    def forget(self, path: str) -> None:
        """Drop a path that could not be read and was deleted."""
        if self._retries.pop(path, None) is not None and self._status.pop(path, None) is not None:
            self._items.append(StreamClosed(path))

    def refresh(self, path: str, log: RotatedLog) -> None:
        """Open the new files of an open log."""
        self._items += log.refresh()
        self.ready[path] = None
        self.set_status(path, reason(log.error, path) if log.error else "")

    def _fail(self, path: str, error: OSError, resume: Position | None, rest_s: float = 0.0) -> None:
        self.set_status(path, reason(error, path))
        self._retries[path] = self.now + rest_s
        if resume is not None:
            self.resume[path] = resume

    def _read(self, path: str, log: RotatedLog, limit_bytes: int) -> int:
        """Read a part of a log; return its bytes."""
        try:
            items = log.read(limit_bytes)
        except OSError as error:
            position = log.files[0].position
            self._close(path)
            self._fail(path, error, position, _REST_S)
            return 0
        self._items += items
        read = sum(len(item.data) for item in items if isinstance(item, Data))
        if not read or (len(log.files) == 1 and log.files[0].offset >= self._history_bytes.get(path, 0)):
            self._end_history(path)
        if read:
            if not log.is_at_end or path in self.polled:
                self.ready[path] = None
            return read
        if log.is_deleted():
            self.refresh(path, log)
            if log.is_deleted():
                self._close(path)
                del self._status[path]
                self._items.append(StreamClosed(path))
                self.adopt(path)
        return 0

    def _end_history(self, path: str) -> None:
        if self._history_bytes.pop(path, None) is not None:
            self._items.append(CaughtUp(path))

    def _close(self, path: str) -> None:
        self.open.pop(path).close()
        self.ready.pop(path, None)
        self.polled.discard(path)

    # Parking

    def open_waiting(self) -> None:
        """Open waiting logs, and park others to make room."""
        for path in list(self._waiting):
            if len(self.open) >= MAX_OPEN and not self._park_oldest():
                return
            self.adopt(path)

    def _park_oldest(self) -> bool:
        """Close the logs that were read to their end and written longest ago."""
        at_rest = [(path, log) for path, log in self.open.items() if path not in self.ready and log.is_at_rest()]
        statuses = {path: os.fstat(log.files[0].fd) for path, log in at_rest}
        count = min(_PARKED_TOGETHER, 1 + MAX_OPEN // 20)
        oldest = heapq.nsmallest(count, at_rest, key=lambda item: statuses[item[0]].st_mtime_ns)
        for path, log in oldest:
            parked = _Parked(log.files[0].position, statuses[path].st_mtime_ns)
            self._close(path)
            self._park(path, parked)
        return bool(oldest)

    def _park(self, path: str, parked: _Parked) -> None:
        self._parked[path] = parked
        self._watch(path, path, parked.position.device)
        if not _is_unchanged(path, parked):  # it was written before it was watched
            del self._parked[path]
            self._watches.leave(path)
            self.resume[path] = parked.position
            self._waiting[path] = None

    def _watch(self, handle: Handle, path: str, device: int) -> None:
        """Watch a file; poll its log if inotify does not report all of its changes."""
        is_watched = self._watches.watch(handle, path)
        if not is_watched or not notifies(device) or Path(path).is_symlink():
            self.polled.add(path)

    def _unpark(self, path: str) -> None:
        """Open a parked log again, because it was written, renamed or deleted."""
        if self._pattern.is_glob and not rotation.is_present(path, self._parked[path].position):
            self.close_parked(path)
            return
        self.resume[path] = self._parked.pop(path).position
        self._watches.leave(path)
        self.adopt(path)

    def close_parked(self, path: str) -> None:
        """End the stream of a parked log."""
        del self._parked[path]
        self._watches.leave(path)
        self.polled.discard(path)
        self._status.pop(path, None)
        self._items.append(StreamClosed(path))


def _unchanged_since(path: str, position: Position) -> int | None:
    """Return the time of last write of a file that ends at a position; None if the path has no such file."""
    try:
        status = Path(path).stat()
    except OSError:  # reported by the attempt to open it
        return None
    return status.st_mtime_ns if (status.st_dev, status.st_ino, status.st_size) == position[:3] else None


def _is_unchanged(path: str, parked: _Parked) -> bool:
    return _unchanged_since(path, parked.position) == parked.modified_ns


def reason(error: OSError, path: str) -> str:
    """Return why a path cannot be read, with the remedy if there is one."""
    if error.errno == errno.EACCES and "/libvirt/" in path:  # virtlogd makes them for root alone
        return f"{error.strerror}; the unit's drop-in libvirt-logs.conf lets the daemon read libvirt's logs"
    return f"{error.filename}: {error.strerror}" if error.errno == errno.EINVAL else str(error.strerror or error)
