"""ASCII characters in place of those that the encoding of an output lacks, as with LANG=C.

A replacement has the width of its original, so that columns stay in line.
"""

from __future__ import annotations

import codecs
import io
import unicodedata
from typing import Final

_ERRORS: Final = "qemu-migration-exporter-ascii"

_ASCII: Final = str.maketrans(
    "▁▂▃▄▅▆▇█─━│├└┐┘▸▶▲▼→←↑↓…·µ≥≤“”"
    "\N{EN DASH}\N{EM DASH}\N{MULTIPLICATION SIGN}\N{RIGHT SINGLE QUOTATION MARK}\N{NO-BREAK SPACE}",
    '_.-=+*##--|||++>>^v><^v~.u><""--x\' ',
)


def use_ascii(stream: io.TextIOWrapper) -> None:
    """Write similar ASCII characters, or question marks, to a stream for characters that its encoding lacks."""
    codecs.register_error(_ERRORS, _replacement)
    stream.reconfigure(errors=_ERRORS)


def _replacement(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    similar = error.object[error.start : error.end].translate(_ASCII)
    return "".join(char if char.isascii() else "?" * _cells(char) for char in similar), error.end


def _cells(char: str) -> int:
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
