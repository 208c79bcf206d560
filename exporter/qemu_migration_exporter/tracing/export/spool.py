"""Spans that wait on disk for a receiver: a file a batch, the oldest given up first when they are too many.

It survives the program. One program at a time has a directory.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from opentelemetry.sdk.trace import ReadableSpan

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.codec import StoredError, decode, encode
from qemu_migration_exporter.tracing.export.outcomes import SPOOL_DAMAGED, SPOOL_FULL, Counts, Fate

logger = logging.getLogger(__name__)

#: The place in the order, and how many spans are in it: that is known too of a file that cannot be read any more.
_NAME: Final = re.compile(r"(?P<place>\d{16})-(?P<spans>\d{1,6})\.otlp")


#: What file systems have.
_BLOCK_BYTES: Final = 4_096

#: Reasons not to read a file that pass, and are none of the file's.
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES})


class Batch(NamedTuple):
    """Spans that wait, and the file they are in."""

    name: str
    spans: list[ReadableSpan]


class _File(NamedTuple):
    size: int
    spans: int


class Spool:
    """Keep batches in a directory, with at most so many bytes.

    It is used by one thread at a time.

    Attributes:
        is_failing: Whether the disk did not take the last batch.
    """

    def __init__(self, directory: Path, *, max_bytes: int, failures: ErrorCounter | None = None) -> None:
        self._failures = failures or ErrorCounter()
        self._directory = directory
        self._max_bytes = max_bytes
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._bytes = 0
        self._next = 1
        self._counts: Counts = {SPOOL_FULL: 0, SPOOL_DAMAGED: 0}
        self._lock: int | None = None
        self._is_full = False
        self.is_failing = False

    def open(self) -> None:
        """Take the directory, and what waits in it.

        Raises:
            OSError: It cannot be made, read and written, or another program has it.
        """
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another exporter has it") from error
        for entry in sorted(os.scandir(self._directory), key=lambda each: each.name):
            match = _NAME.fullmatch(entry.name)
            status = entry.stat(follow_symlinks=False)
            if match is not None and stat.S_ISREG(status.st_mode):
                self._add(entry.name, _File(_on_disk(status.st_size), int(match["spans"])))
                self._next = int(match["place"]) + 1
            elif entry.name.endswith(".otlp.tmp"):
                Path(entry.path).unlink()  # the program ended while it was written
        self._make_room(0)
        if self._files:
            logger.info("%d spans of before wait in %s", len(self), self._directory)

    def close(self) -> None:
        """Let another program have the directory."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __len__(self) -> int:
        """Return how many spans wait."""
        return sum(file.spans for file in self._files.values())

    def __bool__(self) -> bool:
        """Say whether any wait."""
        return bool(self._files)

    def put(self, spans: Sequence[ReadableSpan]) -> bool:
        """Keep a batch, the oldest ones given up for it if they must; say whether the disk took it."""
        content = encode(spans)
        size = _on_disk(len(content))
        if size > self._max_bytes:
            self._counts[SPOOL_FULL] += len(spans)
            return True
        self._make_room(size)
        name = f"{self._next:016d}-{len(spans)}.otlp"
        unfinished = self._directory / f"{name}.tmp"
        try:
            with unfinished.open("wb") as out:
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            unfinished.rename(self._directory / name)
        except OSError as error:
            self._failures.note(Component.SPOOL, "spans wait in memory: %s: %s", self._directory, error.strerror)
            self.is_failing = True
            with suppress(OSError):  # it may not be there, and why was told just now
                unfinished.unlink()
            return False
        if self.is_failing:
            logger.info("spans wait on disk again: %s", self._directory)
        self.is_failing = False
        self._next += 1
        self._add(name, _File(size, len(spans)))
        return True

    def first(self) -> Batch | None:
        """Return the batch whose turn it is, None if none waits; what cannot be read is given up.

        Raises:
            OSError: It cannot be read now; it stays, and another one is next.
        """
        while self._files:
            name, file = next(iter(self._files.items()))
            try:
                return Batch(name, _read(self._directory / name, file.spans))
            except (OSError, StoredError) as error:
                if isinstance(error, OSError) and error.errno in _PASSING:
                    self.defer(name)
                    raise
                logger.warning("%d spans are lost: %s cannot be read: %s", file.spans, self._directory / name, error)
                self._give_up(name, SPOOL_DAMAGED)
        return None

    def remove(self, name: str) -> None:
        """Forget a batch that was dealt with."""
        file = self._files.pop(name, None)
        if file is not None:
            self._bytes -= file.size
            self._is_full = self._is_full and bool(self._files)
            _unlink(self._directory / name)

    def defer(self, name: str) -> None:
        """Let the others go first: it may be this batch that the receiver does not take."""
        if name in self._files:
            self._files.move_to_end(name)

    def counts(self) -> Counts:
        """Return how many spans had which fate here."""
        return dict(self._counts)

    def _add(self, name: str, file: _File) -> None:
        self._files[name] = file
        self._bytes += file.size

    def _make_room(self, size: int) -> None:
        while self._files and self._bytes + size > self._max_bytes:
            if not self._is_full:
                logger.warning("%s is full: the oldest spans in it are dropped", self._directory)
            self._is_full = True
            self._give_up(min(self._files), SPOOL_FULL)

    def _give_up(self, name: str, fate: Fate) -> None:
        self._counts[fate] += self._files[name].spans
        self.remove(name)


def _read(path: Path, expected: int) -> list[ReadableSpan]:
    spans = decode(path.read_bytes())
    if len(spans) != expected:
        raise StoredError(f"it has {len(spans)} spans")
    return spans


def _on_disk(size: int) -> int:
    """Say what a file takes: whole blocks."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES


def _unlink(path: Path) -> None:
    """Remove a file; one that stays is sent again after a restart, which is harmless."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        logger.warning("%s stays: %s", path, error.strerror)
