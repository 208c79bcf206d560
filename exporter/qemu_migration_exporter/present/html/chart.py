"""How far a migration is, as a drawing that does not flatter.

Inside a round the pending bytes always fall and then jump back, so a bar of "sent so far" would always promise an end.
Only the boundaries between rounds can be compared: they are drawn, each as a column, with the line that they have to
get below. A share of a whole is drawn only where it can but grow: in the first pass over memory, and in post-copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.core.model import PhaseName
from qemu_migration_exporter.present.units import size
from qemu_migration_exporter.present.view import MigrationView

WIDTH: Final = 320
HEIGHT: Final = 84

#: More columns would be thinner than a pixel and its gap on a small screen.
MAX_COLUMNS: Final = 60

#: Air above the tallest column, and the least height at which one is still seen.
_HEADROOM: Final = 1.08
_LEAST_HEIGHT: Final = 1.5
_MAX_COLUMN: Final = 14.0
_GAP: Final = 0.28


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A round's boundary, in the drawing's units."""

    x: str
    y: str
    width: str
    height: str
    is_last: bool
    is_below: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """Boundaries, the first of them on the left.

    Attributes:
        threshold_y: Where the line is now; None where it is not known. It moves with the bandwidth and the limit, so
            that a column before the last may have been on the other side of it.
    """

    columns: tuple[Column, ...]
    threshold_y: str | None
    threshold: str | None
    pending: str
    first: int
    last: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A part of a whole that can but grow."""

    width: str
    words: str


def rounds_of(view: MigrationView) -> Rounds | None:
    """Draw the boundaries; None as long as there is none. The bulk round's is all of memory and says nothing."""
    known = [
        (each.number, each.pending_at_start_bytes)
        for each in view.rounds
        if each.number > 1 and each.pending_at_start_bytes is not None
    ]
    if not known:
        return None
    shown = known[-MAX_COLUMNS:]
    threshold = view.progress.threshold_bytes
    most = max(*(pending for _, pending in shown), threshold or 0, 1) * _HEADROOM
    first, last = shown[0][0], shown[-1][0]
    # A round whose boundary is not known leaves its place empty.
    step = min(WIDTH / (last - first + 1), _MAX_COLUMN)
    columns = tuple(
        Column(
            x=_unit((number - first) * step),
            y=_unit(HEIGHT - _height(pending, most)),
            width=_unit(step * (1 - _GAP)),
            height=_unit(_height(pending, most)),
            is_last=number == last,
            is_below=number == last and threshold is not None and pending < threshold,
            words=f"Round {number} began with {size(pending)} pending",
        )
        for number, pending in shown
    )
    spoken = f"Pending at the start of rounds {first} to {last}: {size(shown[0][1])} to {size(shown[-1][1])}"
    below = f"; the guest is stopped below {size(threshold)}" if threshold else ""
    return Rounds(
        columns=columns,
        threshold_y=_unit(HEIGHT * (1 - threshold / most)) if threshold else None,
        threshold=size(threshold) if threshold else None,
        pending=size(shown[-1][1]).replace(" ", "\N{NO-BREAK SPACE}"),
        first=first,
        last=last,
        words=f"{spoken}{below}.",
    )


def share_of(view: MigrationView) -> Share | None:
    """Draw how much of memory is sent; None where that can fall back."""
    progress = view.progress
    pending, ram = progress.pending_bytes, progress.ram_bytes
    if view.result is not None or pending is None or not ram or pending > ram:
        return None
    if progress.phase is PhaseName.ITERATE and progress.round == 1:
        words = f"first pass over memory: {size(ram - pending)} of {size(ram)}"
    elif progress.phase is PhaseName.POSTCOPY:
        words = f"post-copy: {size(pending)} of {size(ram)} still to send"
    else:
        return None
    return Share(width=_unit(WIDTH * (1 - pending / ram)), words=words)


def _height(pending: int, most: float) -> float:
    return max(HEIGHT * pending / most, _LEAST_HEIGHT)


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
