"""Where bytes come from. A source knows nothing of lines or migrations.

A live source is read by one thread that selects on it: nothing in it blocks, and nothing in it asks what time it is.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

#: What one call of `read` gives out at most: a millisecond's work behind it, so that no stream starves another.
READ_BYTES: Final = 256 * 1024

#: What one file or connection gives at a time, where several share a source.
CHUNK_BYTES: Final = 64 * 1024


class Position(NamedTuple):
    """A place in a file, which is the same file under every name; `offset` bytes of it were given out."""

    device: int
    inode: int
    offset: int


class Data(NamedTuple):
    """Bytes, as they came: lines may be torn, also between two files that follow one another.

    `position` is the place behind them, None where a restart cannot go on from one.
    """

    stream: str
    data: bytes
    position: Position | None


class StreamClosed(NamedTuple):
    """Nothing more comes of this stream; a new one of the same name may begin."""

    stream: str


class StatusChanged(NamedTuple):
    """Whether a stream can be read now, said when that changes; `reason` is empty if it can."""

    stream: str
    up: bool
    reason: str


class DataLost(NamedTuple):
    """Bytes that nobody will see, or writers that were sent away."""

    stream: str
    detail: str


Item = Data | StreamClosed | StatusChanged | DataLost


class Source(Protocol):
    """One place bytes come from, as one stream or several. It opens what it reads in its first `tick`."""

    def fileno(self) -> int:
        """Return what is to be selected for reading; the same for the source's life."""

    @property
    def pending(self) -> bool:
        """Whether `read` has more to give although `fileno` may not be readable."""

    def read(self) -> list[Item]:
        """Take what is there, at most `READ_BYTES` of data; never block, never raise."""

    def tick(self, now: float) -> list[Item]:
        """Do what time asks for, at `now` monotonic seconds: open, try again, notice what was missed.

        To be called at once, and then about every second. It may leave the source `pending`.
        """

    def close(self) -> None:
        """Give back all that is held."""
