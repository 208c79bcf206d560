"""Standard input, whatever it is: a pipe, a terminal, a socket or a file."""

from __future__ import annotations

import logging
import os
import select
import sys
from typing import Final

from qemu_migration_exporter.sources import CHUNK_BYTES, READ_BYTES, Data, Item, StatusChanged, StreamClosed

logger = logging.getLogger(__name__)

_NAME: Final = "-"


class StandardInput:
    """Read standard input to its end, as the stream "-".

    It is shared with whoever started this program, so it is not made non-blocking, which would be so for them too.
    One read after it was found readable does not block.

    Args:
        fd: Another descriptor in its place. It is not closed.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._epoll = select.epoll()
        self._opened = False
        self._ended = False
        self._always = False

    def fileno(self) -> int:
        """Return what is readable when standard input is."""
        return self._epoll.fileno()

    @property
    def pending(self) -> bool:
        """Whether it is a file, which cannot be waited for, and not at its end."""
        return self._always and not self._ended

    def read(self) -> list[Item]:
        """Take what is there."""
        items: list[Item] = []
        left = READ_BYTES
        while self._opened and not self._ended and left > 0 and (self._always or self._epoll.poll(0)):
            try:
                data = os.read(self._fd, min(left, CHUNK_BYTES))
            except BlockingIOError:  # somebody else has made it non-blocking, and emptied it
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

    def tick(self, now: float) -> list[Item]:  # noqa: ARG002 - nothing to wait for
        """Begin, the first time."""
        if self._opened:
            return []
        self._opened = True
        try:
            self._epoll.register(self._fd, select.EPOLLIN)
        except PermissionError:  # epoll_ctl(2): files and directories do not support it, and are always readable
            logger.debug("standard input is a file, it is read at once")
            self._always = True
        except OSError as error:  # it is closed
            self._ended = True
            return [StatusChanged(_NAME, up=False, reason=str(error.strerror))]
        return [StatusChanged(_NAME, up=True, reason="")]

    def close(self) -> None:
        """Read no more; standard input itself stays open."""
        self._ended = True
        self._epoll.close()

    def _end(self) -> StreamClosed:
        self._ended = True
        if not self._always:
            self._epoll.unregister(self._fd)  # at its end it stays readable
        return StreamClosed(_NAME)
