"""Standard input: a pipe, a terminal, a socket or a file."""

from __future__ import annotations

import logging
import os
import select
import sys
from collections.abc import Collection
from typing import Final

from qemu_migration_exporter.sources import CHUNK_BYTES, READ_BYTES, Data, Item, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.epoll_source import EpollSource

logger = logging.getLogger(__name__)

_NAME: Final = "-"


class StandardInput(EpollSource):
    """Reader of standard input, to its end, as the stream "-".

    The descriptor is shared with the process that started this program. It stays blocking, because the flag would
    change for that process too; a single read of a readable descriptor does not block.

    Args:
        fd: Another descriptor to read instead. It is not closed.
    """

    def __init__(self, fd: int | None = None) -> None:
        super().__init__(_NAME)
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._opened = False
        self._ended = False
        self._is_file = False

    @property
    def pending(self) -> bool:
        """True before the end of a file, because epoll does not support files."""
        return self._is_file and not self._ended

    @property
    def behind(self) -> Collection[str]:
        return (_NAME,) if self.pending else ()

    def read(self) -> list[Item]:
        items: list[Item] = []
        left = READ_BYTES
        while self._opened and not self._ended and left > 0 and (self._is_file or self._epoll.poll(0)):
            try:
                data = os.read(self._fd, min(left, CHUNK_BYTES))
            except BlockingIOError:  # another process made it non-blocking, and emptied it
                break
            except OSError as error:
                items.append(StatusChanged(_NAME, up=False, reason=str(error.strerror)))
                data = b""
            if data:
                left -= len(data)
                items.append(Data(_NAME, data, None))
            else:
                items.append(self._end())
        return items

    def tick(self, now: float) -> list[Item]:  # noqa: ARG002 - the protocol's signature
        """Start reading at the first call."""
        if self._opened:
            return []
        self._opened = True
        try:
            self._epoll.register(self._fd, select.EPOLLIN)
        except PermissionError:  # epoll_ctl(2): files and directories do not support it, and are always readable
            logger.debug("standard input is a file, reading it at once")
            self._is_file = True
        except OSError as error:  # it is closed
            self._ended = True
            return [StatusChanged(_NAME, up=False, reason=str(error.strerror))]
        return [StatusChanged(_NAME, up=True, reason="")]

    def close(self) -> None:
        """Stop reading; standard input itself stays open."""
        self._ended = True
        self._epoll.close()

    def _end(self) -> StreamClosed:
        self._ended = True
        if not self._is_file:
            self._epoll.unregister(self._fd)  # at its end it stays readable
        return StreamClosed(_NAME)
