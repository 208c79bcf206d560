"""Conversions of QEMU's format strings: the text that a conversion matches, and its value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

_DOUBLE_BITS_FROM: Final = 2**52


def read_text(group: bytes) -> str:
    """Decode a text that may hold any bytes."""
    return group.decode("utf-8", "replace")


def read_bandwidth(value: bytes) -> float:
    """Parse a bandwidth in bytes per millisecond, also one printed as the raw bits of a double.

    SystemTap has no floating point and prints the bits of QEMU's double (up to 2.12). Every normal double is at least
    2**52 when read as an integer, and no link carries 4 TiB per millisecond.

    Raises:
        ValueError: `value` is not a number.
    """
    bandwidth = float(value)
    if bandwidth >= _DOUBLE_BITS_FROM and value.isdigit():
        (bandwidth,) = struct.unpack("<d", struct.pack("<Q", int(value) & 0xFFFFFFFFFFFFFFFF))
    return bandwidth


def _read_hexadecimal(group: bytes) -> int:
    return int(group, 16)


#: Conversion → the pattern of its text and the function that reads it. 64 bits are at most 20 digits: a longer number
#: is damaged, and Python's own limit on digits would raise. A text in the middle of a line is a name, limited to 256
#: bytes in QEMU (idstr, ramblocks) and 255 in DNS; without a limit, the search of a hostile line would take minutes.
CONVERSIONS: Final[Mapping[str, tuple[bytes, Callable[[bytes], Any]]]] = {
    "u": (rb"(\d{1,20})", int),
    "d": (rb"(-?\d{1,20})", int),
    "x": (rb"([0-9a-fA-F]{1,16})", _read_hexadecimal),
    "g": (rb"(-?\d{1,20}(?:\.\d{0,20})?(?:e[-+]?\d{1,3})?|-?inf|-?nan)", read_bandwidth),
    "w": (rb"([\w-]+)", read_text),
    "s": (rb"(.{0,256}?)", read_text),
}
#: The last text of a line may have any length: the end of the line bounds it.
LAST_TEXT: Final = rb"((?:.*[^ ])?)"
