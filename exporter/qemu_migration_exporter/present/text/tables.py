"""The rounds of a migration and the devices of its downtime, as aligned tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from rich.text import Text

from qemu_migration_exporter.core.model import Device, Migration, Round
from qemu_migration_exporter.present.text.layout import ACCENT, BOLD, DIM, INDENT, Column, Part, literal, table
from qemu_migration_exporter.present.units import (
    GIB,
    MIB,
    TIB,
    UNKNOWN,
    cell,
    duration,
    duration_cell,
    plural,
    seconds_of,
    share,
    size,
)

_SPARKS: Final = "▁▂▃▄▅▆▇"
_MAX_SPARKS: Final = 40

#: More rounds than this are not all shown.
_MAX_ROUNDS: Final = 24
_FIRST_ROUNDS: Final = 5
_LAST_ROUNDS: Final = 8

_MAX_DEVICES: Final = 5
#: From here on the slowest device's microseconds do not matter.
_LONG_DEVICE_NS: Final = 10_000_000
_MAX_DEVICE_CELLS: Final = 36

_ROUND_COLUMNS: Final = (
    Column(("", "round")),
    Column(("", "start")),
    Column(("", "duration")),
    Column(("", "sent")),
    Column(("dirtied", "again")),
    Column(("", "bandwidth")),
    Column(("pending", "at start")),
    Column(("pending", "at end")),
    Column(("", ""), "left"),
)


def rounds_table(migration: Migration, width: int) -> list[Text]:
    """List the rounds, the first, best and last of them where they are many."""
    rounds = migration.rounds
    if not rounds:
        return []
    unit = _unit(rounds)
    name = "MiB" if unit == MIB else "GiB"
    title = Text.assemble(INDENT, ("Rounds", BOLD), (f"  in {name} and {name}/s", DIM))
    best = _best(migration)
    shown = _shown(rounds, best)
    lines = table(_ROUND_COLUMNS, [_round_cells(row, migration, unit, best) for row in shown], width)
    heads = len(_ROUND_COLUMNS[0].head)
    body = [lines[heads]]
    for (before, after), line in zip(pairwise(shown), lines[heads + 1 :], strict=True):
        left_out = after.number - before.number - 1
        if left_out:
            body.append(Text(f"{INDENT}… and {left_out} more", style=DIM))
        body.append(line)
    return [title, *_sparkline(rounds, width), *lines[:heads], *body]


def devices_table(migration: Migration, width: int) -> list[Text]:
    """List the devices that took the most of the downtime."""
    devices = migration.devices
    timed = sorted(_timed(devices), key=lambda pair: -pair[1])
    if not devices:
        return []
    title = Text.assemble(INDENT, ("Devices", BOLD))
    if not timed:
        saved = f"{plural(len(devices), 'device')} saved; their times are not in the stream"
        return [title + Text(f"  {saved}", style=DIM)]
    whole = migration.downtime_ns
    if whole is not None:
        took = duration(sum(took for _, took in timed) / 1e9)
        title += Text(f"  {len(timed)} took {took} of the downtime of {duration(seconds_of(whole))}", style=DIM)
    decimals = 3 if timed[0][1] < _LONG_DEVICE_NS else 1
    rows: list[list[Part]] = [
        [_device_name(device), f"{took / 1e6:.{decimals}f} ms", share(took, whole)]
        for device, took in timed[:_MAX_DEVICES]
    ]
    rest = timed[_MAX_DEVICES:]
    if rest:
        together = sum(took for _, took in rest)
        more = f"and {len(rest)} more, together"
        rows.append([(more, DIM), (f"{together / 1e6:.{decimals}f} ms", DIM), (share(together, whole), DIM)])
    columns = (Column((), "left"), Column(()), Column(()))
    untimed = len(devices) - len(timed)
    unknown = [Text(f"{INDENT}the times of {untimed} more are not in the stream", style=DIM)] if untimed else []
    return [title, *table(columns, rows, width), *unknown]


def _unit(rounds: Sequence[Round]) -> int:
    largest = max(max(row.pending_at_start_bytes or 0, row.transferred_bytes or 0) for row in rounds)
    return MIB if largest < TIB else GIB


def _best(migration: Migration) -> int | None:
    """Return the round that began with the least pending, unless all began alike."""
    boundaries = [row.pending_at_start_bytes for row in migration.rounds if row.number > 1]
    known = [pending for pending in boundaries if pending is not None]
    return migration.progress.verdict.best_round if known and min(known) < max(known) else None


def _shown(rounds: Sequence[Round], best: int | None) -> list[Round]:
    if len(rounds) <= _MAX_ROUNDS:
        return list(rounds)
    middle = [row for row in rounds[_FIRST_ROUNDS:-_LAST_ROUNDS] if row.number == best]
    return [*rounds[:_FIRST_ROUNDS], *middle, *rounds[-_LAST_ROUNDS:]]


def _round_cells(row: Round, migration: Migration, unit: int, best: int | None) -> list[Part]:
    took = (migration.end_ns if row.end_ns is None else row.end_ns) - row.start_ns
    return [
        str(row.number),
        duration_cell(seconds_of(row.start_ns - migration.identity.start_ns)),
        duration_cell(seconds_of(took)),
        cell(row.transferred_bytes, unit),
        cell(row.dirtied_bytes, unit),
        cell(row.bandwidth_bytes_per_second, unit),
        cell(row.pending_at_start_bytes, unit),
        cell(row.pending_at_end_bytes, unit),
        _mark(row, migration, best),
    ]


def _mark(row: Round, migration: Migration, best: int | None) -> Part:
    if row.end_ns is None:
        return ("not over", DIM)
    if migration.is_bulk(row):
        return ("bulk", DIM)
    return ("best", ACCENT) if row.number == best else ""


def _sparkline(rounds: Sequence[Round], width: int) -> list[Text]:
    """Draw what was pending at the start of each round after the bulk round, which would dwarf the rest."""
    rows = [row for row in rounds if row.number > 1]
    values = [row.pending_at_start_bytes for row in rows if row.pending_at_start_bytes is not None]
    if len(values) <= 1:
        return []
    most = max(values) or 1
    label = f"pending at start, rounds {rows[0].number}\N{EN DASH}{rows[-1].number}"
    same = size(min(values)) == size(max(values))
    ends = f"{size(values[0])} each time" if same else f"{size(values[0])} → {size(values[-1])}"
    room = max(1, min(_MAX_SPARKS, width - len(INDENT) - len(label) - len(ends) - 4))
    sparks = "".join(_SPARKS[round(value / most * (len(_SPARKS) - 1))] for value in _thinned(values, room))
    return [Text.assemble(INDENT, (label, DIM), "  ", (sparks, ACCENT), "  ", (ends, DIM))]


def _thinned(values: Sequence[int], most: int) -> list[float]:
    """Average neighbours until there are at most this many."""
    count = min(len(values), most)
    edges = [len(values) * index // count for index in range(count + 1)]
    return [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]


def _timed(devices: Sequence[Device]) -> list[tuple[Device, int]]:
    return [(device, device.duration_ns) for device in devices if device.duration_ns is not None]


def _device_name(device: Device) -> str:
    name = device.name or device.vmsd_name
    if name is None:
        return UNKNOWN
    number = f" #{device.instance}" if device.instance else ""
    return literal(name, _MAX_DEVICE_CELLS) + number
