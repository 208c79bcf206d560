"""The landing page: HTML without JavaScript and without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from qemu_migration_exporter import __version__
from qemu_migration_exporter.present.html.card import MAX_NAME, ago, card, clock, shown
from qemu_migration_exporter.present.html.chart import HEIGHT, WIDTH
from qemu_migration_exporter.present.units import plural
from qemu_migration_exporter.present.view import Page, StreamView

REFRESH_SECONDS: Final = 5

#: A page of thousands of migrations would be read by nobody; the metrics and the JSON have them all.
MAX_RUNNING: Final = 100
MAX_RECENT: Final = 50
MAX_STREAMS: Final = 500


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


_STYLE: Final = _resource("page.css")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

#: The browser is to run nothing and to fetch nothing, whatever a virtual machine is called.
HEADERS: Final = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none';"
        " frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}

_ENVIRONMENT: Final = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_TEMPLATE: Final = _ENVIRONMENT.from_string(_resource("page.html"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _StreamRow:
    name: str
    is_up: bool
    state: str
    format: str
    last_event: str
    lines: str
    malformed: str
    surprises: str


def render(page: Page | None, links: Mapping[str, str]) -> str:
    """Write the page; without data it only has the links, as path to title."""
    now_ns = page.now_ns if page is not None else 0
    cards: dict[str, list[object]] = {"running": [], "recent": []}
    streams: list[_StreamRow] = []
    if page is not None:
        cards["running"] = [card(each, now_ns, page.trace_url) for each in page.running[:MAX_RUNNING]]
        cards["recent"] = [card(each, now_ns, page.trace_url) for each in page.recent[:MAX_RECENT]]
        streams = [_stream(each, now_ns) for each in page.streams[:MAX_STREAMS]]
    return _TEMPLATE.render(
        cards=cards,
        chart={"width": WIDTH, "height": HEIGHT},
        clock=clock(now_ns),
        # Relative, for a proxy that serves this page below a path of its own.
        links={path.removeprefix("/") or ".": title for path, title in links.items()},
        omitted=_omitted(page) if page is not None else {},
        page=page,
        refresh=REFRESH_SECONDS,
        streams=streams,
        style=Markup(_STYLE),  # noqa: S704 - a file of ours, without `<`
        summary=_summary(page) if page is not None else "",
        version=__version__,
    )


def _summary(page: Page) -> str:
    stalled = sum(
        each.progress.verdict.converging is False or each.progress.state == "postcopy-paused" for each in page.running
    )
    down = sum(not stream.is_up for stream in page.streams)
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


def _stream(stream: StreamView, now_ns: int) -> _StreamRow:
    problem = shown(stream.problem, 2 * MAX_NAME) if stream.problem else "not read"
    return _StreamRow(
        name=shown(stream.name, 2 * MAX_NAME),
        is_up=stream.is_up,
        state="reading" if stream.is_up else problem,
        format=shown(f"{stream.format or 'not known yet'}, {stream.clock} clock", MAX_NAME),
        last_event="none yet" if stream.last_event_ns is None else ago(stream.last_event_ns, now_ns),
        lines=_count(stream.lines),
        malformed=_count(stream.malformed),
        surprises=_count(stream.surprises),
    )


def _count(number: int) -> str:
    """Write a count in groups of digits that no line break tears apart."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
