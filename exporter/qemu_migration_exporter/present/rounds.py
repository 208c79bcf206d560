"""The rounds and the downtime of a migration as rows, for every frontend that lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from qemu_migration_exporter.present.units import GIB, MIB, TIB
from qemu_migration_exporter.present.view import MigrationView, RoundView

_SPARKS: Final = "▁▂▃▄▅▆▇"


@dataclass(frozen=True, slots=True)
class Shown:
    """A round to show, and the number of omitted rounds before it."""

    round: RoundView
    left_out: int


def byte_unit(rounds: Sequence[RoundView]) -> tuple[int, str]:
    """Return the unit for a table of rounds and its name: MiB, or GiB from a terabyte on."""
    largest = max((max(row.pending_at_start_bytes or 0, row.transferred_bytes or 0) for row in rounds), default=0)
    return (MIB, "MiB") if largest < TIB else (GIB, "GiB")


def best_round(view: MigrationView) -> int | None:
    """Return the round that began with the least pending, unless all rounds began with the same."""
    boundaries = [row.pending_at_start_bytes for row in view.rounds if row.number > 1]
    known = [pending for pending in boundaries if pending is not None]
    return view.verdict.best_round if known and min(known) < max(known) else None


def shown_rounds(view: MigrationView, *, most: int, first: int, last: int) -> list[Shown]:
    """Return all rounds, or if there are more than `most` only the first, the best and the last rounds."""
    rounds = list(view.rounds)
    if len(rounds) > most:
        best = best_round(view)
        rounds = [*rounds[:first], *(row for row in rounds[first:-last] if row.number == best), *rounds[-last:]]
    gaps = [0, *(after.number - before.number - 1 for before, after in pairwise(rounds))]
    return [Shown(row, gap) for row, gap in zip(rounds, gaps, strict=True)] if rounds else []


def boundaries(view: MigrationView) -> list[tuple[int, int]]:
    """Return the rounds after the bulk round, with the pending bytes at their start."""
    return [
        (row.number, row.pending_at_start_bytes)
        for row in view.rounds
        if row.number > 1 and row.pending_at_start_bytes is not None
    ]


def sparkline(values: Sequence[float], cells: int) -> str:
    """Return a sparkline of the values, scaled from zero; neighbours are averaged if they do not fit."""
    if not values:
        return ""
    count = min(len(values), max(1, cells))
    edges = [len(values) * index // count for index in range(count + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in pairwise(edges)]
    most = max(means) or 1
    return "".join(_SPARKS[round(value / most * (len(_SPARKS) - 1))] for value in means)
