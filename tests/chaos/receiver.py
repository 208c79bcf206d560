"""Receiver of spans with moods: up, away, slow, or refusing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from tests.support.receiver import Receiver, receiving

MOODS: Final = ("up", "away", "slow", "429", "500", "503")

_SLOW_SECONDS: Final = 1.5


class MoodyReceiver:
    """Receiver on a port of its own, which stays while it is away."""

    def __init__(self) -> None:
        self.receiver = Receiver(self._answer)
        self.mood = "up"
        self._stack = ExitStack()
        self._listen(0)
        self.url = self.receiver.url
        self._port = int(self.url.rpartition(":")[2])

    def be(self, mood: str) -> None:
        if mood == self.mood:
            return
        if mood == "away":
            self._stack.close()
        elif self.mood == "away":
            self._listen(self._port)
        self.mood = mood

    def close(self) -> None:
        self._stack.close()

    def _listen(self, port: int) -> None:
        self._stack.enter_context(receiving(self.receiver, port))

    def _answer(self) -> int:
        if self.mood == "slow":
            time.sleep(_SLOW_SECONDS)
        return int(self.mood) if self.mood.isdecimal() else 200


@contextmanager
def moody() -> Iterator[MoodyReceiver]:
    """Run a receiver."""
    receiver = MoodyReceiver()
    try:
        yield receiver
    finally:
        receiver.close()
