"""Followed log files, by path or pattern, through rotation, truncation and deletion.

A followed log is in one of four states:

    open      read when inotify reports a write; at most `MAX_OPEN` logs
    parked    read to its end and closed, to make room: its position and a watch are kept, no descriptor
    waiting   to be opened as soon as a log can be parked
    retried   could not be opened or read; the next tick tries again

The most recently written logs are open. Notices of inotify cause all transitions. Because inotify may miss changes,
the status of every log is read once in `_LOOK_SECONDS`, and at every tick on file systems that report no writes.
"""

from __future__ import annotations

import errno
import heapq
import logging
import os
from collections.abc import Collection, Iterable, Mapping
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
from qemu_migration_exporter.sources.files.inotify import (
    Appeared,
    Changed,
    Handle,
    Overflowed,
    Vanished,
    Watches,
    Written,
)
from qemu_migration_exporter.sources.files.mounts import notifies
from qemu_migration_exporter.sources.files.open_files import OpenFiles
from qemu_migration_exporter.sources.files.pattern import Pattern
from qemu_migration_exporter.sources.files.rotated_log import RotatedLog

logger = logging.getLogger(__name__)

#: Open logs of one pattern, with one or more descriptors per log: more than a host has running virtual machines.
MAX_OPEN: Final = 1_000

#: Followed logs of one pattern; a stream takes some 40 KiB of memory.
MAX_LOGS: Final = 5_000

#: Pause after a read error, because errors of a disk last longer than a second.
_REST_S: Final = 60.0

#: Logs parked at a time, because the search for the oldest log takes milliseconds.
_PARKED_TOGETHER: Final = 50

#: Interval between two reads of a log's status, with or without notices of inotify.
_LOOK_SECONDS: Final = 30


class _Parked(NamedTuple):
    """A closed log: its position and its last status."""

    position: Position
    modified_ns: int


class Follow:
    """Source of the files that match a pattern.

    Args:
        pattern: Path, or the text of a `Pattern`.
        resume: Positions at which streams continue, by path. Other streams begin at their first byte.
        since_ns: Time since which files were not followed, in nanoseconds since the epoch. Backups that were written
            after it belong to logs without a position. None if the pattern was never followed.

    Raises:
        SourceError: The pattern has a wildcard in a directory's name, or names no file; or inotify is exhausted.
    """

    def __init__(self, pattern: str, resume: Mapping[str, Position] | None = None, since_ns: int | None = None) -> None:
        self._since_ns = since_ns
        self._pattern = Pattern(pattern)
        self._resume = {path: position for path, position in (resume or {}).items() if self._pattern.has(path)}
        self._watches = Watches()
        self._open_files = OpenFiles(self._pattern, self._watch, self._watches.leave, self._is_stream)
        self._logs: dict[str, RotatedLog] = {}
        self._parked: dict[str, _Parked] = {}
        self._waiting: dict[str, None] = {}  # in the order in which they are opened
        self._retries: dict[str, float] = {}
        self._ready: dict[str, None] = {}  # in the order in which they are read
        self._existing: set[str] = set()  # found at the first listing and not read to their end
        self._history_bytes: dict[str, int] = {}  # of the logs that are read to the end they had then
        self._status: dict[str, str] = {pattern: ""} if self._pattern.is_glob else {}
        self._items: list[Item] = []
        self._listed: tuple[int, int, int] | None = None  # the directory and its last change when it was listed
        self._list_again = False
        self._has_listed = False
        self._polled: set[str] = set()  # logs of which inotify does not report everything
        self._look_queue: list[str] = []
        self._looks_per_tick = 0
        self._now = 0.0

    def fileno(self) -> int:
        return self._watches.fileno()

    @property
    def pending(self) -> bool:
        """True if a log may have more to read."""
        return bool(self._ready)

    @property
    def behind(self) -> Collection[str]:
        """Logs with unread bytes, and logs that wait to be opened."""
        unread = {path for path in self._ready if path in self._logs and self._logs[path].is_behind()}
        return unread | self._waiting.keys()

    def read(self) -> list[Item]:
        """Return the changes of streams, and the next bytes of every log in turn."""
        self._take_notices()
        budget = READ_BYTES
        while budget > 0 and self._ready:
            chunk = CHUNK_BYTES if len(self._ready) > 1 else READ_BYTES
            path = next(iter(self._ready))
            del self._ready[path]
            if path in self._logs:
                budget -= self._read(path, self._logs[path], min(budget, chunk))
        self._open_waiting()
        return self._drain_items()

    def tick(self, now: float) -> list[Item]:
        """Retry logs with errors, and look for changes that inotify missed."""
        self._now = now
        self._take_notices()
        self._watch_directory()
        for path in [path for path, due in self._retries.items() if due <= now]:
            self._adopt(path)
        self._open_waiting()
        for path in self._due_looks():
            self._look(path)
        self._open_files.close_unlinked()
        return self._drain_items()

    def close(self) -> None:
        """Close all files."""
        for log in self._logs.values():
            log.close()
        self._logs.clear()
        self._open_files.close()
        self._ready.clear()
        self._watches.close()

    def _drain_items(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _set_status(self, stream: str, reason: str) -> None:
        """Report a change: the stream is down for a reason, or up if there is none."""
        if self._status.get(stream) != reason:
            self._status[stream] = reason
            self._items.append(StatusChanged(stream, not reason, reason))

    # Changes

    def _take_notices(self) -> None:
        """Collect all notices before acting on any, so that rotations are known in full."""
        born: dict[str, int] = {}  # paths that are not followed, and how many of their files were renamed already
        moved: dict[str, None] = {}
        notices = list(self._watches.notices())
        for notice in notices:
            match notice:
                case Appeared(name):
                    self._note_appeared(name, born, moved)
                case Vanished(name, renamed):
                    self._note_vanished(name, born, moved, renamed=renamed)
                case Written(stream) if stream in self._logs:
                    self._ready[stream] = None
                case Written(stream) | Changed(stream):
                    moved[stream] = None
                case Overflowed():
                    pass
        if any(isinstance(notice, Overflowed) for notice in notices):
            self._recover()
        for path, rotated in born.items():
            self._adopt(path, rotated)
        for path in moved:
            if path in self._logs:
                self._refresh(path, self._logs[path])
            elif path in self._parked:
                self._look(path)

    def _recover(self) -> None:
        """Find changes by listing the directory, after notices were lost."""
        logger.warning("%s: inotify dropped notices, looking at all files", self._pattern.text)
        for log in self._logs.values():
            log.recount()
        self._list()
        for path in list(self._parked):
            self._look(path)

    def _note_appeared(self, name: str, born: dict[str, int], moved: dict[str, None]) -> None:
        path = self._pattern.path(name)
        base = self._pattern.of_backup(name)
        if path in self._logs:
            self._logs[path].arrived += 1
            moved[path] = None
        elif path in self._parked:
            moved[path] = None
        elif base in self._logs or base in self._parked:
            moved[base] = None
        elif self._is_stream(name):
            born.setdefault(path, 0)

    def _note_vanished(self, name: str, born: dict[str, int], moved: dict[str, None], *, renamed: bool) -> None:
        path = self._pattern.path(name)
        moved[path] = None
        if path in born:
            born[path] += renamed
        elif path in self._logs and not renamed:
            self._logs[path].deleted = True

    def _is_stream(self, name: str) -> bool:
        """Return whether a name is that of a log, and not of a log's backup."""
        base = self._pattern.of_backup(name)
        return self._pattern.matches(name) and not (base and (self._is_followed(base) or os.path.lexists(base)))

    def _is_followed(self, path: str) -> bool:
        return path in self._logs or path in self._parked or path in self._waiting

    def _due_looks(self) -> Iterable[str]:
        """Return the logs to check in this tick: all logs without notices, and a share of the others."""
        if not self._is_directory_watched():
            return [*self._logs, *self._parked]
        if not self._look_queue:
            self._look_queue = [*self._logs, *self._parked]
            self._looks_per_tick = -(-len(self._look_queue) // _LOOK_SECONDS)
        due, self._look_queue = self._look_queue[: self._looks_per_tick], self._look_queue[self._looks_per_tick :]
        return self._polled.union(due)

    def _is_directory_watched(self) -> bool:
        return self._watches.has_directory and self._listed is not None and notifies(self._listed[0])

    def _look(self, path: str) -> None:
        """Check a log's status for changes."""
        log, parked = self._logs.get(path), self._parked.get(path)
        if log is not None:
            if not log.is_current():
                self._refresh(path, log)
                return
            self._items += log.account()
            if log.has_news() or log.is_unread:
                self._ready[path] = None
        elif parked is not None and not _is_unchanged(path, parked):
            self._unpark(path)

    # The directory

    def _watch_directory(self) -> None:
        """Watch the directory, and list it if it changed or was replaced."""
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
            self._has_listed |= isinstance(error, FileNotFoundError)  # files created in it later are new
            if self._pattern.is_glob or not self._logs:
                self._set_status(self._pattern.text, _reason(error, self._pattern.text))
            return
        changed = self._listed != seen
        if changed or self._list_again:
            self._listed = seen
            self._list_again = changed  # a change within the same jiffy has the same time
            self._list()

    def _list(self) -> None:
        """Follow the files of the directory, and drop deleted files."""
        try:
            names = self._pattern.names()
        except OSError as error:
            self._listed = None
            self._set_status(self._pattern.text, _reason(error, self._pattern.text))
            return
        paths = [self._pattern.path(name) for name in names if self._is_stream(name)]
        if not self._has_listed:
            self._has_listed = True
            self._existing = {path for path in (*paths, *self._resume) if os.path.lexists(path)} | self._resume.keys()
        paths, omitted = self._most_recent(paths)
        for path in [path for path in self._retries if path not in paths]:
            self._forget(path)
        for path, log in self._logs.items():
            self._ready[path] = None
            if not log.is_current():
                self._refresh(path, log)
        unknown = [path for path in paths if path not in self._retries and not self._is_followed(path)]
        for path in [*(path for path in self._resume if path not in self._retries and path not in unknown), *unknown]:
            self._adopt(path)
        if self._pattern.is_glob:
            self._set_status(
                self._pattern.text,
                f"more than {MAX_LOGS} files match, the {omitted} that were written longest ago are not read"
                if omitted
                else "",
            )

    def _most_recent(self, paths: list[str]) -> tuple[list[str], int]:
        """Return the paths to follow, the most recently written first, and the number of further paths."""
        if not self._pattern.is_glob or len(paths) <= 1:
            return paths, 0
        if len(paths) <= MAX_LOGS and all(self._is_followed(path) for path in paths):
            return paths, 0
        kept = heapq.nlargest(MAX_LOGS, paths, key=_modified_ns)
        if len(kept) < len(paths):
            for path in self._parked.keys() - set(kept):
                self._close_parked(path)
        return kept, len(paths) - len(kept)

    # Opening and closing

    def _adopt(self, path: str, rotated: int = 0) -> None:
        """Open a log with its newest `rotated` backups, or report the cause and retry at the next tick."""
        if path in self._logs:
            return
        resume = self._resume.get(path)
        if len(self._logs) >= MAX_OPEN and not self._park_oldest():
            if resume is not None and (modified_ns := _unchanged_since(path, resume)) is not None:
                self._waiting.pop(path, None)
                self._existing.discard(path)
                self._items.append(CaughtUp(path))
                self._park(path, _Parked(self._resume.pop(path), modified_ns))
            else:
                self._waiting[path] = None
            return
        self._waiting.pop(path, None)
        self._resume.pop(path, None)
        log = RotatedLog(path, partial(self._open_files.hold, path), self._open_files.release)
        if path in self._existing and resume is None and self._since_ns is not None:
            rotated = rotation.count_backups(path, self._since_ns - READ_LAG_NS)
        try:
            items = log.start(resume, rotated, self._since_ns)
        except FileExistsError:  # it is read under another name
            self._retries.pop(path, None)
            return
        except FileNotFoundError as error:
            self._existing.discard(path)
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
        self._logs[path] = log
        if path in self._existing:
            self._existing.discard(path)
            self._history_bytes[path] = log.files[-1].size
            if resume is None:
                self._items.append(HistoryBegins(path, os.fstat(log.files[-1].fd).st_mtime_ns))
        self._set_status(path, _reason(log.error, path) if log.error else "")
        self._items += items
        self._ready[path] = None

    def _fail(self, path: str, error: OSError, resume: Position | None, rest_s: float = 0.0) -> None:
        self._set_status(path, _reason(error, path))
        self._retries[path] = self._now + rest_s
        if resume is not None:
            self._resume[path] = resume

    def _forget(self, path: str) -> None:
        """Drop a path that could not be read and was deleted."""
        if self._retries.pop(path, None) is not None and self._status.pop(path, None) is not None:
            self._items.append(StreamClosed(path))

    def _refresh(self, path: str, log: RotatedLog) -> None:
        self._items += log.refresh()
        self._ready[path] = None
        self._set_status(path, _reason(log.error, path) if log.error else "")

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
            self._ready[path] = None
            return read
        if log.is_deleted():
            self._refresh(path, log)
            if log.is_deleted():
                self._close(path)
                del self._status[path]
                self._items.append(StreamClosed(path))
                self._adopt(path)
        return 0

    def _end_history(self, path: str) -> None:
        if self._history_bytes.pop(path, None) is not None:
            self._items.append(CaughtUp(path))

    def _close(self, path: str) -> None:
        self._logs.pop(path).close()
        self._ready.pop(path, None)
        self._polled.discard(path)

    # Parking

    def _open_waiting(self) -> None:
        """Open waiting logs, and park others to make room."""
        for path in list(self._waiting):
            if len(self._logs) >= MAX_OPEN and not self._park_oldest():
                return
            self._adopt(path)

    def _park_oldest(self) -> bool:
        """Close the logs that were read to their end and written longest ago."""
        at_rest = [(path, log) for path, log in self._logs.items() if path not in self._ready and log.is_at_rest()]
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
            self._resume[path] = parked.position
            self._waiting[path] = None

    def _watch(self, handle: Handle, path: str, device: int) -> None:
        """Watch a file; poll its log if inotify does not report all of its changes."""
        is_watched = self._watches.watch(handle, path)
        if not is_watched or not notifies(device) or Path(path).is_symlink():
            self._polled.add(path)

    def _unpark(self, path: str) -> None:
        """Open a parked log again, because it was written, renamed or deleted."""
        if self._pattern.is_glob and not rotation.is_present(path, self._parked[path].position):
            self._close_parked(path)
            return
        self._resume[path] = self._parked.pop(path).position
        self._watches.leave(path)
        self._adopt(path)

    def _close_parked(self, path: str) -> None:
        del self._parked[path]
        self._watches.leave(path)
        self._polled.discard(path)
        self._status.pop(path, None)
        self._items.append(StreamClosed(path))


def _modified_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:  # reported by the attempt to open it
        return 0


def _unchanged_since(path: str, position: Position) -> int | None:
    """Return the time of last write of a file that ends at a position; None if the path has no such file."""
    try:
        status = Path(path).stat()
    except OSError:  # reported by the attempt to open it
        return None
    return status.st_mtime_ns if (status.st_dev, status.st_ino, status.st_size) == position[:3] else None


def _is_unchanged(path: str, parked: _Parked) -> bool:
    return _unchanged_since(path, parked.position) == parked.modified_ns


def _reason(error: OSError, path: str) -> str:
    if error.errno == errno.EACCES and "/libvirt/" in path:  # virtlogd makes them for root alone
        return f"{error.strerror}; the unit's drop-in libvirt-logs.conf lets the daemon read libvirt's logs"
    return f"{error.filename}: {error.strerror}" if error.errno == errno.EINVAL else str(error.strerror or error)
