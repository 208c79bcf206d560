"""Live byte sources, independent of lines and migrations.

    file, FIFO, socket, standard input, command  ─read/tick→  items  →  pipeline

A source has one descriptor that can be selected. The daemon's only reading thread calls `read` when it is readable or
`pending`, and `tick` about every second. Neither call blocks, raises, or reads a clock. Both return items:

    HistoryBegins   the following data was in the file before the source was opened
    Data            bytes of one stream
    CaughtUp        everything from before the source was opened has been returned
    StatusChanged   the stream can be read, or cannot and why
    DataLost        missed bytes, or refused writers
    StreamClosed    the stream is over; its name may be used again
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

#: Upper bound on the data of one `read`: about a millisecond of work, so that no source starves another.
READ_BYTES: Final = 256 * 1024

#: Upper bound on the data of one file or connection in a `read`, if others of the same source have data too.
CHUNK_BYTES: Final = 64 * 1024


#: Lag of a reader behind a writer, and of the clock of file times: a file last written this long before a moment was
#: read at that moment.
READ_LAG_NS: Final = 5_000_000_000


class Position(NamedTuple):
    """Place in a file, independent of the file's name.

    Attributes:
        device: Device of the file system.
        inode: Number of the file on it.
        offset: Number of bytes read.
        check: CRC-32 of the bytes just before `offset`, which differ if the file was rewritten. 0 if unknown.
    """

    device: int
    inode: int
    offset: int
    check: int = 0


class Data(NamedTuple):
    """Bytes of a stream in chunks that may split lines, also between two successive files.

    `position` is the place after them. It is None if a restart cannot resume the stream.
    """

    stream: str
    data: bytes
    position: Position | None


class HistoryBegins(NamedTuple):
    """Start of the data that was in the file before the source was opened; `CaughtUp` ends it.

    `modified_ns` is the time of the file's last write, in nanoseconds since the epoch.
    """

    stream: str
    modified_ns: int


class CaughtUp(NamedTuple):
    """End of the data that was in the file when the source was opened."""

    stream: str


class StreamClosed(NamedTuple):
    """End of a stream; another stream of the same name may begin."""

    stream: str


class StatusChanged(NamedTuple):
    """Change of a stream's readability; `reason` is empty if the stream is up."""

    stream: str
    up: bool
    reason: str


class DataLost(NamedTuple):
    """Missed bytes, or refused writers."""

    stream: str
    detail: str


Item = Data | HistoryBegins | CaughtUp | StreamClosed | StatusChanged | DataLost


class Source(Protocol):
    """Origin of one stream or several. The first `tick` opens it."""

    def fileno(self) -> int:
        """Return the descriptor to select for reading; it never changes."""

    @property
    def pending(self) -> bool:
        """True if `read` has more items although `fileno` may not be readable."""

    @property
    def behind(self) -> Collection[str]:
        """Streams known to have unread bytes."""

    def read(self) -> list[Item]:
        """Return available items, with at most about `READ_BYTES` of data."""

    def tick(self, now: float) -> list[Item]:
        """Open, retry and look for missed changes at `now` monotonic seconds; the source may be `pending` after it."""

    def close(self) -> None:
        """Release all descriptors."""
