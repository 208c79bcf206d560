"""A network between two QEMUs whose bandwidth is known at every moment."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_MIB: Final = 1 << 20


class Relay:
    """A relay between two Unix sockets that carries no more than a bandwidth, by the time since its first byte."""

    _STEP_S: Final = 0.005

    def __init__(self, listen: Path, connect: Path, bandwidth: Callable[[float], float]) -> None:
        self._connect, self._bandwidth = connect, bandwidth
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(listen))
        self._server.listen()
        self._begun: float | None = None
        self._room, self._lock = 0.0, threading.Lock()
        self._is_over = False
        self._sockets = [self._server]
        self._threads = [threading.Thread(target=self._accept), threading.Thread(target=self._pour)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._is_over = True
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for each in self._sockets:
            each.close()

    def _pour(self) -> None:
        last = time.monotonic()
        while not self._is_over:
            time.sleep(self._STEP_S)
            now = time.monotonic()
            if self._begun is not None:
                with self._lock:
                    rate = self._bandwidth(now - self._begun) * _MIB
                    self._room = min(self._room + rate * (now - last), rate * 0.02)
            last = now

    def _accept(self) -> None:
        while not self._is_over:
            try:
                source, _ = self._server.accept()
            except OSError:
                return
            self._begun = self._begun or time.monotonic()
            target = socket.socket(socket.AF_UNIX)
            self._sockets += [source, target]
            target.connect(str(self._connect))
            for pair, is_paced in [((source, target), True), ((target, source), False)]:
                thread = threading.Thread(target=self._carry, args=(*pair, is_paced))
                thread.start()
                self._threads.append(thread)

    def _carry(self, source: socket.socket, target: socket.socket, is_paced: bool) -> None:
        with suppress(OSError):
            while not self._is_over:
                size = 65_536
                if is_paced:
                    with self._lock:
                        size = min(size, int(self._room))
                        self._room -= size
                    if size < 1:
                        time.sleep(self._STEP_S / 2)
                        continue
                data = source.recv(size)
                if is_paced:
                    with self._lock:
                        self._room += size - len(data)
                if not data:
                    break
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)
