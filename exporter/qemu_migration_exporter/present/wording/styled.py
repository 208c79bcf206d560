"""Styled text independent of frontends: parts of a sentence with roles, which a frontend maps to its own styles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

from qemu_migration_exporter.ops.sanitize import escape_control


class Role(StrEnum):
    """The role of a part of a text."""

    NAME = "name"
    #: The number or word that explains the rest.
    KEY = "key"
    GOOD = "good"
    BAD = "bad"
    SOFT = "soft"


Part = str | tuple[str, Role]

#: Longer names and errors would hide the rest of a sentence.
MAX_NAME_CELLS: Final = 48
MAX_ERROR_CELLS: Final = 320


def plain(parts: Iterable[Part]) -> str:
    """Return the text without its roles."""
    return "".join(part if isinstance(part, str) else part[0] for part in parts)


def joined(details: Sequence[Part], before: str = "", between: str = ", ") -> list[Part]:
    """Join details into a list, with a text before the first detail and a separator between details."""
    parts: list[Part] = []
    for index, detail in enumerate(details):
        parts += [between if index else before, detail]
    return parts


def literal(words: str, max_cells: int) -> str:
    """Return untrusted text safe for one line: escape control characters, and omit the middle of long text."""
    if len(words) > 4 * max_cells:  # only both ends can be shown
        words = f"{words[: 2 * max_cells]}{words[-2 * max_cells :]}"
    safe = escape_control(words)
    if len(safe) <= max_cells and safe.isascii():
        return safe
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - a daemon rarely needs its tables

    if cell_len(safe) <= max_cells:
        return safe
    head = max_cells // 2
    tail = max_cells - 1 - head
    return f"{set_cell_size(safe, head).rstrip()}…{_last_cells(safe, tail)}"


def _last_cells(words: str, cells: int) -> str:
    from rich.cells import cell_len  # noqa: PLC0415 - see above

    start = len(words)
    while cell_len(words[start - 1 :]) <= cells:
        start -= 1
    return words[start:].lstrip()
