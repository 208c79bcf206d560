"""Keeper of a daemon's state file: encodes the streams that changed, and writes the file in a thread of its own.

    commit(streams, spans, counters) → encode some → encode some … ─content→ writer thread: write, fsync → on_saved
                                           ↑ or encode(stream), before it changes

A save contains the state at its commit. Encoding the streams that changed takes some 40 µs per stream, so a save with a
thousand streams is encoded in parts of a millisecond between the turns of the reading thread, and no line waits for the
whole of it. The lines of other streams are kept. A slow or full disk delays only the writer thread, where newer content
replaces content that waits. A failed write is repeated at the next commit.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.checkpoint_data import Checkpoint, StreamCheckpoint
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.sender import SpanBatch

logger = logging.getLogger(__name__)

#: Time for a part of a save: the pause that it adds to a turn of the reading thread.
_PART_SECONDS: Final = 0.001


class _Commit(NamedTuple):
    """Content of a save besides its streams, and the call after its write."""

    sources: Sequence[str]
    spans: Sequence[SpanBatch]
    reading: Sequence[str]
    counters: Mapping[str, Any]
    saved_ns: int
    on_saved: Callable[[], None] | None


class _Content(NamedTuple):
    """Content that waits for the writer, and the call after its write."""

    lines: list[bytes]
    on_saved: Callable[[], None] | None


class StateStore:
    """State file of a running daemon.

    Attributes:
        loaded: Contents of the file at the start.
        seconds: Time that encoding the last save, or the present one, has taken so far.
    """

    def __init__(self, path: Path, failures: ErrorCounter) -> None:
        self._path = path
        self._failures = failures
        self.loaded: Checkpoint = checkpoint.load(path, failures)
        self._lines: dict[str, bytes] = {}
        for name, stream in self.loaded.streams.items():
            self._put(name, partial(_same, stream))
        self._changed: dict[str, Callable[[], StreamCheckpoint]] = {}
        self._begun: _Commit | None = None
        self.seconds = 0.0
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

    @property
    def is_encoding(self) -> bool:
        """True if streams of the last commit are not encoded yet."""
        return self._begun is not None

    def commit(
        self,
        streams: Mapping[str, Callable[[], StreamCheckpoint]],
        sources: Sequence[str],
        spans: Sequence[SpanBatch],
        *,
        kept: Iterable[str] = (),
        reading: Sequence[str] = (),
        counters: Mapping[str, Any] | None = None,
        on_saved: Callable[[], None] | None = None,
    ) -> None:
        """Begin to save the streams that changed, with these spans and counters; `encode_some` continues it.

        `kept` are the names of streams whose last lines are saved again. `on_saved` is called by the writer thread as
        soon as this content, or newer content, has reached the disk.
        """
        self.finish()
        self._lines = {name: self._lines[name] for name in kept if name in self._lines}
        self._changed = dict(streams)
        self._begun = _Commit(sources, spans, reading, counters or {}, time.time_ns(), on_saved)
        self.seconds = 0.0
        self.encode_some()

    def encode(self, name: str) -> None:
        """Encode a stream of the last commit, unless it is encoded already; a stream must not change before."""
        stream = self._changed.pop(name, None)
        if stream is not None:
            self._put(name, stream)

    def encode_some(self) -> None:
        """Encode streams of the last commit for a millisecond; after the last of them, pass the save to the writer."""
        began, spent = time.monotonic(), 0.0
        while self._changed:
            self._put(*self._changed.popitem())
            spent = time.monotonic() - began
            if spent >= _PART_SECONDS:
                break
        self.seconds += spent
        if self._begun is not None and not self._changed:
            begun, self._begun = self._begun, None
            self._pass_on(begun)

    def finish(self) -> None:
        """Encode the rest of the last commit."""
        while self.is_encoding:
            self.encode_some()

    def _put(self, name: str, stream: Callable[[], StreamCheckpoint]) -> None:
        with self._failures.guard(Component.STATE, "stream not saved: %s", name):
            self._lines[name] = checkpoint.encode_stream(name, stream())

    def _pass_on(self, begun: _Commit) -> None:
        with self._failures.guard(Component.STATE, "state not saved: %s", self._path) as attempt:
            lines = checkpoint.encode(
                list(self._lines.values()),
                begun.sources,
                begun.spans,
                saved_ns=begun.saved_ns,
                reading=begun.reading,
                counters=begun.counters,
            )
            with self._wake:
                self._waiting = _Content(lines, begun.on_saved)
                self._wake.notify_all()
        if attempt.failed:
            self._is_failing = True

    def flush(self, seconds: float) -> None:
        """Encode the rest of the last commit, and wait for the disk at most for some seconds."""
        self.finish()
        with self._wake:
            self._wake.wait_for(lambda: self._waiting is None and not self._is_writing, seconds)

    def close(self) -> None:
        """Write the last commit, and end the thread."""
        self.finish()
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


def _same(stream: StreamCheckpoint) -> StreamCheckpoint:
    return stream
