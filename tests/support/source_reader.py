"""Read a live source as the daemon does: select, read, tick; with deadlines in place of sleeps."""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from qemu_migration_exporter.sources import Data, DataLost, Item, Source, StatusChanged, StreamClosed

from tests.support.patience import patience

_DEADLINE_S = 10.0


class Reader:
    """Reader of a source that keeps its output; `now` is the time of its ticks."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.items: list[Item] = []
        self.reads = 0
        self.now = 100.0
        self._selector = selectors.DefaultSelector()
        self._selector.register(source.fileno(), selectors.EVENT_READ)
        self.items += source.tick(self.now)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the source."""
        self._selector.close()
        self.source.close()

    def tick(self, seconds: float = 1.0) -> None:
        """Advance the time, and read the available data."""
        self.now += seconds
        self.items += self.source.tick(self.now)
        self.settle()

    def turn(self, timeout_s: float = 0.0) -> bool:
        """Read once if there is something to read; return whether there was."""
        pending = self.source.pending
        if not self._selector.select(0 if pending else timeout_s) and not pending:
            return False
        self.reads += 1
        self.items += self.source.read()
        return True

    def settle(self) -> None:
        """Read until there is nothing more."""
        while self.turn():
            pass

    def until(self, done: Callable[[], bool], *, ticking: bool = False) -> None:
        """Read until something is so; with ticks every tenth of a second if `ticking`."""
        deadline = time.monotonic() + patience(_DEADLINE_S)
        while not done():
            left = deadline - time.monotonic()
            assert left > 0, f"not in time; the last items: {[str(item)[:200] for item in self.items[-8:]]}"
            if not self.turn(min(left, 0.1)) and ticking:
                self.now += 0.1
                self.items += self.source.tick(self.now)

    def data(self, stream: object | None = None) -> bytes:
        """Return all bytes, of one stream or all."""
        return b"".join(item.data for item in self.items if isinstance(item, Data) and stream in {None, item.stream})

    def streams(self) -> set[str]:
        """Return the names of the streams that gave data."""
        return {item.stream for item in self.items if isinstance(item, Data)}

    def ups(self) -> list[StatusChanged]:
        """Return the reported changes of being up."""
        return [item for item in self.items if isinstance(item, StatusChanged)]

    def ended(self) -> list[str]:
        """Return the streams that ended."""
        return [item.stream for item in self.items if isinstance(item, StreamClosed)]

    def lost(self) -> list[str]:
        """Return the reported losses."""
        return [item.detail for item in self.items if isinstance(item, DataLost)]


@contextmanager
def unprivileged() -> Iterator[None]:
    """Drop root's privileges for a while, as root passes every permission check."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def as_root() -> Iterator[None]:
    """Restore the user of the tests within an unprivileged part."""
    if os.getuid() != 0:
        yield
        return
    os.seteuid(0)
    try:
        yield
    finally:
        os.seteuid(65534)
