"""Text on a terminal: paragraphs with unbroken quantities, commands that stay valid across lines, and tables.

rich wraps and aligns. Trailing blanks are removed from every line, so that a report in a file has none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qemu_migration_exporter.present.wording.styled import Part, Role, literal

BOLD: Final = "bold"
DIM: Final = "dim"
ACCENT: Final = "cyan"

STYLES: Final = {
    Role.NAME: BOLD,
    Role.KEY: ACCENT,
    Role.GOOD: "bold green",
    Role.BAD: "bold red",
    Role.SOFT: DIM,
}

#: Longer lines are hard to read, even on a wide terminal.
MAX_WIDTH: Final = 100

INDENT: Final = "  "

#: A blank between a number and its unit or noun, at which no line may break.
_GLUE: Final = re.compile(r"(?<=\d) (?=[^\W\d]|%)|(?<=[Rr]ound) (?=\d)|(?<=[Rr]ounds) (?=\d)")

#: Placeholder for a blank that rich must keep; not printable, so untrusted text cannot contain it.
_GLUED: Final = "\ue000"

_CONSOLE: Final = Console(width=MAX_WIDTH, color_system=None, force_terminal=False)


def styled(*parts: Part) -> Text:
    """Return parts as rich text; roles become styles."""
    return Text.assemble(*(part if isinstance(part, str) else (part[0], STYLES[part[1]]) for part in parts))


def paragraph(parts: Sequence[Part], width: int) -> list[Text]:
    """Break parts into lines that fit the width."""
    return wrapped(styled(*parts), width)


def wrapped(text: Text, width: int) -> list[Text]:
    """Break a text into lines that fit the width."""
    glued = text.copy()
    glued.plain = _GLUE.sub(_GLUED, text.plain)
    lines = list(glued.wrap(_CONSOLE, max(1, width)))
    for line in lines:
        line.plain = line.plain.replace(_GLUED, " ")
        line.rstrip()
    return lines


def command(words: str, indent: str, width: int, *, style: str = "", continuation: str = "") -> list[Text]:
    """Break a command at its blanks into lines that end in `continuation`, which a shell reads as one command."""
    room = width - cell_len(indent) - len(INDENT) - len(continuation)
    lines = wrapped(Text(literal(words, 4_096), style), room)
    return [
        Text.assemble(indent, INDENT if index else "", line, continuation if line is not lines[-1] else "")
        for index, line in enumerate(lines)
    ]


def grid(*columns: str, header: bool = False) -> Table:
    """Return an empty table without rules; a column is `<` or `>` for its alignment, and its head.

    A head of two lines has a line break. The last column has no padding.
    """
    table = Table(box=None, show_header=header, header_style=DIM, pad_edge=False, padding=0)
    for column in columns:
        table.add_column(column[1:], justify="left" if column[0] == "<" else "right", no_wrap=True)
    return table


def table_lines(table: Table, width: int) -> list[Text]:
    """Return the lines of a table, with less space between its columns if the table is too wide."""
    room = width - len(INDENT)
    table.padding = (0, 2, 0, 0)
    if _CONSOLE.measure(table, options=_CONSOLE.options.update(width=10_000)).maximum - 2 > room:
        table.padding = (0, 1, 0, 0)
    lines = []
    for segments in _CONSOLE.render_lines(table, _CONSOLE.options.update(width=10_000), pad=False):
        line = Text.assemble(INDENT, *((segment.text, segment.style or "") for segment in segments))
        line.rstrip()
        line.plain = line.plain.replace(_GLUED, " ")
        lines.append(line)
    return lines


def fixed(words: str) -> str:
    """Return text for a cell whose trailing blanks rich keeps, so that digits align."""
    return words.replace(" ", _GLUED)
