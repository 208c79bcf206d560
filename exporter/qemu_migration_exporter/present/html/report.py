"""The full report as a self-contained HTML file, to print or to attach to a ticket.

The function fills one template with sections that mirror the text report: sentence, advice, phases, downtime parts,
rounds. The chart of pending bytes is inline SVG. The page loads no file, so that it can be attached to a ticket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from qemu_migration_exporter import __version__
from qemu_migration_exporter.config.addresses import trace_url
from qemu_migration_exporter.core.model import ClockKind, PhaseName
from qemu_migration_exporter.present.downtime import DowntimeRow, downtime_rows, downtime_title, part_time
from qemu_migration_exporter.present.html.card import MAX_NAME, Option
from qemu_migration_exporter.present.html.chart import FULL, PendingChart, pending_chart
from qemu_migration_exporter.present.html.environment import ENVIRONMENT
from qemu_migration_exporter.present.html.landing import REFRESH_SECONDS
from qemu_migration_exporter.present.rounds import best_round, byte_unit, shown_rounds
from qemu_migration_exporter.present.units import UNKNOWN, cell, duration, share
from qemu_migration_exporter.present.view import MigrationView, PhaseView, Report, RoundView
from qemu_migration_exporter.present.wording.sentences import headline_text, no_migration, notes, stream_text
from qemu_migration_exporter.present.wording.states import state_of
from qemu_migration_exporter.present.wording.styled import literal

#: Rounds in the table; the chart shows all of them.
_MAX_ROUNDS: Final = 200
_FIRST_ROUNDS: Final = 20
_LAST_ROUNDS: Final = 100
#: A stream's counts, or a remark with the keys of a script.
_MAX_LINE_CELLS: Final = 600


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a row, in hundredths of the table's scale."""

    x: str
    width: str
    tone: str


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: cells, and an optional bar."""

    cells: tuple[str, ...]
    bar: Bar | None = None
    tone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the report."""

    title: str
    rows: tuple[Row, ...]
    heads: tuple[str, ...] = ()
    remark: str = ""
    has_bars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The report of one migration."""

    vm: str
    badge: str
    tone: str
    sentence: str
    notes: tuple[str, ...]
    identification: str
    trace: str | None
    advice_title: str
    options: tuple[Option, ...]
    chart: PendingChart | None
    tables: tuple[Table, ...]


def html_report(report: Report, now: datetime) -> str:
    """Return the report of a replay."""
    names = sorted({view.vm for view in report.migrations})
    title = f"QEMU migration report: {literal(', '.join(names), MAX_NAME)}" if names else "QEMU migration report"
    streams = [line for stream in report.streams for line in (stream_text(stream), *stream.remarks)]
    return _render(
        title,
        report.migrations,
        now,
        streams=[literal(line, _MAX_LINE_CELLS) for line in streams],
        empty=no_migration(report),
    )


def migration_page(view: MigrationView, now: datetime, *, template: str | None = None) -> str:
    """Return the daemon's report of one migration; while the migration runs, the page refreshes itself."""
    title = f"{literal(view.vm, MAX_NAME)}: {state_of(view)[0]}"
    return _render(title, [view], now, template=template, home="../", refresh=REFRESH_SECONDS if view.running else 0)


def _render(
    title: str,
    views: Sequence[MigrationView],
    now: datetime,
    *,
    template: str | None = None,
    streams: Sequence[str] = (),
    empty: str = "",
    home: str = "",
    refresh: int = 0,
) -> str:
    return ENVIRONMENT.get_template("report.html").render(
        title=title,
        sections=[_section(view, template) for view in views],
        streams=streams,
        empty=empty,
        clock=f"{now:%Y-%m-%d %H:%M:%S} UTC",
        home=home,
        refresh=refresh,
        version=__version__,
    )


def _section(view: MigrationView, template: str | None) -> Section:
    badge, tone = state_of(view)
    advice = view.verdict.advice or view.verdict.past_advice
    return Section(
        vm=literal(view.vm, MAX_NAME) or "(no name)",
        badge=badge,
        tone=tone,
        sentence=headline_text(view),
        notes=tuple(notes(view)),
        identification=_identification(view),
        trace=trace_url(template, view.trace_id),
        advice_title="What would end it" if view.verdict.advice else "What would have ended it",
        options=tuple(Option(each.virsh, each.price, each.qmp) for each in advice),
        chart=pending_chart(view, FULL),
        tables=tuple(table for table in (_phases(view), _downtime(view), _rounds(view)) if table.rows),
    )


def _identification(view: MigrationView) -> str:
    began = "" if view.clock is ClockKind.RECONSTRUCTED else f"began {view.start_time:%Y-%m-%d %H:%M:%S} UTC"
    uuid = f"uuid {literal(view.uuid, MAX_NAME)}" if view.uuid else ""
    parts = (began, uuid, f"trace {literal(view.trace_id, MAX_NAME)}", literal(view.stream, 2 * MAX_NAME))
    return " · ".join(part for part in parts if part)


def _phases(view: MigrationView) -> Table:
    ends = [phase.start_seconds + (phase.duration_seconds or 0) for phase in view.phases]
    last = max([view.elapsed_seconds if view.duration_seconds is None else view.duration_seconds, *ends, 1e-9])
    rows = [_phase_row(phase, view, last) for phase in sorted(view.phases, key=lambda phase: phase.start_seconds)]
    start, took = view.downtime_start_seconds, view.downtime_seconds
    if start is not None and view.is_timed:
        place = sum(1 for phase in view.phases if phase.start_seconds <= start)
        length = last - start if took is None else took
        cells = ("downtime", duration(start), duration(length))
        rows.insert(place, Row(cells, _bar(start, length, last, "down")))
    for pause in view.pauses:
        if pause.by != "downtime" and view.is_timed:
            length = (last if pause.end_seconds is None else pause.end_seconds) - pause.start_seconds
            cells = (f"guest {pause.by}", duration(pause.start_seconds), duration(length))
            rows.append(Row(cells, _bar(pause.start_seconds, length, last, "down")))
    return Table(title="Phases", heads=("phase", "start", "duration"), rows=tuple(rows), has_bars=True)


def _phase_row(phase: PhaseView, view: MigrationView, last: float) -> Row:
    if not (view.is_timed or phase.name is PhaseName.ITERATE):
        return Row((str(phase.name), UNKNOWN, UNKNOWN))
    length = last - phase.start_seconds if phase.is_open else phase.duration_seconds or 0.0
    cells = (str(phase.name), duration(phase.start_seconds), duration(length))
    return Row(cells, _bar(phase.start_seconds, length, last, "open" if phase.is_open else "part"))


def _downtime(view: MigrationView) -> Table:
    rows = downtime_rows(view)
    longest = max((row.seconds for row in rows), default=0.0)
    whole = view.downtime_seconds
    title, remark = downtime_title(view) if view.downtime_parts else ("Devices", "their part of the downtime")
    return Table(
        title=title,
        remark=remark,
        rows=tuple(_part_row(row, whole, longest) for row in rows),
        has_bars=True,
    )


def _part_row(row: DowntimeRow, whole: float | None, longest: float) -> Row:
    shares = () if whole is None else (share(row.seconds, whole),)
    cells = (row.name, part_time(row.seconds, longest), *shares)
    return Row(cells, _bar(0, row.seconds, longest, "down"), "soft" if row.is_rest else "")


def _rounds(view: MigrationView) -> Table:
    unit, name = byte_unit(view.rounds)
    best = best_round(view)
    rows: list[Row] = []
    for shown in shown_rounds(view, most=_MAX_ROUNDS, first=_FIRST_ROUNDS, last=_LAST_ROUNDS):
        if shown.left_out:
            rows.append(Row((f"… and {shown.left_out} more", *[""] * 9), tone="soft"))
        rows.append(_round_row(shown.round, view, unit, best))
    heads = (
        "round", "start", "duration", "sent", "dirtied again", "bandwidth", "pending at start", "pending at end",
        "threshold", "",
    )  # fmt: skip
    return Table(title="Rounds", remark=f"in {name} and {name}/s", heads=heads, rows=tuple(rows))


def _round_row(row: RoundView, view: MigrationView, unit: int, best: int | None) -> Row:
    took = view.elapsed_seconds - row.start_seconds if row.duration_seconds is None else row.duration_seconds
    mark = "bulk" if view.is_bulk(row) else "best" if row.number == best else ""
    if row.duration_seconds is None:
        mark = "not over"
    sizes = (
        row.transferred_bytes, row.dirtied_bytes, row.bandwidth_bytes_per_second, row.pending_at_start_bytes,
        row.pending_at_end_bytes, row.threshold_bytes,
    )  # fmt: skip
    cells = (str(row.number), duration(row.start_seconds), duration(took), *(cell(size, unit) for size in sizes), mark)
    return Row(cells, tone="best" if mark == "best" else "")


def _bar(start: float, length: float, whole: float, tone: str) -> Bar:
    scale = 100 / max(whole, 1e-9)
    width = max(length * scale, 0.4)  # a phase too short for the scale stays visible
    return Bar(f"{min(start * scale, 100 - width):.2f}", f"{width:.2f}", tone)
