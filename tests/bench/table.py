"""The table that `make bench` prints, one row as soon as it is known."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import NamedTuple


class Row(NamedTuple):
    """One figure, and what it has to reach, if anything."""

    what: str
    figure: str
    target: str = ""


def show(rows: Iterable[Row]) -> None:
    """Print rows as they come."""
    for row in rows:
        sys.stdout.write(f"{row.what:<52} {row.figure:<44} {row.target}\n".rstrip() + "\n")
        sys.stdout.flush()
