"""Rounds that plainly did not shrink: each began with the same memory pending, too much of it to stop the guest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

from exporter.core.model import Migration, Round

#: Boundaries within 4 % of each other are the same, as for the verdict of a stall.
_SAME: Final = 1.04

#: Two can be chance.
_MIN_ROUNDS: Final = 3

#: A bandwidth that is this many times higher later is worth a word.
_ROSE: Final = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plateau:
    """A run of rounds that began with the same memory pending.

    Attributes:
        bandwidth_bytes_per_second: The rounds' typical one.
        required_downtime_seconds: What their least pending memory takes at that bandwidth.
        sent_bytes, dirtied_bytes: Of a round, on average; None where no round says.
        later_bandwidth_bytes_per_second: After the run, where it rose.
        is_last: No round follows.
    """

    first: int
    last: int
    least_bytes: int
    most_bytes: int
    bandwidth_bytes_per_second: float
    required_downtime_seconds: float
    sent_bytes: float | None
    dirtied_bytes: float | None
    later_bandwidth_bytes_per_second: float | None
    is_last: bool


def find_plateau(migration: Migration) -> Plateau | None:
    """Find the longest run of rounds that did not shrink, the later one of two."""
    limit_seconds = migration.progress.downtime_limit_seconds
    if not limit_seconds:
        return None
    runs = [run for run in _runs(migration.rounds, limit_seconds) if len(run) >= _MIN_ROUNDS]
    if not runs:
        return None
    run = max(reversed(runs), key=len)
    bandwidth = median(row.bandwidth_bytes_per_second or 0 for row in run)
    least = min(row.pending_at_start_bytes or 0 for row in run)
    later = [row.bandwidth_bytes_per_second or 0 for row in migration.rounds if row.number > run[-1].number]
    return Plateau(
        first=run[0].number,
        last=run[-1].number,
        least_bytes=least,
        most_bytes=max(row.pending_at_start_bytes or 0 for row in run),
        bandwidth_bytes_per_second=bandwidth,
        required_downtime_seconds=least / bandwidth,
        sent_bytes=_mean([row.transferred_bytes for row in run if row.end_ns is not None]),
        dirtied_bytes=_mean([row.dirtied_bytes for row in run]),
        later_bandwidth_bytes_per_second=later[-1] if later and later[-1] >= _ROSE * bandwidth else None,
        is_last=not later,
    )


def is_bulk(row: Round, migration: Migration) -> bool:
    """Say whether this round sent all memory once; where the beginning is missing, the first that was seen did not."""
    return row.number == 1 and not migration.identity.partial


def _runs(rounds: tuple[Round, ...], limit_seconds: float) -> Iterator[list[Round]]:
    run: list[Round] = []
    least = most = 0
    for row in rounds:
        stuck = _is_stuck(row, limit_seconds)
        pending = row.pending_at_start_bytes or 0
        if run and stuck and max(most, pending) <= _SAME * min(least, pending):
            least, most = min(least, pending), max(most, pending)
            run.append(row)
            continue
        yield run
        run = [row] if stuck else []
        least = most = pending
    yield run


def _is_stuck(row: Round, limit_seconds: float) -> bool:
    """Say whether its own bandwidth could not send in the downtime what was pending; the bulk round says nothing."""
    pending, bandwidth = row.pending_at_start_bytes, row.bandwidth_bytes_per_second
    return row.number > 1 and bool(pending) and bool(bandwidth) and (pending or 0) > (bandwidth or 0) * limit_seconds


def _mean(values: list[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
