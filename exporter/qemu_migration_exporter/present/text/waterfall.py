"""The phases of a migration as bars over its duration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.text import Text

from qemu_migration_exporter.core.model import PhaseName
from qemu_migration_exporter.present.text.layout import ACCENT, DIM, INDENT
from qemu_migration_exporter.present.units import UNKNOWN, duration, duration_cell
from qemu_migration_exporter.present.view import MigrationView

_PHASE: Final = "━"
_DOWNTIME: Final = "█"
#: Mark of a bar that is too short for a cell.
_THIN: Final = "│"
#: Last cell of a bar that has not ended.
_OPEN: Final = "▸"

_NAME_CELLS: Final = 16
_TIME_CELLS: Final = 11


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    start: float
    #: None while it lasts.
    seconds: float | None
    is_timed: bool
    style: str = ""

    def end(self, last: float) -> float:
        return last if self.seconds is None else self.start + self.seconds


def waterfall(view: MigrationView, width: int) -> list[Text]:
    """Draw each phase to scale, and the downtime below the phase in which it begins."""
    rows = _rows(view)
    if not rows:
        return []
    cells = max(10, width - len(INDENT) - _NAME_CELLS - 2 * _TIME_CELLS - 2)
    ended = view.elapsed_seconds if view.duration_seconds is None else view.duration_seconds
    last = max([ended, *(row.end(0) for row in rows if row.seconds is not None)])
    head = f"{INDENT}{'phase':<{_NAME_CELLS}}{'start':>{_TIME_CELLS}}{'duration':>{_TIME_CELLS}}  0"
    lines = [Text(head + duration(last).rjust(cells - 1), style=DIM)]
    for row in rows:
        line = Text(f"{INDENT}{row.name:<{_NAME_CELLS}}{_times(row, last)}  ", style=row.style)
        lines.append(line + Text(_bar(row, last, cells), style=row.style or DIM))
    return lines


def _rows(view: MigrationView) -> list[_Row]:
    rows = [
        _Row(
            phase.name,
            phase.start_seconds,
            phase.duration_seconds if phase.is_open or phase.duration_seconds is not None else 0.0,
            view.is_timed or phase.name is PhaseName.ITERATE,
        )
        for phase in sorted(view.phases, key=lambda phase: phase.start_seconds)
    ]
    start = view.downtime_start_seconds
    if rows and start is not None and view.is_timed:
        place = sum(1 for row in rows if row.start <= start)
        rows.insert(place, _Row("downtime", start, view.downtime_seconds, is_timed=True, style=ACCENT))
    return rows


def _times(row: _Row, last: float) -> str:
    if not row.is_timed:
        return f"{UNKNOWN:>{_TIME_CELLS}}{UNKNOWN:>{_TIME_CELLS}}"
    took = duration_cell(row.end(last) - row.start)
    return f"{duration_cell(row.start):>{_TIME_CELLS}}{took:>{_TIME_CELLS}}"


def _bar(row: _Row, last: float, cells: int) -> str:
    scale = cells / max(last, 1e-9)
    begin, end = row.start * scale, row.end(last) * scale
    if round(end - begin) == 0 and row.seconds is not None:
        return " " * min(int(begin), cells - 1) + _THIN
    first = min(round(begin), cells - 1)
    count = max(1, round(end) - first)
    glyph = _DOWNTIME if row.style else _PHASE
    return " " * first + (glyph * (count - 1) + _OPEN if row.seconds is None else glyph * count)
