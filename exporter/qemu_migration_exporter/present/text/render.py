"""The report for a person: a verdict first, then phases, rounds and devices, and last what was read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from rich.console import Console
from rich.text import Text

from qemu_migration_exporter.core.model import ClockKind, Migration
from qemu_migration_exporter.present.summary import StreamSummary
from qemu_migration_exporter.present.text.layout import ACCENT, DIM, MAX_WIDTH, Part, literal, paragraph
from qemu_migration_exporter.present.text.stalls import advice
from qemu_migration_exporter.present.text.tables import devices_table, rounds_table
from qemu_migration_exporter.present.text.verdict import notes, sentence
from qemu_migration_exporter.present.text.waterfall import waterfall
from qemu_migration_exporter.present.units import plural

_MAX_STREAM_CELLS: Final = 48


def render(streams: Sequence[StreamSummary], migrations: Sequence[Migration], *, console: Console) -> None:
    """Print a report of the migrations, and a line for each stream they were read from."""
    width = min(console.width, MAX_WIDTH)
    rule = Text("─" * width, style=DIM)
    for migration in migrations:
        _print(console, [*_migration(migration, width), rule])
    if not migrations:
        _print(console, [Text("No migration was found."), Text()])
    for stream in streams:
        _print(console, paragraph(_stream(stream), width))


def _migration(migration: Migration, width: int) -> list[Text]:
    lines = paragraph(sentence(migration), width)
    for note in notes(migration):
        lines += paragraph([note], width)
    lines += paragraph([(_identification(migration), DIM)], width)
    for block in (
        advice(migration, width),
        waterfall(migration, width),
        rounds_table(migration, width),
        devices_table(migration, width),
    ):
        if block:
            lines += [Text(), *block]
    return [*lines, Text()]


def _identification(migration: Migration) -> str:
    """Say what finds this migration in logs and traces."""
    trace = f"trace {migration.identity.trace_id}"
    if migration.identity.clock is ClockKind.RECONSTRUCTED:
        return trace
    try:
        began = datetime.fromtimestamp(migration.identity.start_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):  # a stream may claim any time
        return trace
    return f"{began:%Y-%m-%d %H:%M:%S} UTC · {trace}"


def _stream(stream: StreamSummary) -> list[Part]:
    counts = stream.counts
    read = [plural(counts.lines, "line"), plural(counts.events, "event"), f"{counts.noise} noise"]
    parts: list[Part] = [(f"{literal(stream.name, _MAX_STREAM_CELLS)}: {stream.format or 'unknown format'}, ", DIM)]
    parts.append((", ".join(read), DIM))
    if counts.malformed:
        parts += [(", ", DIM), (f"{counts.malformed} malformed", ACCENT)]
    total = counts.surprises.total()
    if total:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.surprises.items()))
        parts += [(", ", DIM), (f"{plural(total, 'surprise')} ({kinds})", ACCENT)]
    return parts


def _print(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, no_wrap=True, overflow="crop", crop=True, highlight=False)
