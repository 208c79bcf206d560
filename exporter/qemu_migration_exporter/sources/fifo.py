"""FIFO that probes write to; the stream continues when writers come and go."""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources import CHUNK_BYTES, READ_BYTES, Data, Item, StreamClosed
from qemu_migration_exporter.sources.epoll_source import EpollSource

# For reading and writing. fifo(7): "Under Linux, opening a FIFO for read and write will succeed both in blocking and
# nonblocking mode." The source itself is then a writer, so the departure of the last other writer causes no end of
# file, which would make the descriptor readable for ever.
_FLAGS: Final = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC

#: Capacity of a pipe, unless root allows more: fs.pipe-max-size.
_PIPE_BYTES: Final = 1024 * 1024


class Fifo(EpollSource):
    """Reader of a FIFO, which may not exist yet, and needs permission to read and write.

    Bytes stay readable after their writer has left. A FIFO of another inode at the path is another stream.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._fd: int | None = None

    def read(self) -> list[Item]:
        left = READ_BYTES
        while left > 0 and (data := self._read_chunk(min(left, CHUNK_BYTES))):
            left -= len(data)
            self._items.append(Data(self.name, data, None))
        return self._drain_items()

    def tick(self, now: float) -> list[Item]:  # noqa: ARG002 - the protocol's signature
        """Open the FIFO, or a new FIFO at its path."""
        try:
            status = Path(self.name).stat()
            if not stat.S_ISFIFO(status.st_mode):
                self._set_status("is no FIFO")
            elif self._fd is None or not os.path.samestat(status, os.fstat(self._fd)):
                self._replace()
            else:
                self._set_status("")
        except PermissionError as error:
            self._set_status(f"{error.strerror}; it must be readable and writable")
        except OSError as error:
            # A process that has the old FIFO open may still write to it, so it is read until a new FIFO exists.
            self._set_status(str(error.strerror))
        return self._drain_items()

    def close(self) -> None:
        """Close the FIFO, so that a writer notices."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._epoll.close()

    def _replace(self) -> None:
        opened = os.open(self.name, _FLAGS)
        if self._fd is not None:
            for _ in range(_PIPE_BYTES // CHUNK_BYTES):
                if data := self._read_chunk(CHUNK_BYTES):
                    self._items.append(Data(self.name, data, None))
            self._end()
        self._fd = opened
        self._epoll.register(opened, select.EPOLLIN)
        self._set_status("")

    def _read_chunk(self, limit_bytes: int) -> bytes:
        if self._fd is None:
            return b""
        try:
            return os.read(self._fd, limit_bytes)
        except BlockingIOError:  # the FIFO is empty
            return b""
        except OSError as error:
            self._end()
            self._set_status(str(error.strerror))
            return b""

    def _end(self) -> None:
        if self._fd is not None:
            os.close(self._fd)  # which also removes it from the epoll set
            self._fd = None
            self._status = None
            self._items.append(StreamClosed(self.name))
