"""Batches of spans that wait on disk: one file per batch, one program per directory.

A file's name is `NUMBER-SPANS.otlp`: its place in the order, and the number of its spans, which is then known even if
the file cannot be read. The content is the OTLP request to send. A batch is durable when `put` returns, because file
and directory are synced. If the directory would exceed its limit, the oldest batches are dropped and counted.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.codec import CodecError, parse
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, SpanOutcome
from qemu_migration_exporter.tracing.export.sender import SpanBatch

logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"(?P<number>\d{16})-(?P<spans>\d{1,6})\.otlp")

#: Allocation unit of common file systems.
BLOCK_BYTES: Final = 4_096

#: Errors of the machine and not of the file, after which the file is read again later.
_TRANSIENT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES})

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StoredBatch(NamedTuple):
    """A batch and the name of its file."""

    name: str
    batch: SpanBatch


class _File(NamedTuple):
    size: int
    spans: int


class Spool:
    """Directory of batches with a limit on its size; not thread-safe.

    Attributes:
        is_failing: True if the last batch could not be written.
        sending: Name of the batch that is being sent, which is never dropped for another.
    """

    def __init__(self, directory: Path, *, max_bytes: int, failures: ErrorCounter | None = None) -> None:
        self._failures = failures or ErrorCounter()
        self._directory = directory
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._bytes = 0
        self._next_number = 1
        self._counts: SpanCounts = {SpanOutcome.SPOOL_FULL: 0, SpanOutcome.SPOOL_DAMAGED: 0}
        self._lock: int | None = None
        self._is_full = False
        self.is_failing = False
        self.sending: str | None = None

    def open(self) -> None:
        """Lock the directory and index the batches in it.

        Raises:
            OSError: The directory cannot be created, read and written, or another program has locked it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "locked by another exporter") from error
        for entry in sorted(os.scandir(self._directory), key=lambda entry: entry.name):
            match = _NAME.fullmatch(entry.name)
            status = entry.stat(follow_symlinks=False)
            if match is not None and stat.S_ISREG(status.st_mode):
                self._add(entry.name, _File(_size_on_disk(status.st_size), int(match["spans"])))
                self._next_number = int(match["number"]) + 1
            elif entry.name.endswith(".otlp.tmp"):
                Path(entry.path).unlink()  # half a batch, from a program that was killed
        self._make_room(0)
        if self._files:
            logger.info("%d spooled spans from a previous run in %s", len(self), self._directory)

    def close(self) -> None:
        """Unlock the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __len__(self) -> int:
        """Return the number of spans on disk."""
        return sum(file.spans for file in self._files.values())

    @property
    def batches(self) -> int:
        """Number of batches on disk."""
        return len(self._files)

    def put(self, batch: SpanBatch) -> str | None:
        """Write a batch, and drop the oldest batches to make room.

        Returns:
            The name of its file, or None if the write failed or the batch is larger than the room there can be.
        """
        size = _size_on_disk(len(batch.content))
        if size + self._size_of_sending() > self._max_bytes:
            return None
        self._make_room(size)
        name = f"{self._next_number:016d}-{batch.spans}.otlp"
        try:
            self._write(name, batch.content)
        except OSError as error:
            message = "spool write failed, spans stay in memory: %s: %s"
            self._failures.record(Component.SPOOL, message, self._directory, error.strerror)
            self.is_failing = True
            return None
        if self.is_failing:
            logger.info("spool write succeeded again: %s", self._directory)
        self.is_failing = False
        self._next_number += 1
        self._add(name, _File(size, batch.spans))
        return name

    def first(self, skip: Collection[str] = ()) -> StoredBatch | None:
        """Return the batch to send next, none of `skip`, if any is left; damaged files are dropped and counted.

        Raises:
            OSError: A file cannot be read now. It moves to the end of the order.
        """
        for name, file in [(name, file) for name, file in self._files.items() if name not in skip]:
            path = self._directory / name
            try:
                content = path.read_bytes()
                parse(content, file.spans)
                self.sending = name
                return StoredBatch(name, SpanBatch(content, file.spans))
            except (OSError, CodecError) as error:
                if isinstance(error, OSError) and error.errno in _TRANSIENT:
                    self.defer(name)
                    raise
                logger.warning("spooled batch unreadable, %d spans lost: %s: %s", file.spans, path, error)
                self._drop(name, SpanOutcome.SPOOL_DAMAGED)
        return None

    def remove(self, name: str) -> None:
        """Delete a batch, if it is still there."""
        file = self._files.pop(name, None)
        self._finish_sending(name)
        if file is not None:
            self._bytes -= file.size
            self._is_full = self._is_full and bool(self._files)
            _unlink(self._directory / name)

    def defer(self, name: str) -> None:
        """Move a batch to the end of the order, in case the receiver refuses only this batch."""
        if name in self._files:
            self._files.move_to_end(name)
        self._finish_sending(name)

    def counts(self) -> SpanCounts:
        """Return the number of spans dropped here."""
        return dict(self._counts)

    def _write(self, name: str, content: bytes) -> None:
        unfinished = self._directory / f"{name}.tmp"
        unfinished.unlink(missing_ok=True)  # left by a write that failed before
        try:
            with os.fdopen(os.open(unfinished, _CREATE, 0o600), "wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            unfinished.rename(self._directory / name)
            _sync_directory(self._directory)
        except OSError:
            with suppress(OSError):  # the file may not exist, and the caller reports the first error
                unfinished.unlink()
            raise

    def _add(self, name: str, file: _File) -> None:
        self._files[name] = file
        self._bytes += file.size

    def _finish_sending(self, name: str) -> None:
        if name == self.sending:
            self.sending = None

    def _size_of_sending(self) -> int:
        file = self._files.get(self.sending) if self.sending is not None else None
        return 0 if file is None else file.size

    def _make_room(self, size: int) -> None:
        while self._files and self._bytes + size > self._max_bytes:
            if not self._is_full:
                logger.warning("spool full, dropping the oldest spans: %s", self._directory)
            self._is_full = True
            self._drop(min(name for name in self._files if name != self.sending), SpanOutcome.SPOOL_FULL)

    def _drop(self, name: str, outcome: SpanOutcome) -> None:
        self._counts[outcome] += self._files[name].spans
        self.remove(name)


def _size_on_disk(size: int) -> int:
    """Round a file's size up to whole blocks."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unlink(path: Path) -> None:
    """Delete a file; if that fails, the next run sends the batch again, which is harmless."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("spooled batch not deleted: %s: %s", path, error.strerror)
