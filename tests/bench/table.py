"""The table that `make bench` prints, one row as soon as it is known, and the table of docs/performance.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

#: The places in a page between which the table is.
_BEGIN: Final = "<!-- table: make bench PAGE=docs/performance.md -->\n"
_END: Final = "<!-- end of the table -->"


class Row(NamedTuple):
    """One figure, its limit if there is one, and the figure before the work on it."""

    what: str
    figure: str
    target: str = ""
    before: str = ""


def show(rows: Iterable[Row]) -> list[Row]:
    """Print rows as they come; return them."""
    shown = []
    for row in rows:
        before = f"(was {row.before})" if row.before else ""
        sys.stdout.write(f"{row.what:<52} {row.figure:<44} {row.target:<26} {before}".rstrip() + "\n")
        sys.stdout.flush()
        shown.append(row)
    return shown


def write(rows: Iterable[Row], page: Path) -> None:
    """Replace the table of a page by the rows that have a limit or an earlier figure, and the first row."""
    machine, *others = rows
    lines = [f"{machine.what.capitalize()}: {machine.figure}.", "", "| | before | now | limit |", "|---|---|---|---|"]
    lines += [
        f"| {row.what} | {row.before} | {row.figure} | {row.target} |" for row in others if row.target or row.before
    ]
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(_BEGIN) + ".*?" + re.escape(_END), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{page}: has no place for the table, which is between {_BEGIN.strip()} and {_END}")
    table = _BEGIN + "\n".join(lines) + "\n" + _END
    page.write_text(pattern.sub(lambda _: table, text), encoding="utf-8")
