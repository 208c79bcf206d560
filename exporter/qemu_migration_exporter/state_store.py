"""Keeper of a daemon's state file: encodes the streams that changed, and writes the file in a thread of its own.

    put(stream) … put(stream) → commit(spans) ─content→ writer thread: write, fsync, rename → on_saved

The reading thread only encodes the streams that changed since the last commit, in some 20 µs per stream; the lines of
other streams are kept. A slow or full disk delays only the writer thread, where newer content replaces content that
waits. A failed write is repeated at the next commit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.checkpoint import Checkpoint, StreamCheckpoint
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.sender import SpanBatch

logger = logging.getLogger(__name__)


class _Content(NamedTuple):
    """Content that waits for the writer, and the call after its write."""

    lines: list[bytes]
    on_saved: Callable[[], None] | None


class StateStore:
    """State file of a running daemon.

    Attributes:
        loaded: Contents of the file at the start.
    """

    def __init__(self, path: Path, failures: ErrorCounter) -> None:
        self._path = path
        self._failures = failures
        self.loaded: Checkpoint = checkpoint.load(path, failures)
        self._lines: dict[str, bytes] = {}
        for name, stream in self.loaded.streams.items():
            self.put(name, stream)
        self._wake = threading.Condition()
        self._waiting: _Content | None = None
        self._is_writing = False
        self._is_closing = False
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name="state", daemon=True)
        self._thread.start()

    @property
    def is_failing(self) -> bool:
        """True if the last content was not written, so that it is worth committing again."""
        return self._is_failing

    def put(self, name: str, stream: StreamCheckpoint) -> None:
        """Encode a stream that changed, for the next commit."""
        with self._failures.guard(Component.STATE, "stream not saved: %s", name):
            self._lines[name] = checkpoint.encode_stream(name, stream)

    def keep_only(self, names: Iterable[str]) -> None:
        """Drop the streams that are not among these names."""
        self._lines = {name: self._lines[name] for name in names if name in self._lines}

    def commit(
        self,
        sources: Sequence[str],
        spans: Sequence[SpanBatch],
        *,
        reading: Sequence[str] = (),
        counters: Mapping[str, Any] | None = None,
        on_saved: Callable[[], None] | None = None,
    ) -> None:
        """Write all streams, as encoded last, together with these spans and counters.

        `on_saved` is called by the writer thread as soon as this content, or newer content, has reached the disk.
        """
        with self._failures.guard(Component.STATE, "state not saved: %s", self._path) as attempt:
            lines = checkpoint.encode(
                list(self._lines.values()), sources, spans, saved_ns=time.time_ns(), reading=reading, counters=counters
            )
            with self._wake:
                self._waiting = _Content(lines, on_saved)
                self._wake.notify_all()
        if attempt.failed:
            self._is_failing = True

    def flush(self, seconds: float) -> None:
        """Wait for the disk, at most for some seconds."""
        with self._wake:
            self._wake.wait_for(lambda: self._waiting is None and not self._is_writing, seconds)

    def close(self) -> None:
        """Write the last commit, and end the thread."""
        with self._wake:
            self._is_closing = True
            self._wake.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._is_writing = False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._waiting is not None or self._is_closing)
                waiting, self._waiting = self._waiting, None
                self._is_writing = True
            if waiting is None:
                return
            with self._failures.guard(Component.STATE, "state not saved: %s", self._path) as attempt:
                checkpoint.save(self._path, waiting.lines)
            if self._is_failing and not attempt.failed:
                logger.info("state saved again", extra={"path": str(self._path)})
            self._is_failing = attempt.failed
            if not attempt.failed and waiting.on_saved is not None:
                waiting.on_saved()
