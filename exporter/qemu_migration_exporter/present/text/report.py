"""The text report: sentence, advice, phases, rounds, downtime, and the counts of the streams."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import MAXYEAR

from rich.console import Console
from rich.text import Text

from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.present.text.advice import advice_lines
from qemu_migration_exporter.present.text.layout import DIM, MAX_WIDTH, paragraph
from qemu_migration_exporter.present.text.tables import downtime_table, rounds_table
from qemu_migration_exporter.present.text.waterfall import waterfall
from qemu_migration_exporter.present.view import MigrationView, Report
from qemu_migration_exporter.present.wording.sentences import headline, no_migration, notes, stream_parts
from qemu_migration_exporter.present.wording.styled import Role


def print_report(report: Report, console: Console) -> None:
    """Print a report of the migrations, and a line for each stream."""
    width = min(console.width, MAX_WIDTH)
    rule = Text("─" * width, style=DIM)
    for view in report.migrations:
        _print(console, [*migration_lines(view, width), rule])
    if not report.migrations:
        _print(console, [Text(no_migration(report)), Text()])
    for stream in report.streams:
        _print(console, paragraph(stream_parts(stream), width))


def migration_lines(view: MigrationView, width: int) -> list[Text]:
    """Return the report of one migration."""
    lines = paragraph(headline(view), width)
    for note in notes(view):
        lines += paragraph([note], width)
    lines += paragraph([(_identification(view), Role.SOFT)], width)
    for block in (
        advice_lines(view, width),
        waterfall(view, width),
        rounds_table(view, width),
        downtime_table(view, width),
    ):
        if block:
            lines += [Text(), *block]
    return [*lines, Text()]


def _identification(view: MigrationView) -> str:
    """Return the date and trace id, for a search in logs and traces."""
    trace = f"trace {view.trace_id}"
    if view.clock is ClockKind.RECONSTRUCTED or view.start_time.year == MAXYEAR:  # no time, or an impossible one
        return trace
    return f"{view.start_time:%Y-%m-%d %H:%M:%S} UTC · {trace}"


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", crop=True, highlight=False)
