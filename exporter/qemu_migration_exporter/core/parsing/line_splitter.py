"""Bytes in, whole lines out."""

from __future__ import annotations

from typing import Final

#: QEMU's longest lines are QMP commands of a few KiB, so a longer line is not a probe line. Only its beginning is kept
#: and parsed, which bounds the memory of a stream.
MAX_LINE_BYTES: Final = 64 * 1024


class LineSplitter:
    """Splitter of a stream of bytes, in chunks of any size, into lines.

    A line ends at a newline; a carriage return before it is dropped. A line longer than `max_line_bytes` is cut to
    that length.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._tail = b""

    def take(self, chunk: bytes) -> tuple[list[bytes], bytes]:
        """Add bytes; return the line they complete, if any, and all whole lines behind it in one block.

        A block begins with the newline in front of its lines, and each of them ends with its own. It is empty if there
        are none.
        """
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        # One byte above the limit keeps the tail recognisable as over-long when its newline comes.
        tail_bytes = self._max_line_bytes + 1
        if first < 0:
            self._tail = (self._tail + chunk)[:tail_bytes]
            return [], b""
        line = self._cut(self._tail + chunk[:first])
        self._tail = chunk[last + 1 : last + 1 + tail_bytes]
        return [line], chunk[first : last + 1] if first < last else b""

    def split(self, block: bytes) -> list[bytes]:
        """Return all lines of a block."""
        lines = block.split(b"\n")[1:-1]
        if b"\r" in block or (len(block) > self._max_line_bytes and max(map(len, lines)) > self._max_line_bytes):
            return self.cut(lines)
        return lines

    def cut(self, lines: list[bytes]) -> list[bytes]:
        """Return lines without a carriage return at their end, and not longer than the limit."""
        return [self._cut(line) for line in lines]

    @property
    def tail(self) -> bytes:
        """The beginning of a line whose end has not come."""
        return self._tail

    def restore(self, tail: bytes) -> None:
        """Continue behind the tail of an earlier splitter."""
        self._tail = tail

    def close(self) -> list[bytes]:
        """Return the last line, if it came without its newline."""
        tail, self._tail = self._tail, b""
        return [self._cut(tail)] if tail else []

    def _cut(self, line: bytes) -> bytes:
        return line[: self._max_line_bytes].removesuffix(b"\r")
