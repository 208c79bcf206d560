"""A QEMU that prints as much as it can: a running migration among a hundred times as many lines that mean nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Of QEMU 8.1 and later with a pattern such as `migrat*`: a line a page.
_NOISE: Final = "migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"
_MARKS: Final = ("savevm_section_start ram, section_id 2", "savevm_section_end ram, section_id 2 -> 0")
_NOISE_A_MARK: Final = 99
_BLOCK_SECONDS: Final = 0.01


class Flood:
    """Lines that are written at a pace, or as fast as they are taken.

    Attributes:
        lines: Written so far.
        seconds: For how long.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.seconds = 0.0
        self._stop = threading.Event()

    def write(self, path: Path, lines_per_second: int) -> None:
        """Write until stopped; a late block is followed by the next at once."""
        marks = round(lines_per_second * _BLOCK_SECONDS / (_NOISE_A_MARK + 1) / len(_MARKS))
        began = time.monotonic()
        with path.open("ab", buffering=0) as out:
            while not self._stop.is_set():
                out.write(block(marks))
                self.lines += marks * len(_MARKS) * (_NOISE_A_MARK + 1)
                self.seconds = time.monotonic() - began
                self._stop.wait(max(0.0, self.lines / lines_per_second - self.seconds))

    def stop(self) -> None:
        """End it."""
        self._stop.set()


def block(marks: int) -> bytes:
    """Make lines of now."""
    now_us = time.time_ns() // 1_000
    head = f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:"
    text = "".join(f"{head}{mark}\n" + f"{head}{_NOISE}\n" * _NOISE_A_MARK for mark in _MARKS)
    return (text * marks).encode()


@contextmanager
def flooding(path: Path, lines_per_second: int) -> Iterator[Flood]:
    """Write while the test runs."""
    flood = Flood()
    thread = threading.Thread(target=flood.write, args=(path, lines_per_second))
    thread.start()
    try:
        yield flood
    finally:
        flood.stop()
        thread.join()
