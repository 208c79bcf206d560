"""Charts of a migration's pending memory that do not promise an end without evidence.

Within a round the pending bytes always fall and then jump back, so a bar of "sent so far" would always suggest an end.
Only the boundaries between rounds are comparable. They are drawn as steps over time, together with the threshold of
each round, below which QEMU stops the guest. The scale is logarithmic, because pending and threshold may differ by a
factor of a thousand. A share of a whole is drawn only if it cannot fall: in the bulk round and in post-copy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.core.model import PhaseName
from qemu_migration_exporter.present.units import duration, part_of, plural, size
from qemu_migration_exporter.present.view import MigrationView, RoundView

#: More points than these are thinner than a pixel.
_MAX_POINTS: Final = 600
#: Points with a tooltip of their own; more of them cannot be hit with a pointer.
_MAX_DOTS: Final = 80
_TICK_FACTORS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500)
#: With more ticks than these, only powers of ten are kept.
_MAX_TICKS: Final = 6
_LEAST_BYTES: Final = 4_096
_NO_BREAK: Final = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The plot area inside a drawing, in its units."""

    width: int
    height: int
    left: int = 2
    right: int = 6
    top: int = 6
    bottom: int = 4


CARD: Final = Frame(width=320, height=96)
FULL: Final = Frame(width=920, height=300, left=84, right=48, top=14, bottom=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """The boundary that begins a round."""

    x: str
    y: str
    is_last: bool
    is_below: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A line across the plot with its label."""

    at: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time along the x-axis."""

    x: str
    width: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChart:
    """Steps of pending and threshold as SVG paths, and the words beside them."""

    frame: Frame
    pending: str
    threshold: str
    dots: tuple[Dot, ...]
    y_ticks: tuple[Tick, ...]
    x_ticks: tuple[Tick, ...]
    stalls: tuple[Span, ...]
    caption: str
    threshold_words: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of a whole that cannot fall, in per cent."""

    percent: str
    words: str


def pending_chart(view: MigrationView, frame: Frame) -> PendingChart | None:
    """Draw the boundaries; None before the first. The beginning of the bulk round is not a boundary."""
    rounds = [row for row in view.rounds if row.number > 1 and row.pending_at_start_bytes is not None]
    if not rounds:
        return None
    return _Plot(view, _thinned(rounds), frame).chart()


def share_of(view: MigrationView) -> Share | None:
    """Draw the share of memory that was sent; None in phases in which it can fall."""
    pending, ram = view.pending_bytes, view.ram_bytes
    if not view.running or pending is None or not ram or pending > ram:
        return None
    phase = view.last_phase
    if phase is PhaseName.ITERATE and view.rounds and view.rounds[-1].number == 1:
        words = f"first pass over memory: {part_of(ram - pending, ram)}"
    elif phase is PhaseName.POSTCOPY:
        words = f"post-copy: {part_of(pending, ram)} still to send"
    else:
        return None
    return Share(percent=_unit(100 * (1 - pending / ram)), words=words)


class _Plot:
    def __init__(self, view: MigrationView, rounds: Sequence[RoundView], frame: Frame) -> None:
        self._view, self._rounds, self._frame = view, rounds, frame
        self._start = rounds[0].start_seconds
        last = rounds[-1]
        self._end = max(last.start_seconds + (last.duration_seconds or view.elapsed_seconds - last.start_seconds), 1e-9)
        values = [self._pending(row) for row in rounds] + [row.threshold_bytes for row in rounds if row.threshold_bytes]
        self._low = math.log10(max(min(values), _LEAST_BYTES)) - 0.15
        self._high = max(math.log10(max(*values, _LEAST_BYTES)) + 0.15, self._low + 0.6)

    def chart(self) -> PendingChart:
        rounds, view = self._rounds, self._view
        first, last = rounds[0], rounds[-1]
        named = f"round {last.number}" if first is last else f"rounds {first.number}\N{EN DASH}{last.number}"
        pending = size(last.pending_at_start_bytes)
        thresholds = [row.threshold_bytes for row in rounds if row.threshold_bytes]
        below = _threshold_words(thresholds, view, self._frame)
        return PendingChart(
            frame=self._frame,
            pending=self._path([(row, self._pending(row)) for row in rounds]),
            threshold=self._path([(row, row.threshold_bytes) for row in rounds]),
            dots=self._dots(),
            y_ticks=self._y_ticks(),
            x_ticks=self._x_ticks(),
            stalls=self._stalls(),
            caption=f"pending at the start of {named}, the last {pending.replace(' ', _NO_BREAK)}",
            threshold_words=below,
            words=f"Pending at the start of {named}: {size(first.pending_at_start_bytes)} to {pending}. {below}",
        )

    def _path(self, points: Sequence[tuple[RoundView, int | None]]) -> str:
        """Return a step line; a missing value leaves a gap."""
        steps: list[str] = []
        is_drawing = False
        for index, (row, value) in enumerate(points):
            if value is None:
                is_drawing = False
                continue
            end = points[index + 1][0].start_seconds if index + 1 < len(points) else self._end
            y = self._y(value)
            steps.append(f"{'V' + y if is_drawing else f'M{self._x(row.start_seconds)} {y}'}H{self._x(end)}")
            is_drawing = True
        return "".join(steps)

    def _dots(self) -> tuple[Dot, ...]:
        if len(self._rounds) > _MAX_DOTS:
            return ()
        return tuple(
            Dot(
                x=self._x(row.start_seconds),
                y=self._y(self._pending(row)),
                is_last=row is self._rounds[-1],
                is_below=row.threshold_bytes is not None and self._pending(row) < row.threshold_bytes,
                words=f"Round {row.number} began with {size(row.pending_at_start_bytes)} pending"
                + (f", threshold {size(row.threshold_bytes)}" if row.threshold_bytes else ""),
            )
            for row in self._rounds
        )

    def _y_ticks(self) -> tuple[Tick, ...]:
        values = [factor << (10 * unit) for unit in range(1, 6) for factor in _TICK_FACTORS]
        inside = [value for value in values if self._low <= math.log10(value) <= self._high]
        if len(inside) > _MAX_TICKS:
            inside = [value for value in inside if size(value, 0)[0] == "1"]
        return tuple(Tick(at=self._y(value), label=size(value, 0)) for value in inside)

    def _x_ticks(self) -> tuple[Tick, ...]:
        span = self._end - self._start
        return tuple(
            Tick(at=self._x(self._start + span * part / 4), label=duration(self._start + span * part / 4))
            for part in range(5)
        )

    def _stalls(self) -> tuple[Span, ...]:
        spans = []
        for stall in self._view.stalls:
            start, end = max(stall.start_seconds, self._start), min(self._view.end_of(stall), self._end)
            if end > start:
                width = float(self._x(end)) - float(self._x(start))
                words = f"stalled from {duration(stall.start_seconds)} to {duration(self._view.end_of(stall))}"
                spans.append(Span(x=self._x(start), width=_unit(max(width, 1.0)), words=words))
        return tuple(spans)

    def _x(self, seconds: float) -> str:
        frame = self._frame
        share = (seconds - self._start) / max(self._end - self._start, 1e-9)
        return _unit(frame.left + share * (frame.width - frame.left - frame.right))

    def _y(self, value: int) -> str:
        frame = self._frame
        share = (math.log10(max(value, _LEAST_BYTES)) - self._low) / (self._high - self._low)
        return _unit(frame.height - frame.bottom - min(max(share, 0), 1) * (frame.height - frame.top - frame.bottom))

    @staticmethod
    def _pending(row: RoundView) -> int:
        return row.pending_at_start_bytes or 0


def _threshold_words(thresholds: Sequence[int], view: MigrationView, frame: Frame) -> str:
    if not thresholds:
        return ""
    low, high = size(min(thresholds)), size(max(thresholds))
    verb = "stopped" if view.is_over else "stops"
    words = f"QEMU {verb} the guest below {size(thresholds[-1])}"
    if low != high and frame is FULL:
        words += f" (the threshold ranged from {low} to {high})"
    return words.replace(" MiB", f"{_NO_BREAK}MiB").replace(" GiB", f"{_NO_BREAK}GiB")


def _thinned(rounds: Sequence[RoundView]) -> list[RoundView]:
    """Return the rounds to draw: from every stretch the round that began with the least pending."""
    step = math.ceil(len(rounds) / _MAX_POINTS)
    if step == 1:
        return list(rounds)
    stretches = [rounds[start : start + step] for start in range(0, len(rounds), step)]
    lowest = [min(stretch, key=lambda row: row.pending_at_start_bytes or 0) for stretch in stretches]
    return [*lowest[:-1], rounds[-1]]


def _unit(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def rounds_count(view: MigrationView) -> str:
    """Return the number of rounds in words; empty before the first."""
    return plural(view.rounds[-1].number, "round") if view.rounds else ""
