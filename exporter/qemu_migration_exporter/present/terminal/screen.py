"""One frame of the live view, as lines for a terminal of a given size.

    title      source, counts, time
    running    a line each, the stalled first; the sentence of each below it if there is room for all of them
    selected   the sentence and the advice of the selected migration
    recent     a line each, as many as fit
    keys

A frame is a pure function of a snapshot, a selection and a size, so that it can be tested, drawn as a picture, and
drawn again when the terminal is resized. Words carry every meaning; colours only repeat it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from qemu_migration_exporter.core.model import PauseCause, PhaseName, Side
from qemu_migration_exporter.present.rounds import boundaries, sparkline
from qemu_migration_exporter.present.text.layout import (
    ACCENT,
    BOLD,
    DIM,
    INDENT,
    MAX_WIDTH,
    command,
    paragraph,
)
from qemu_migration_exporter.present.text.report import migration_lines
from qemu_migration_exporter.present.units import duration, duration_cell, size
from qemu_migration_exporter.present.view import MigrationView
from qemu_migration_exporter.present.wording.sentences import KIND_WORDS, PHASE_WORDS, headline, notes
from qemu_migration_exporter.present.wording.states import ago, state_of
from qemu_migration_exporter.present.wording.styled import Part, literal

_TONES: Final = {"good": "green", "bad": "bold red", "busy": "cyan", "plain": ""}
_KEYS: Final = "↑↓ select   enter full report   q quit"
_REPORT_KEYS: Final = "↑↓ scroll   enter back   q quit"

#: Cells of the columns of a running migration; the name and the sparkline share the rest.
_STATE_CELLS: Final = 11
_PLACE_CELLS: Final = 10
_TIME_CELLS: Final = 9
_PENDING_CELLS: Final = 10
_MIN_NAME_CELLS: Final = 14
_MAX_NAME_CELLS: Final = 32
_MAX_SPARK_CELLS: Final = 32

#: Cells of `119.9 s downtime`.
_STOP_CELLS: Final = 16

#: Lines for recent migrations on a small terminal.
_LEAST_RECENT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The content of a frame.

    Attributes:
        source: The name of the daemon or of the sources.
        problem: Reason why the data is old or missing; empty if it is current.
        notice: Reason why migrations may be missing; empty if there is none.
    """

    source: str
    now: datetime
    running: tuple[MigrationView, ...] = ()
    recent: tuple[MigrationView, ...] = ()
    problem: str = ""
    notice: str = ""

    def ordered(self) -> list[MigrationView]:
        """Return all migrations in the order of the frame: stalled, other running, recent."""
        running = sorted(self.running, key=lambda view: state_of(view)[1] != "bad")
        return [*running, *self.recent]


def frame(snapshot: Snapshot, selected: str | None, width: int, height: int) -> list[Text]:
    """Return the lines of the overview.

    Args:
        snapshot: The data.
        selected: The trace id of the selected migration; the first migration if it is gone or None.
        width: Cells of a line.
        height: Greatest number of lines.
    """
    views = snapshot.ordered()
    chosen = next((view for view in views if view.trace_id == selected), views[0] if views else None)
    running = views[: len(snapshot.running)]
    head = [_title(snapshot, width), *_problem(snapshot, width), *_notice(snapshot, width)]
    foot = [Text(_KEYS, style=DIM)]
    room = max(0, height - len(head) - len(foot))
    details = _details(chosen, width) if chosen is not None else []
    lines = _running(running, chosen, width, room, len(details) + len(snapshot.recent))
    if not running and not snapshot.problem and not snapshot.notice:
        lines = [Text("No migration is running.", style=DIM)]
    if details:
        reserved = 1 + min(_LEAST_RECENT, len(snapshot.recent)) if snapshot.recent else 0
        lines += [_rule(width), *_shortened(details, max(0, room - len(lines) - 1 - reserved))]
    left = room - len(lines) - 1
    if snapshot.recent and left > 0:
        recent = _window(list(snapshot.recent), chosen, left)
        lines += [
            _rule(width),
            *(_recent_line(view, snapshot.now, width, is_selected=view is chosen) for view in recent),
        ]
    lines = lines[:room]
    return [*head, *lines, *[Text()] * (room - len(lines)), *foot]


def _running(
    views: Sequence[MigrationView], chosen: MigrationView | None, width: int, room: int, below: int
) -> list[Text]:
    """Return a line for each running migration, with its sentence if all sentences and the blocks below fit."""
    sentences = [_sentence(view, width) for view in views]
    is_roomy = len(views) + sum(map(len, sentences)) + below + 2 <= room
    shown = views if is_roomy else _window(views, chosen, max(3, room - min(below, room // 2) - 2))
    lines = []
    for view, sentence in zip(views, sentences, strict=True):
        if view in shown:
            lines += [_running_line(view, width, is_selected=view is chosen), *(sentence if is_roomy else [])]
    left_out = len(views) - len(shown)
    return [*lines, Text(f"{INDENT}… and {left_out} more", style=DIM)] if left_out else lines


def _window(views: Sequence[MigrationView], chosen: MigrationView | None, most: int) -> Sequence[MigrationView]:
    """Return as many neighbours as fit, including the selected migration."""
    place = next((index for index, view in enumerate(views) if view is chosen), 0)
    start = max(0, min(place - most // 2, len(views) - most))
    return views[start : start + most]


def _shortened(lines: list[Text], most: int) -> list[Text]:
    """Return as many lines as fit; the last line then refers to the full report."""
    if len(lines) <= most or most == 0:
        return lines[:most]
    return [*lines[: most - 1], Text(f"{INDENT}… enter shows the rest", style=DIM)]


def report_frame(view: MigrationView, offset: int, width: int, height: int) -> list[Text]:
    """Return the lines of one migration's full report from `offset` on."""
    lines = migration_lines(view, min(width, MAX_WIDTH))
    room = max(0, height - 1)
    shown = lines[clamped(offset, len(lines), room) :][:room]
    return [*shown, *[Text()] * (room - len(shown)), Text(_REPORT_KEYS, style=DIM)]


def clamped(offset: int, lines: int, room: int) -> int:
    """Return the offset, limited so that scrolling stops at the end of a report."""
    return max(0, min(offset, lines - room))


def _title(snapshot: Snapshot, width: int) -> Text:
    stalled = sum(state_of(view)[1] == "bad" for view in snapshot.running)
    counts: list[str | tuple[str, str]] = [f"{len(snapshot.running)} running"]
    if stalled:
        counts += [", ", (f"{stalled} stalled", _TONES["bad"])]
    clock = f"{snapshot.now:%H:%M:%S} UTC"
    room = max(1, width - 30 - len(clock))
    left = Text.assemble((literal(snapshot.source, room), BOLD), "  ", *counts)
    gap = max(1, width - left.cell_len - len(clock))
    line = left + Text(" " * gap) + Text(clock, style=DIM)
    line.truncate(width)
    return line


def _problem(snapshot: Snapshot, width: int) -> list[Text]:
    return paragraph([literal(snapshot.problem, 2 * width)], width)[:2] if snapshot.problem else []


def _notice(snapshot: Snapshot, width: int) -> list[Text]:
    return paragraph([literal(snapshot.notice, 4 * width)], width)[:4] if snapshot.notice else []


def _running_line(view: MigrationView, width: int, *, is_selected: bool) -> Text:
    state, tone = state_of(view)
    taken = 2 + _STATE_CELLS + _PLACE_CELLS + _TIME_CELLS + _PENDING_CELLS + 4
    name_cells = min(_MAX_NAME_CELLS, max(_MIN_NAME_CELLS, (width - taken) // 2))
    spark_cells = min(_MAX_SPARK_CELLS, max(0, width - taken - name_cells))
    values = [pending for _, pending in boundaries(view)]
    pending = size(values[-1]) if values else size(view.pending_bytes)
    line = Text.assemble(
        ("▸ " if is_selected else INDENT, ACCENT),
        (_cut(view.vm, name_cells), BOLD if is_selected else ""),
        " ",
        (f"{state:<{_STATE_CELLS}}", _TONES[tone]),
        f"{_place(view):<{_PLACE_CELLS}}",
        f"{duration_cell(view.elapsed_seconds):>{_TIME_CELLS}}",
        " ",
        f"{pending:>{_PENDING_CELLS}}",
        "  ",
        (sparkline(values[-200:], spark_cells), ACCENT),
    )
    line.truncate(width)
    line.rstrip()
    return line


def _recent_line(view: MigrationView, now: datetime, width: int, *, is_selected: bool) -> Text:
    state, tone = state_of(view)
    took = view.elapsed_seconds if view.duration_seconds is None else view.duration_seconds
    line = Text.assemble(
        ("▸ " if is_selected else INDENT, ACCENT),
        (_cut(view.vm, 24), BOLD if is_selected else ""),
        " ",
        (f"{state:<13}", _TONES[tone]),
        f"{duration(took):>12}  {_stop_of(view):<{_STOP_CELLS}} ",
        (ago(view.start_time + timedelta(seconds=took), now), DIM),
    )
    line.truncate(width)
    line.rstrip()
    return line


def _stop_of(view: MigrationView) -> str:
    """Return the downtime, or the blackout if it has other pauses; nothing if the stop of the guest was not printed."""
    if view.side is Side.DESTINATION or view.downtime_is_partial:
        return ""
    is_downtime = view.downtime_seconds is not None and all(pause.by is PauseCause.DOWNTIME for pause in view.pauses)
    seconds, noun = (view.downtime_seconds, "downtime") if is_downtime else (view.blackout_seconds, "blackout")
    return f"{duration(seconds)} {noun}" if seconds is not None else ""


def _sentence(view: MigrationView, width: int) -> list[Text]:
    """Return the sentence below a line, without the name in that line."""
    parts: list[Part] = list(headline(view)[1:])
    if parts and parts[0] == " ":
        del parts[0]
    return [Text("    ") + line for line in paragraph(parts, width - 4)]


def _details(view: MigrationView, width: int) -> list[Text]:
    lines = paragraph(headline(view), width)
    for note in notes(view):
        lines += paragraph([note], width)
    for advice in view.verdict.advice:
        lines += command(advice.virsh, INDENT, width, style=ACCENT, continuation=" \\")
        lines += command(advice.price, INDENT * 2, width)
    return lines


def _rule(width: int) -> Text:
    return Text("─" * width, style=DIM)


def _place(view: MigrationView) -> str:
    if view.kind in KIND_WORDS:
        return str(view.kind)
    if view.last_phase is PhaseName.ITERATE and view.rounds:
        return f"round {view.rounds[-1].number}"
    return PHASE_WORDS[view.last_phase] if view.last_phase is not None else "starting"


def _cut(words: str, cells: int) -> str:
    text = literal(words, cells) or "(no name)"
    return text + " " * (cells - cell_len(text))


def plain_lines(lines: Sequence[Text]) -> str:
    """Return lines as plain text."""
    return "".join(f"{line.plain.rstrip()}\n" for line in lines)
