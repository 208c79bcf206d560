"""Followed log files, by path or pattern, through rotation, truncation and deletion.

`Follow` finds out which logs changed; `FollowedLogs` opens, reads and closes them. Notices of inotify report the
changes. Because inotify may miss changes, the status of every log is read once in `_LOOK_SECONDS`, and at every tick on
file systems that report no writes.
"""

from __future__ import annotations

import heapq
import logging
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources import Item, Position
from qemu_migration_exporter.sources.files.followed_logs import FollowedLogs, reason
from qemu_migration_exporter.sources.files.inotify import Appeared, Changed, Overflowed, Vanished, Watches, Written
from qemu_migration_exporter.sources.files.mounts import notifies
from qemu_migration_exporter.sources.files.pattern import Pattern

logger = logging.getLogger(__name__)

#: Followed logs of one pattern; a stream takes some 40 KiB of memory.
MAX_LOGS: Final = 5_000

#: Interval between two reads of a log's status, with or without notices of inotify.
_LOOK_SECONDS: Final = 30


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
        self._pattern = Pattern(pattern)
        self._watches = Watches()
        positions = {path: position for path, position in (resume or {}).items() if self._pattern.has(path)}
        self._logs = FollowedLogs(self._pattern, self._watches, positions, since_ns)
        self._listed: tuple[int, int, int] | None = None  # the directory and its last change when it was listed
        self._list_again = False
        self._has_listed = False
        self._look_queue: list[str] = []
        self._looks_per_tick = 0

    def fileno(self) -> int:
        return self._watches.fileno()

    @property
    def pending(self) -> bool:
        """True if a log may have more to read."""
        return bool(self._logs.ready)

    @property
    def behind(self) -> Collection[str]:
        """Logs with unread bytes, and logs that wait to be opened."""
        return self._logs.behind

    def read(self) -> list[Item]:
        """Return the changes of streams, and the next bytes of every log in turn."""
        self._take_notices()
        self._logs.read()
        return self._logs.drain()

    def tick(self, now: float) -> list[Item]:
        """Retry logs with errors, and look for changes that inotify missed."""
        self._logs.now = now
        self._take_notices()
        self._watch_directory()
        self._logs.retry()
        for path in self._due_looks():
            self._logs.look(path)
        self._logs.close_unlinked()
        return self._logs.drain()

    def close(self) -> None:
        """Close all files."""
        self._logs.close()
        self._watches.close()

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
                case Written(stream) if stream in self._logs.open:
                    self._logs.ready[stream] = None
                case Written(stream) | Changed(stream):
                    moved[stream] = None
                case Overflowed():
                    pass
        if any(isinstance(notice, Overflowed) for notice in notices):
            self._recover()
        for path, rotated in born.items():
            self._logs.adopt(path, rotated)
        for path in moved:
            if path in self._logs.open:
                self._logs.refresh(path, self._logs.open[path])
            elif path in self._logs.parked:
                self._logs.look(path)

    def _recover(self) -> None:
        """Find changes by listing the directory, after notices were lost."""
        logger.warning("%s: inotify dropped notices, looking at all files", self._pattern.text)
        for log in self._logs.open.values():
            log.recount()
        self._list()
        for path in list(self._logs.parked):
            self._logs.look(path)

    def _note_appeared(self, name: str, born: dict[str, int], moved: dict[str, None]) -> None:
        path = self._pattern.path(name)
        base = self._pattern.of_backup(name)
        if path in self._logs.open:
            self._logs.open[path].arrived += 1
            moved[path] = None
        elif path in self._logs.parked:
            moved[path] = None
        elif base in self._logs.open or base in self._logs.parked:
            moved[base] = None
        elif self._logs.is_stream(name):
            born.setdefault(path, 0)

    def _note_vanished(self, name: str, born: dict[str, int], moved: dict[str, None], *, renamed: bool) -> None:
        path = self._pattern.path(name)
        moved[path] = None
        if path in born:
            born[path] += renamed
        elif path in self._logs.open and not renamed:
            self._logs.open[path].deleted = True

    def _due_looks(self) -> Iterable[str]:
        """Return the logs to check in this tick: all logs without notices, and a share of the others."""
        if not self._is_directory_watched():
            return [*self._logs.open, *self._logs.parked]
        if not self._look_queue:
            self._look_queue = [*self._logs.open, *self._logs.parked]
            self._looks_per_tick = -(-len(self._look_queue) // _LOOK_SECONDS)
        due, self._look_queue = self._look_queue[: self._looks_per_tick], self._look_queue[self._looks_per_tick :]
        return self._logs.polled.union(due)

    def _is_directory_watched(self) -> bool:
        return self._watches.has_directory and self._listed is not None and notifies(self._listed[0])

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
            if self._pattern.is_glob or not self._logs.open:
                self._logs.set_status(self._pattern.text, reason(error, self._pattern.text))
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
            self._logs.set_status(self._pattern.text, reason(error, self._pattern.text))
            return
        logs = self._logs
        paths = [self._pattern.path(name) for name in names if logs.is_stream(name)]
        if not self._has_listed:
            self._has_listed = True
            logs.existing = {path for path in (*paths, *logs.resume) if os.path.lexists(path)} | logs.resume.keys()
        paths, omitted = self._most_recent(paths)
        for path in [path for path in logs.retried if path not in paths]:
            logs.forget(path)
        for path, log in logs.open.items():
            logs.ready[path] = None
            if not log.is_current():
                logs.refresh(path, log)
        unknown = [path for path in paths if path not in logs.retried and not logs.is_followed(path)]
        for path in [*(path for path in logs.resume if path not in logs.retried and path not in unknown), *unknown]:
            logs.adopt(path)
        if self._pattern.is_glob:
            logs.set_status(
                self._pattern.text,
                f"more than {MAX_LOGS} files match, the {omitted} that were written longest ago are not read"
                if omitted
                else "",
            )

    def _most_recent(self, paths: list[str]) -> tuple[list[str], int]:
        """Return the paths to follow, the most recently written first, and the number of further paths."""
        if not self._pattern.is_glob or len(paths) <= 1:
            return paths, 0
        if len(paths) <= MAX_LOGS and all(self._logs.is_followed(path) for path in paths):
            return paths, 0
        kept = heapq.nlargest(MAX_LOGS, paths, key=_modified_ns)
        if len(kept) < len(paths):
            for path in self._logs.parked - set(kept):
                self._logs.close_parked(path)
        return kept, len(paths) - len(kept)


def _modified_ns(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:  # reported by the attempt to open it
        return 0
