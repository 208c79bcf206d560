"""A FIFO that probes write into. Writers come and go, the stream goes on."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources import CHUNK_BYTES, READ_BYTES, Data, Item, StatusChanged, StreamClosed

# For reading and writing. fifo(7): "Under Linux, opening a FIFO for read and write will succeed both in blocking and
# nonblocking mode." Then there is always a writer, ourselves, so that the last other one to leave causes no end of
# file, which would make the descriptor readable for ever.
_FLAGS: Final = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC

#: The most a pipe holds, unless root allows more: fs.pipe-max-size.
_PIPE_BYTES: Final = 1024 * 1024


class Fifo:
    """Read a FIFO, which may not be there yet; it must be readable and writable.

    What was written is not lost when one writer leaves. A FIFO of another inode at the path is another stream.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._epoll = select.epoll()
        self._fd: int | None = None
        self._said: str | None = None
        self._items: list[Item] = []

    def fileno(self) -> int:
        """Return what is readable when the FIFO is."""
        return self._epoll.fileno()

    @property
    def pending(self) -> bool:
        """False: what is left keeps the descriptor readable."""
        return False

    def read(self) -> list[Item]:
        """Take what is in the FIFO."""
        left = READ_BYTES
        while left > 0 and (data := self._take(min(left, CHUNK_BYTES))):
            left -= len(data)
            self._items.append(Data(self.path, data, None))
        items, self._items = self._items, []
        return items

    def tick(self, now: float) -> list[Item]:  # noqa: ARG002 - nothing to wait for
        """Open the FIFO if there is one, or the one that is there now."""
        try:
            status = Path(self.path).stat()
            if not stat.S_ISFIFO(status.st_mode):
                self._say("is no FIFO")
            elif self._fd is None or not os.path.samestat(status, os.fstat(self._fd)):
                self._replace()
            else:
                self._say("")
        except PermissionError as error:
            self._say(f"{error.strerror}; it must be readable and writable")
        except OSError as error:
            # Whoever has an old FIFO open may still write into it: it is read until there is another one.
            self._say(str(error.strerror))
        items, self._items = self._items, []
        return items

    def close(self) -> None:
        """Close the FIFO, so that a writer notices."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._epoll.close()

    def _replace(self) -> None:
        opened = os.open(self.path, _FLAGS)
        if self._fd is not None:
            for _ in range(_PIPE_BYTES // CHUNK_BYTES):
                if data := self._take(CHUNK_BYTES):
                    self._items.append(Data(self.path, data, None))
            self._leave()
        self._fd = opened
        self._epoll.register(opened, select.EPOLLIN)
        self._say("")

    def _take(self, limit_bytes: int) -> bytes:
        if self._fd is None:
            return b""
        try:
            return os.read(self._fd, limit_bytes)
        except BlockingIOError:  # nothing is there
            return b""
        except OSError as error:
            self._leave()
            self._say(str(error.strerror))
            return b""

    def _leave(self) -> None:
        if self._fd is not None:
            os.close(self._fd)  # which takes it out of the epoll, too
            self._fd = None
            self._said = None
            self._items.append(StreamClosed(self.path))

    def _say(self, reason: str) -> None:
        if self._said != reason:
            self._said = reason
            self._items.append(StatusChanged(self.path, not reason, reason))
