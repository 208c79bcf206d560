"""Keys from a terminal, without waiting for a line and without echo."""

from __future__ import annotations

import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final


class Key(Enum):
    """The keys with a function."""

    UP = auto()
    DOWN = auto()
    PAGE_UP = auto()
    PAGE_DOWN = auto()
    ENTER = auto()
    BACK = auto()
    QUIT = auto()


#: Escape sequences of xterm, in normal and in application mode, and letters for terminals without arrows.
_KEYS: Final = {
    b"\x1b[A": Key.UP, b"\x1bOA": Key.UP, b"k": Key.UP,
    b"\x1b[B": Key.DOWN, b"\x1bOB": Key.DOWN, b"j": Key.DOWN,
    b"\x1b[5~": Key.PAGE_UP, b"\x1b[6~": Key.PAGE_DOWN, b" ": Key.PAGE_DOWN,
    b"\r": Key.ENTER, b"\n": Key.ENTER,
    b"\x1b": Key.BACK, b"\x7f": Key.BACK,
    b"q": Key.QUIT, b"\x03": Key.QUIT,
}  # fmt: skip
_LONGEST: Final = max(len(sequence) for sequence in _KEYS)


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Switch a terminal to single keys without echo, and restore it at the end."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def read_keys(descriptor: int, seconds: float) -> list[Key]:
    """Wait for keys within a timeout; return the pressed keys. The end of input counts as `q`."""
    if not select.select([descriptor], [], [], seconds)[0]:
        return []
    data = os.read(descriptor, 1024)
    return parse_keys(data) if data else [Key.QUIT]


def parse_keys(data: bytes) -> list[Key]:
    """Return the known keys in the bytes of a terminal."""
    keys: list[Key] = []
    while data:
        for length in range(min(_LONGEST, len(data)), 0, -1):
            key = _KEYS.get(data[:length])
            if key is not None:
                keys.append(key)
                break
        else:
            length = 1
        data = data[length:]
    return keys
