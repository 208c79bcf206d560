"""Text on a terminal: tenants' words made harmless, paragraphs that do not tear numbers from units, aligned columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.text import Text

from qemu_migration_exporter.ops.sanitize import printable

BOLD: Final = "bold"
DIM: Final = "dim"
ACCENT: Final = "cyan"
FAILED: Final = "bold red"

#: Longer lines are hard to read, however wide the terminal is.
MAX_WIDTH: Final = 100

INDENT: Final = "  "

#: A space that is no place for a line break: between a number and its unit or noun.
_GLUE: Final = re.compile(r"(?<=\d) (?=[^\W\d]|%)|(?<=[Rr]ound) (?=\d)|(?<=[Rr]ounds) (?=\d)")

Part = str | tuple[str, str]


def literal(words: str, max_cells: int) -> str:
    """Make a tenant's words safe to print: what is not printable is escaped, the middle of what is long left out."""
    safe = printable(words)
    if cell_len(safe) <= max_cells:
        return safe
    head = max_cells // 2
    tail = max_cells - 1 - head
    return f"{set_cell_size(safe, head).rstrip()}…{_last_cells(safe, tail)}"


def paragraph(parts: Sequence[Part], width: int) -> list[Text]:
    """Break styled words into lines that fit the width."""
    text = Text.assemble(*parts)
    lines: list[Text] = []
    line = Text()
    for word in _words(text):
        joined = line + Text(" ") + word if line.plain else word
        if joined.cell_len <= width:
            line = joined
            continue
        if line.plain:
            lines.append(line)
        *full, line = _chopped(word, width)
        lines += full
    return [*lines, line]


def command(words: str, indent: str, width: int, *, style: str = "", continuation: str = "") -> list[Text]:
    """Break a command at its blanks into lines that a shell still takes as one, if they end in its `continuation`."""
    room = width - cell_len(indent) - len(INDENT) - len(continuation)
    lines = paragraph([(literal(words, 4_096), style)], room)
    return [
        Text.assemble(indent, INDENT if index else "", line, continuation if line is not lines[-1] else "")
        for index, line in enumerate(lines)
    ]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; its head may have several lines."""

    head: tuple[str, ...]
    align: Literal["left", "right"] = "right"


def table(columns: Sequence[Column], rows: Sequence[Sequence[Part]], width: int) -> list[Text]:
    """Align cells under their heads, close together where they would not fit otherwise."""
    widths = [
        max(cell_len(words) for words in [*column.head, *(_plain(row[index]) for row in rows)])
        for index, column in enumerate(columns)
    ]
    gap = "  " if sum(widths) + 2 * (len(columns) - 1) + len(INDENT) <= width else " "
    height = max(len(column.head) for column in columns)
    heads = [[(_nth(column.head, line), DIM) for column in columns] for line in range(height)]
    return [_row(columns, widths, cells, gap) for cells in [*heads, *rows]]


def _row(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[Part], gap: str) -> Text:
    line = Text(INDENT)
    for index, (column, cells_wide, part) in enumerate(zip(columns, widths, cells, strict=True)):
        space = " " * (cells_wide - cell_len(_plain(part)))
        words = Text.assemble(part)
        line += Text(gap if index else "") + (words + space if column.align == "left" else Text(space) + words)
    line.rstrip()
    return line


def _plain(part: Part) -> str:
    return part if isinstance(part, str) else part[0]


def _nth(head: tuple[str, ...], line: int) -> str:
    return head[line] if line < len(head) else ""


def _words(text: Text) -> list[Text]:
    plain = text.plain
    glued = {match.start() for match in _GLUE.finditer(plain)}
    breaks = [index for index, char in enumerate(plain) if char == " " and index not in glued]
    starts = [0, *(index + 1 for index in breaks)]
    return [text[start:end] for start, end in zip(starts, [*breaks, len(plain)], strict=True)]


def _chopped(word: Text, width: int) -> list[Text]:
    """Cut a word that is longer than a line."""
    offsets = []
    offset = 0
    for piece in chop_cells(word.plain, width)[:-1]:
        offset += len(piece)
        offsets.append(offset)
    return list(word.divide(offsets))


def _last_cells(words: str, cells: int) -> str:
    start = len(words)
    while cell_len(words[start - 1 :]) <= cells:
        start -= 1
    return words[start:].lstrip()
