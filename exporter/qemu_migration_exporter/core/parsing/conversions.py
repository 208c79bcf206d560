"""Conversions of QEMU's format strings: the text that a conversion matches, and its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final


def read_text(group: bytes) -> str:
    """Decode a text that may hold any bytes."""
    return group.decode("utf-8", "replace")


def _read_hexadecimal(group: bytes) -> int:
    return int(group, 16)


#: Conversion → the pattern of its text and the function that reads it. 64 bits are at most 20 digits: a longer number
#: is damaged, and Python's own limit on digits would raise. A text in the middle of a line is a name, limited to 256
#: bytes in QEMU (idstr, ramblocks) and 255 in DNS; without a limit, the search of a hostile line would take minutes.
CONVERSIONS: Final[Mapping[str, tuple[bytes, Callable[[bytes], Any]]]] = {
    "u": (rb"(\d{1,20})", int),
    "d": (rb"(-?\d{1,20})", int),
    "x": (rb"([0-9a-fA-F]{1,16})", _read_hexadecimal),
    "g": (rb"(-?\d{1,20}(?:\.\d{0,20})?(?:e[-+]?\d{1,3})?|-?inf|-?nan)", float),
    "w": (rb"([\w-]+)", read_text),
    "s": (rb"(.{0,256}?)", read_text),
}
#: The last text of a line may have any length: the end of the line bounds it.
LAST_TEXT: Final = rb"((?:.*[^ ])?)"
