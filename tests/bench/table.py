"""The table that `make bench` prints, one row as soon as it is known."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One figure, its limit if there is one, and the figure before the work on it."""

    what: str
    figure: str
    target: str = ""
    before: str = ""


def show(rows: Iterable[Row]) -> None:
    """Print rows as they come."""
    for row in rows:
        before = f"(was {row.before})" if row.before else ""
        sys.stdout.write(f"{row.what:<52} {row.figure:<44} {row.target:<26} {before}".rstrip() + "\n")
        sys.stdout.flush()
