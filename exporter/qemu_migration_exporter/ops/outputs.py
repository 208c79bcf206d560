"""Output files of a command, and files that replace others whole.

A regular file is written under another name beside its place and moved there, so that a reader never sees half of it.
An output that exists and is no regular file (a device, a FIFO) is written to and never replaced, and `-` is standard
output.
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
    """Open an output that is written bit by bit: standard output, a device, a FIFO, or a regular file.

    Raises:
        OSError: The output cannot be opened.
    """
    if path == STANDARD_OUTPUT:
        sys.stdout.flush()
        return open(sys.stdout.fileno(), "w", encoding="utf-8", closefd=False)
    return Path(path).open("w", encoding="utf-8")


def write_output(path: str, content: bytes) -> None:
    """Write an output whole: standard output, a device, a FIFO, or a regular file, which is replaced.

    Raises:
        OSError: The output was not written; a regular file is still the old one.
    """
    if path != STANDARD_OUTPUT and _is_replaceable(path):
        replace_file(Path(path).resolve(), content, suffix=f".{os.getpid()}.tmp")
    else:
        with open_output(path) as out:
            out.buffer.write(content)


def replace_file(path: Path, content: bytes, *, suffix: str = ".tmp", sync: bool = False) -> None:
    """Replace a regular file by a new one with this content; a crash leaves one or the other.

    The temporary file is in the target's directory. O_EXCL makes it ours: neither a symbolic link nor a file that
    someone planted under its name is opened. One left behind by a crash is removed first. `suffix` is added to the
    name of the temporary file; `sync` waits for the disk, so that a power failure leaves one or the other too.

    Raises:
        OSError: The old file is still there, and nothing else is left behind.
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
        with suppress(OSError):  # where it cannot be written it may not be there; the caller gets the reason
            unfinished.unlink()
        raise


def _is_replaceable(path: str) -> bool:
    """Return whether a path is free or a regular file; symbolic links are followed."""
    try:
        return stat.S_ISREG(Path(path).stat().st_mode)
    except FileNotFoundError:  # free
        return True
