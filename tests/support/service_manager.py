"""A service manager such as systemd, as far as a daemon speaks to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import patience


class ServiceManager:
    """Receiver of a daemon's notifications; `address` is the value of NOTIFY_SOCKET."""

    def __init__(self, listening: socket.socket, address: str) -> None:
        self._listening = listening
        self.address = address

    def wait_for(self, field: bytes, *, times: int = 1) -> None:
        """Wait for that many notifications from now on."""
        self._listening.settimeout(0)
        try:
            while self._listening.recv(1000):
                pass
        except BlockingIOError:
            self._listening.settimeout(patience(15))
        for _ in range(times):
            while field not in self._listening.recv(1000):
                pass


@contextmanager
def managing(directory: Path) -> Iterator[ServiceManager]:
    """Listen until the test is over."""
    address = str(directory / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(address)
        yield ServiceManager(listening, address)
