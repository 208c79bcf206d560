"""The rounds of a migration and the parts of its downtime, as aligned tables."""

from __future__ import annotations

from typing import Final

from rich.text import Text

from qemu_migration_exporter.present.downtime import DowntimeRow, downtime_rows, downtime_title, part_time
from qemu_migration_exporter.present.rounds import Shown, best_round, boundaries, byte_unit, shown_rounds, sparkline
from qemu_migration_exporter.present.text.layout import ACCENT, BOLD, DIM, INDENT, fixed, grid, table_lines
from qemu_migration_exporter.present.units import cell, duration, duration_cell, plural, share, size
from qemu_migration_exporter.present.view import MigrationView, RoundView

_MAX_SPARKS: Final = 40

#: Rounds in the table.
_MAX_ROUNDS: Final = 24
_FIRST_ROUNDS: Final = 5
_LAST_ROUNDS: Final = 8


def rounds_table(view: MigrationView, width: int) -> list[Text]:
    """List the rounds, or if there are many only the first, the best and the last."""
    if not view.rounds:
        return []
    unit, name = byte_unit(view.rounds)
    title = Text.assemble(INDENT, ("Rounds", BOLD), (f"  in {name} and {name}/s", DIM))
    table = grid(
        ">round", ">start", ">duration", ">sent", ">dirtied\nagain", ">bandwidth", ">pending\nat start",
        ">pending\nat end", "<", header=True,
    )  # fmt: skip
    best = best_round(view)
    rows = shown_rounds(view, most=_MAX_ROUNDS, first=_FIRST_ROUNDS, last=_LAST_ROUNDS)
    for row in rows:
        table.add_row(*_round_cells(row.round, view, unit, best))
    lines = table_lines(table, width)
    heads = len(lines) - len(rows)
    return [title, *_pending_line(view, width), *lines[:heads], *_with_gaps(rows, lines[heads:])]


def downtime_table(view: MigrationView, width: int) -> list[Text]:
    """List the parts of the downtime; they add up to it."""
    rows = downtime_rows(view)
    if not view.downtime_parts:
        return _devices(view, rows, width)
    heading, remark = downtime_title(view)
    title = Text.assemble(INDENT, (heading, BOLD), (f"  {remark}", DIM))
    return [title, *_part_lines(rows, view, width)]


def _devices(view: MigrationView, rows: list[DowntimeRow], width: int) -> list[Text]:
    """List only the devices, for a stream without marks of the other parts of the downtime."""
    if not view.devices:
        return []
    title = Text.assemble(INDENT, ("Devices", BOLD))
    untimed = sum(1 for device in view.devices if device.duration_seconds is None)
    if not rows:
        saved = f"{plural(len(view.devices), 'device')} saved; their times are not in the stream"
        return [title + Text(f"  {saved}", style=DIM)]
    if view.downtime_seconds is not None:
        took = duration(sum(row.seconds for row in rows))
        words = f"  {len(view.devices) - untimed} took {took} of the downtime of {duration(view.downtime_seconds)}"
        title += Text(words, style=DIM)
    unknown = [Text(f"{INDENT}the times of {untimed} more are not in the stream", style=DIM)] if untimed else []
    return [title, *_part_lines(rows, view, width), *unknown]


def _part_lines(rows: list[DowntimeRow], view: MigrationView, width: int) -> list[Text]:
    longest = max(row.seconds for row in rows)
    table = grid("<", ">", ">")
    for row in rows:
        style = DIM if row.is_rest else ""
        part = share(row.seconds, view.downtime_seconds) if view.downtime_seconds or not view.downtime_parts else ""
        table.add_row(Text(row.name), part_time(row.seconds, longest), part, style=style)
    return table_lines(table, width)


def _with_gaps(rows: list[Shown], lines: list[Text]) -> list[Text]:
    body = []
    for row, line in zip(rows, lines, strict=True):
        if row.left_out:
            body.append(Text(f"{INDENT}… and {row.left_out} more", style=DIM))
        body.append(line)
    return body


def _round_cells(row: RoundView, view: MigrationView, unit: int, best: int | None) -> list[str | Text]:
    took = view.elapsed_seconds - row.start_seconds if row.duration_seconds is None else row.duration_seconds
    return [
        str(row.number),
        fixed(duration_cell(row.start_seconds)),
        fixed(duration_cell(took)),
        cell(row.transferred_bytes, unit),
        cell(row.dirtied_bytes, unit),
        cell(row.bandwidth_bytes_per_second, unit),
        cell(row.pending_at_start_bytes, unit),
        cell(row.pending_at_end_bytes, unit),
        _mark(row, view, best),
    ]


def _mark(row: RoundView, view: MigrationView, best: int | None) -> Text:
    if row.duration_seconds is None:
        return Text("not over", DIM)
    if view.is_bulk(row):
        return Text("bulk", DIM)
    return Text("best", ACCENT) if row.number == best else Text()


def _pending_line(view: MigrationView, width: int) -> list[Text]:
    """Draw the pending bytes at the start of each round, except the bulk round, which would dwarf the rest."""
    numbers = [row.number for row in view.rounds if row.number > 1]
    values = [pending for _, pending in boundaries(view)]
    if len(values) <= 1:
        return []
    label = f"pending at start, rounds {numbers[0]}\N{EN DASH}{numbers[-1]}"
    is_same = size(min(values)) == size(max(values))
    ends = f"{size(values[0])} each time" if is_same else f"{size(values[0])} → {size(values[-1])}"
    room = min(_MAX_SPARKS, width - len(INDENT) - len(label) - len(ends) - 4)
    return [Text.assemble(INDENT, (label, DIM), "  ", (sparkline(values, room), ACCENT), "  ", (ends, DIM))]
