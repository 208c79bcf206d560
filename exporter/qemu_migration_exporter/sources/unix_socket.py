"""Listening Unix stream socket, on which every connection is a stream.

The socket is created with mode 0660 and replaces one whose process has ended, never another file. An epoll instance
watches the listening socket and all connections; each connection gets one read per turn. At the limit, further
writers are turned away and counted.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources import READ_BYTES, Data, DataLost, Item, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.epoll_source import EpollSource

logger = logging.getLogger(__name__)

#: Simultaneous writers: a host has one probe, or one per virtual machine.
MAX_CONNECTIONS: Final = 64

#: Connections served in one call, and bytes per connection, which add up to `READ_BYTES`.
_TURNS: Final = 16
_TURN_BYTES: Final = READ_BYTES // _TURNS

#: For owner and group: a writer decides what the metrics show.
_MODE: Final = 0o660


class UnixSocket(EpollSource):
    """Listener at a path; its connections are the streams `PATH#1`, `PATH#2` and so on.

    Writers beyond `MAX_CONNECTIONS` are disconnected, which they notice; `tick` reports their number as `DataLost`.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = Path(path)
        self._listening: socket.socket | None = None
        self._full = False
        self._bound: os.stat_result | None = None
        self._connections: dict[int, tuple[str, socket.socket]] = {}
        self._accepted = 0
        self._refused = 0

    def read(self) -> list[Item]:
        """Accept new connections, and read from some; the next call reads from others."""
        for fd, _ in self._epoll.poll(0, _TURNS):  # the kernel moves reported descriptors to the end of its list
            if fd in self._connections:
                self._receive(fd)
            elif self._listening is not None:
                self._accept(self._listening)
        return self._drain_items()

    def tick(self, now: float) -> list[Item]:  # noqa: ARG002 - the protocol's signature
        """Listen, and listen again if the socket's file was deleted; report refused writers."""
        if self._listening is None or not self._is_ours():
            self._listen()
        elif self._full:
            self._full = False
            self._epoll.register(self._listening, select.EPOLLIN)
            self._set_status("")
        if self._refused:
            self._items.append(
                DataLost(self.name, f"{self._refused} writers turned away: {MAX_CONNECTIONS} are connected")
            )
            self._refused = 0
        return self._drain_items()

    def close(self) -> None:
        """Close all connections and remove the socket's file, if it is still this one."""
        for _, connection in self._connections.values():
            connection.close()
        self._connections.clear()
        if self._listening is not None:
            if self._is_ours():
                self._unlink()
            self._listening.close()
            self._listening = None
        self._epoll.close()

    def _is_ours(self) -> bool:
        try:
            return self._bound is not None and os.path.samestat(self._path.stat(), self._bound)
        except OSError as error:
            logger.debug("%s: %s", self.name, error.strerror)
            return False

    def _unlink(self) -> None:
        try:
            self._path.unlink()
        except OSError as error:
            logger.warning("%s: the socket was not removed: %s", self.name, error.strerror)

    def _listen(self) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._make_room()
            listening.bind(self.name)
            self._path.chmod(_MODE)  # no client can connect before it listens
            self._bound = self._path.stat()
            listening.listen(MAX_CONNECTIONS)
        except OSError as error:  # among others, a path longer than the 107 bytes sun_path has room for
            listening.close()
            self._set_status(str(error.strerror or error))
            return
        if self._listening is not None:
            self._listening.close()
        self._listening = listening
        self._full = False
        self._epoll.register(listening, select.EPOLLIN)
        self._set_status("")

    def _make_room(self) -> None:
        """Remove the socket of a process that has ended.

        Raises:
            OSError: A process listens there, or the file is not a socket.
        """
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:  # there is room
            return
        if not stat.S_ISSOCK(mode):
            raise OSError(errno.EEXIST, "exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            # EAGAIN is a full queue: a process listens there too.
            if probe.connect_ex(self.name) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, "another process listens there")
        self._path.unlink()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_TURNS):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:  # the queue is empty
                return
            except OSError as error:
                # EMFILE: the connection waits in the queue and would keep the descriptor readable.
                self._full = True
                self._epoll.unregister(listening)
                self._set_status(f"no writer is accepted: {error.strerror}")
                return
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                self._refused += 1
                continue
            connection.setblocking(False)  # noqa: FBT003 - the socket module's own
            self._accepted += 1
            name = f"{self.name}#{self._accepted}"
            self._connections[connection.fileno()] = (name, connection)
            self._epoll.register(connection, select.EPOLLIN)
            self._items.append(StatusChanged(name, up=True, reason=""))

    def _receive(self, fd: int) -> None:
        name, connection = self._connections[fd]
        try:
            data = connection.recv(_TURN_BYTES)
        except BlockingIOError:  # the buffer is empty
            return
        except OSError as error:
            self._items.append(DataLost(name, str(error.strerror)))
            data = b""
        if data:
            self._items.append(Data(name, data, None))
            return
        del self._connections[fd]
        connection.close()
        self._items.append(StreamClosed(name))
