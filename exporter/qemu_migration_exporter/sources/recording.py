"""Finished recording: a plain or gzip-compressed file, or standard input."""

from __future__ import annotations

import gzip
import os
import stat
import sys
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

from qemu_migration_exporter.sources.errors import DamagedError, SourceError

#: Large enough for a low cost per byte, small enough for a smooth progress bar.
_CHUNK_BYTES: Final = 1024 * 1024

_GZIP_MAGIC: Final = b"\x1f\x8b"


class Recording:
    """Open recording.

    Attributes:
        name: Its path as given, "-" for standard input.
        modified_ns: Time of the last write in nanoseconds since the epoch; 0 for standard input.
        size: Bytes to read, None if unknown.
        is_live: True if it is written while it is read: a pipe, a FIFO, a socket.
    """

    def __init__(self, name: str) -> None:
        """Open a recording.

        Raises:
            SourceError: The file does not exist, is a directory or cannot be read.
        """
        self.name = name
        self.modified_ns = 0
        self.size: int | None = None
        self.is_live = False
        self._raw: BufferedReader
        if name == "-":
            self._raw = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 - closed in close()
            self.is_live = not stat.S_ISREG(os.fstat(self._raw.fileno()).st_mode)
            return
        path = Path(name)
        if path.is_dir():
            raise SourceError(f"{name}: is a directory; name the recordings in it")
        try:
            self._raw = path.open("rb")
        except OSError as error:
            raise SourceError(f"{name}: {error.strerror or error}") from error
        status = os.fstat(self._raw.fileno())
        self.modified_ns = status.st_mtime_ns
        self.size = status.st_size or None
        self.is_live = not stat.S_ISREG(status.st_mode)

    @property
    def read(self) -> int:
        """Bytes of the file read so far; compressed bytes if it is compressed."""
        return self._raw.tell() if self.size is not None else 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the decompressed bytes.

        Raises:
            DamagedError: The compressed data is cut or corrupt; all chunks before are valid.
            SourceError: Reading failed.
        """
        try:
            yield from self._decompressed()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise DamagedError(f"{self.name}: compressed data is damaged, what comes after is lost: {error}") from error
        except OSError as error:
            raise SourceError(f"{self.name}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file; standard input itself stays open."""
        self._raw.close()

    def _decompressed(self) -> Iterator[bytes]:
        if not self._raw.peek(len(_GZIP_MAGIC)).startswith(_GZIP_MAGIC):
            while chunk := self._raw.read1(_CHUNK_BYTES):
                yield chunk
            return
        with gzip.GzipFile(fileobj=self._raw) as unzipped:
            while chunk := unzipped.read1(_CHUNK_BYTES):
                yield chunk
