"""A listening Unix stream socket. Each that connects is a stream of its own."""

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

logger = logging.getLogger(__name__)

#: Writers at once: a host has one probe, or one for each of some virtual machines.
MAX_CONNECTIONS: Final = 64

#: Connections served in one call, and what each may give: all that `read` gives out at most.
_TURNS: Final = 16
_TURN_BYTES: Final = READ_BYTES // _TURNS

#: For owner and group: whoever may write here decides what the metrics say.
_MODE: Final = 0o660


class UnixSocket:
    """Listen at a path; the connections are the streams `PATH#1`, `PATH#2` and so on, each of which ends with its own.

    A writer beyond the `MAX_CONNECTIONS`th is sent away, so that it notices; how many were, `tick` says as `Lost`.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._path = Path(path)
        self._epoll = select.epoll()
        self._listening: socket.socket | None = None
        self._full = False
        self._bound: os.stat_result | None = None
        self._connections: dict[int, tuple[str, socket.socket]] = {}
        self._accepted = 0
        self._refused = 0
        self._said: str | None = None
        self._items: list[Item] = []

    def fileno(self) -> int:
        """Return what is readable when a connection or the listening socket is."""
        return self._epoll.fileno()

    @property
    def pending(self) -> bool:
        """False: what is left keeps the descriptor readable."""
        return False

    def read(self) -> list[Item]:
        """Take from some connections, the next call from others; take new ones."""
        for fd, _ in self._epoll.poll(0, _TURNS):  # the kernel turns the ones it has told of to the end of its list
            if fd in self._connections:
                self._receive(fd)
            elif self._listening is not None:
                self._accept(self._listening)
        return self._given()

    def tick(self, now: float) -> list[Item]:  # noqa: ARG002 - nothing to wait for
        """Listen, also again where the socket's file was deleted; say how many were sent away."""
        if self._listening is None or not self._is_ours():
            self._listen()
        elif self._full:
            self._full = False
            self._epoll.register(self._listening, select.EPOLLIN)
            self._say("")
        if self._refused:
            self._items.append(
                DataLost(self.path, f"{self._refused} writers sent away: {MAX_CONNECTIONS} are connected")
            )
            self._refused = 0
        return self._given()

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

    def _given(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _is_ours(self) -> bool:
        try:
            return self._bound is not None and os.path.samestat(self._path.stat(), self._bound)
        except OSError as error:
            logger.debug("%s: %s", self.path, error.strerror)
            return False

    def _unlink(self) -> None:
        try:
            self._path.unlink()
        except OSError as error:
            logger.warning("%s: the socket was not removed: %s", self.path, error.strerror)

    def _listen(self) -> None:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._make_room()
            listening.bind(self.path)
            self._path.chmod(_MODE)  # nobody can connect before it listens
            self._bound = self._path.stat()
            listening.listen(MAX_CONNECTIONS)
        except OSError as error:  # among others, a path longer than the 107 bytes sun_path has room for
            listening.close()
            self._say(str(error.strerror or error))
            return
        if self._listening is not None:
            self._listening.close()
        self._listening = listening
        self._full = False
        self._epoll.register(listening, select.EPOLLIN)
        self._say("")

    def _make_room(self) -> None:
        """Remove a socket that nobody listens at any more, and nothing else.

        Raises:
            OSError: There is something else.
        """
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:  # there is room
            return
        if not stat.S_ISSOCK(mode):
            raise OSError(errno.EEXIST, "exists and is no socket")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
            # EAGAIN, a full queue, is somebody who listens, too.
            if probe.connect_ex(self.path) != errno.ECONNREFUSED:
                raise OSError(errno.EADDRINUSE, "another process listens there")
        self._path.unlink()

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_TURNS):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:  # nobody else waits
                return
            except OSError as error:
                # EMFILE: the connection waits in the queue, and would keep the descriptor readable.
                self._full = True
                self._epoll.unregister(listening)
                self._say(f"no writer is accepted: {error.strerror}")
                return
            if len(self._connections) >= MAX_CONNECTIONS:
                connection.close()
                self._refused += 1
                continue
            connection.setblocking(False)  # noqa: FBT003 - the socket module's own
            self._accepted += 1
            name = f"{self.path}#{self._accepted}"
            self._connections[connection.fileno()] = (name, connection)
            self._epoll.register(connection, select.EPOLLIN)
            self._items.append(StatusChanged(name, up=True, reason=""))

    def _receive(self, fd: int) -> None:
        name, connection = self._connections[fd]
        try:
            data = connection.recv(_TURN_BYTES)
        except BlockingIOError:  # nothing is there
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

    def _say(self, reason: str) -> None:
        if self._said != reason:
            self._said = reason
            self._items.append(StatusChanged(self.path, not reason, reason))
