"""The phases of a migration as bars over its duration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.text import Text

from qemu_migration_exporter.core.model import Migration, PhaseName
from qemu_migration_exporter.present.text.layout import ACCENT, DIM, INDENT
from qemu_migration_exporter.present.units import UNKNOWN, duration, duration_cell, seconds_of

_PHASE: Final = "━"
_DOWNTIME: Final = "█"
#: What is too short for a cell.
_THIN: Final = "│"
#: In place of the last cell of what had not ended.
_OPEN: Final = "▸"

_NAME_CELLS: Final = 16
_TIME_CELLS: Final = 11


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    start_ns: int
    end_ns: int | None
    times_known: bool
    style: str = ""


def waterfall(migration: Migration, width: int) -> list[Text]:
    """Draw each phase to scale, and the downtime below the phase it begins in."""
    rows = _rows(migration)
    if not rows:
        return []
    bar_cells = max(10, width - len(INDENT) - _NAME_CELLS - 2 * _TIME_CELLS - 2)
    start_ns = migration.identity.start_ns
    ended_ns = migration.end_ns if migration.outcome_ns is None else migration.outcome_ns
    end_ns = max([ended_ns, *(row.end_ns for row in rows if row.end_ns is not None)])
    lines = [_head("phase", "start", "duration", bar_cells, duration(seconds_of(end_ns - start_ns)))]
    for row in rows:
        line = Text(f"{INDENT}{row.name:<{_NAME_CELLS}}{_times(row, start_ns, end_ns)}  ", style=row.style)
        lines.append(line + Text(_bar(row, start_ns, end_ns, bar_cells), style=row.style or DIM))
    return lines


def _rows(migration: Migration) -> list[_Row]:
    rows = [
        _Row(phase.name, phase.start_ns, phase.end_ns, migration.timed or phase.name is PhaseName.ITERATE)
        for phase in sorted(migration.phases, key=lambda phase: phase.start_ns)
    ]
    start_ns = migration.downtime_start_ns
    if rows and start_ns is not None and migration.timed:
        end_ns = None if migration.downtime_ns is None else start_ns + migration.downtime_ns
        place = sum(1 for row in rows if row.start_ns <= start_ns)
        rows.insert(place, _Row("downtime", start_ns, end_ns, times_known=True, style=ACCENT))
    return rows


def _head(name: str, start: str, length: str, bar_cells: int, total: str) -> Text:
    scale = "0" + total.rjust(bar_cells - 1)
    return Text(f"{INDENT}{name:<{_NAME_CELLS}}{start:>{_TIME_CELLS}}{length:>{_TIME_CELLS}}  {scale}", style=DIM)


def _times(row: _Row, start_ns: int, last_ns: int) -> str:
    if not row.times_known:
        return f"{UNKNOWN:>{_TIME_CELLS}}{UNKNOWN:>{_TIME_CELLS}}"
    started = duration_cell(seconds_of(row.start_ns - start_ns))
    took = duration_cell(seconds_of((last_ns if row.end_ns is None else row.end_ns) - row.start_ns))
    return f"{started:>{_TIME_CELLS}}{took:>{_TIME_CELLS}}"


def _bar(row: _Row, start_ns: int, last_ns: int, cells: int) -> str:
    total_ns = max(1, last_ns - start_ns)
    begin = (row.start_ns - start_ns) * cells / total_ns
    end = ((last_ns if row.end_ns is None else row.end_ns) - start_ns) * cells / total_ns
    if round(end - begin) == 0 and row.end_ns is not None:
        return " " * min(int(begin), cells - 1) + _THIN
    first = min(round(begin), cells - 1)
    count = max(1, round(end) - first)
    glyph = _DOWNTIME if row.style else _PHASE
    return " " * first + (glyph * (count - 1) + _OPEN if row.end_ns is None else glyph * count)
