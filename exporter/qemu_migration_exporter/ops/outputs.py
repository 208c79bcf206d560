"""Output files of a command, and the atomic replacement of files.

A regular file is written under another name in the same directory and then renamed, so that a reader never sees a
partial file. An output that exists and is not a regular file (a device, a FIFO) is written to and never replaced. The
name `-` is standard output.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, TextIO

STANDARD_OUTPUT: Final = "-"


def open_output(path: str) -> TextIO:
    """Open an output to write it in parts: standard output, a device, a FIFO, or a regular file.

    Raises:
        OSError: The output cannot be opened.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.flush()
        return open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)
    return Path(path).open("w", encoding="utf-8")


def write_output(path: str, content: bytes) -> None:
    """Write a complete output: standard output, a device, a FIFO, or a regular file, which is replaced.

    Raises:
        OSError: The output was not written; a regular file is unchanged.
    """
    if path != STANDARD_OUTPUT and _is_replaceable(path):
        replace_file(Path(path).resolve(), content, suffix=f".{os.getpid()}.tmp")
    else:
        with open_output(path) as out:
            out.buffer.write(content)


def replace_file(path: Path, content: bytes, *, suffix: str = ".tmp", sync: bool = False) -> None:
    """Replace the content of a regular file; after a crash the file has the old or the new content.

    The temporary file is in the target's directory. It is opened with O_EXCL, which refuses a symbolic link or a file
    that another user created under its name. A temporary file left by a crash is removed first. `suffix` is added to
    its name. `sync` waits for the disk, so that the guarantee includes a power failure.

    Raises:
        OSError: The file is unchanged, and the temporary file was removed.
    """
    unfinished = path.with_name(path.name + suffix)
    with suppress(FileNotFoundError):  # the usual case
        unfinished.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(unfinished, flags, 0o666), "wb") as out:
            out.write(content)
            if sync:
                out.flush()
                os.fsync(out.fileno())
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):  # the file may not exist; the caller gets the first error
            unfinished.unlink()
        raise


def _is_replaceable(path: str) -> bool:
    """Return whether a path is free or a regular file; symbolic links are followed."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except FileNotFoundError:  # free
        return True
