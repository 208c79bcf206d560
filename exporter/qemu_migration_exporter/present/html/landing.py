"""The landing page: a card for each running or recently ended migration, and a table of the streams."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from qemu_migration_exporter import __version__
from qemu_migration_exporter.present.html.card import MAX_NAME, Card, card
from qemu_migration_exporter.present.html.environment import ENVIRONMENT
from qemu_migration_exporter.present.units import plural
from qemu_migration_exporter.present.view import MigrationView, Page, StreamView
from qemu_migration_exporter.present.wording.states import ago, state_of
from qemu_migration_exporter.present.wording.styled import literal

REFRESH_SECONDS: Final = 5

#: Cards on the page; the metrics and the JSON have all migrations.
MAX_RUNNING: Final = 100
MAX_RECENT: Final = 50
MAX_STREAMS: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class _StreamRow:
    name: str
    light: str
    state: str
    format: str
    last_event: str
    lines: str
    malformed: str
    surprises: str


def landing_page(page: Page | None, links: Mapping[str, str]) -> str:
    """Return the page as HTML; `links` has a title for each path, and without data the page has only these."""
    cards: dict[str, list[Card]] = {"running": [], "recent": []}
    streams: list[_StreamRow] = []
    if page is not None:
        cards["running"] = [card(view, page.now, page.trace_url) for view in _worst_first(page)[:MAX_RUNNING]]
        cards["recent"] = [card(view, page.now, page.trace_url) for view in page.recent[:MAX_RECENT]]
        streams = [_stream(stream, page.now) for stream in page.streams[:MAX_STREAMS]]
    return ENVIRONMENT.get_template("landing.html").render(
        cards=cards,
        clock=f"{page.now:%H:%M:%S} UTC" if page is not None else "",
        # Relative, for a proxy that serves this page below a path of its own.
        links={path.removeprefix("/") or ".": title for path, title in links.items()},
        omitted=_omitted(page) if page is not None else {},
        page=page,
        refresh=REFRESH_SECONDS if page is not None else 0,
        streams=streams,
        summary=_summary(page) if page is not None else "",
        version=__version__,
    )


def _worst_first(page: Page) -> list[MigrationView]:
    return sorted(page.running, key=lambda view: state_of(view)[1] != "bad")


def _summary(page: Page) -> str:
    stalled = sum(state_of(view)[1] == "bad" for view in page.running)
    down = sum(stream.is_down for stream in page.streams)
    return " · ".join(
        [
            f"{len(page.running)} running",
            *([f"{stalled} stalled"] if stalled else []),
            f"{len(page.recent)} recent",
            plural(len(page.streams), "stream") + (f", {down} not read" if down else ""),
        ]
    )


def _omitted(page: Page) -> dict[str, int]:
    return {
        "running": max(len(page.running) - MAX_RUNNING, 0),
        "recent": max(len(page.recent) - MAX_RECENT, 0),
        "streams": max(len(page.streams) - MAX_STREAMS, 0),
    }


def _stream(stream: StreamView, now: datetime) -> _StreamRow:
    problem = literal(stream.problem, 2 * MAX_NAME) if stream.problem else "not read"
    return _StreamRow(
        name=literal(stream.name, 2 * MAX_NAME),
        light="good" if stream.is_up else "bad" if stream.is_down else "plain",
        state="reading" if stream.is_up else problem,
        format=literal(f"{stream.format or 'not known yet'}, {stream.clock} clock", MAX_NAME),
        last_event="none yet" if stream.last_event_time is None else ago(stream.last_event_time, now),
        lines=_count(stream.lines),
        malformed=_count(stream.malformed),
        surprises=_count(sum(stream.surprises.values())),
    )


def _count(number: int) -> str:
    """Return a count in groups of digits that no line break tears apart."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
