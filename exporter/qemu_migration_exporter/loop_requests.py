"""Requests of other threads to the reading thread, which answers them between two turns of its loop.

    web thread: reload(), refresh() ──queue, byte to the waker──> loop: wants_…? ──> answer_…() ──> web thread continues

A reload is answered in any case. A refresh is a favour: the thread that requests it waits for a moment only, and a loop
that is busy for longer brings the numbers up to date at its next tick.
"""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final

#: Longest wait for the numbers of now.
_REFRESH_SECONDS: Final = 0.1


class Requests:
    """Requests for a reload of the configuration, and for the numbers of now.

    Attributes:
        waker: The socket that wakes the loop up; None while there is no loop.
    """

    def __init__(self) -> None:
        self.waker: socket.socket | None = None
        self._is_stopping = False
        self._is_signalled = False
        self._reloads: SimpleQueue[Future[str | None]] = SimpleQueue()
        self._refreshes: SimpleQueue[threading.Event] = SimpleQueue()

    def reload(self) -> Future[str | None]:
        """Request a reload of the configuration; any thread may.

        Returns:
            A future of the mistakes that prevented the reload, None if the new configuration is in force.
        """
        result: Future[str | None] = Future()
        self._reloads.put(result)
        self._wake()
        if self._is_stopping:
            self.stop()
        return result

    def reload_by_signal(self) -> None:
        """Request a reload in a signal handler, whose signal wakes the loop up."""
        self._is_signalled = True

    def refresh(self) -> None:
        """Request the numbers of now and wait for them, if the loop is not busy; any thread may."""
        if self.waker is None or self._is_stopping:
            return
        done = threading.Event()
        self._refreshes.put(done)
        self._wake()
        done.wait(_REFRESH_SECONDS)

    @property
    def wants_reload(self) -> bool:
        """True if a reload was requested since the last answer."""
        return self._is_signalled or not self._reloads.empty()

    @property
    def wants_refresh(self) -> bool:
        """True if a thread waits for the numbers of now."""
        return not self._refreshes.empty()

    def answer_reloads(self, mistakes: str | None) -> None:
        """Answer every reload that was requested until now."""
        self._is_signalled = False
        with suppress(Empty):  # all are answered
            while True:
                with suppress(InvalidStateError):  # the requester stopped waiting
                    self._reloads.get_nowait().set_result(mistakes)

    def answer_refreshes(self) -> None:
        """Answer every thread that waits for the numbers."""
        with suppress(Empty):  # all are answered
            while True:
                self._refreshes.get_nowait().set()

    def stop(self) -> None:
        """Refuse the requests of now and later: the exporter is stopping."""
        self._is_stopping = True
        self.answer_reloads("the exporter is stopping")
        self.answer_refreshes()

    def _wake(self) -> None:
        waker = self.waker
        if waker is not None:
            with suppress(OSError):  # a full socket wakes the loop up anyway; after a close, `stop` answers
                waker.send(b"\0")
