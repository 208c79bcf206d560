"""One migration as a card of the landing page: a badge, the sentence, the advice, and numbers to compare.

A card is made from a `MigrationView` and contains plain strings only; the template decides on markup. The sentence,
the advice and the numbers come from `present.wording`, so that page, report and log use the same words.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from qemu_migration_exporter.config.addresses import trace_url
from qemu_migration_exporter.core.model import Mode, PhaseName, Result, Side
from qemu_migration_exporter.present.html.chart import CARD, PendingChart, Share, pending_chart, rounds_count, share_of
from qemu_migration_exporter.present.units import duration, limit, rate, size
from qemu_migration_exporter.present.view import MigrationView
from qemu_migration_exporter.present.wording.sentences import KIND_WORDS, PHASE_WORDS, ending, headline_text, notes
from qemu_migration_exporter.present.wording.states import ago, state_of
from qemu_migration_exporter.present.wording.styled import literal

MAX_NAME: Final = 64

_SIDES: Final = {Side.SOURCE: "outgoing", Side.DESTINATION: "incoming", None: "direction unknown"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A number with its name; `tone` is good, bad or empty."""

    name: str
    value: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """A command, its cost, and the equivalent command for QEMU's own monitor."""

    command: str
    price: str
    qmp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The content of a card."""

    vm: str
    uuid: str | None
    kind: str
    badge: str
    tone: str
    place: str
    sentence: str
    notes: tuple[str, ...]
    options: tuple[Option, ...]
    facts: tuple[Fact, ...]
    chart: PendingChart | None
    share: Share | None
    trace: str | None
    trace_id: str
    report: str
    at: str
    at_iso: str


def card(view: MigrationView, now: datetime, template: str | None) -> Card:
    """Return the card of a migration."""
    badge, tone = state_of(view)
    moment, at = _moment(view, now)
    share = share_of(view)
    return Card(
        vm=literal(view.vm, MAX_NAME) or "(no name)",
        uuid=literal(view.uuid, MAX_NAME) if view.uuid else None,
        kind=KIND_WORDS.get(view.kind) or _SIDES[view.side],
        badge=badge,
        tone=tone,
        place=_place(view),
        sentence=headline_text(view),
        notes=tuple(notes(view)),
        options=options_of(view),
        facts=tuple(_running_facts(view) if view.running else _ended_facts(view)),
        chart=pending_chart(view, CARD) if share is None else None,
        share=share,
        trace=trace_url(template, view.trace_id),
        trace_id=literal(view.trace_id, MAX_NAME),
        report=trace_url_path(view.trace_id),
        at=at,
        at_iso=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
    )


def options_of(view: MigrationView) -> tuple[Option, ...]:
    """Return the commands that would end the stall in force."""
    return tuple(Option(advice.virsh, advice.price, advice.qmp) for advice in view.verdict.advice)


def trace_url_path(trace_id: str) -> str:
    """Return the path of a migration's report, relative to the landing page."""
    return f"migrations/{trace_id}" if trace_id.isalnum() and trace_id.isascii() else ""


def _moment(view: MigrationView, now: datetime) -> tuple[datetime, str]:
    start = view.start_time
    if view.running:
        return start, f"{'seen since' if view.joined else 'since'} {start:%H:%M:%S} UTC"
    if view.duration_seconds is None:
        return start, f"began {ago(start, now)}"
    end = start + timedelta(seconds=view.duration_seconds)
    return end, ago(end, now)


def _place(view: MigrationView) -> str:
    if not view.running:
        modes = ["post-copy"] if view.mode is Mode.POSTCOPY else []
        return " · ".join(word for word in (rounds_count(view), *modes) if word)
    phase = PHASE_WORDS[view.last_phase] if view.last_phase is not None else "starting"
    is_iterating = view.last_phase is PhaseName.ITERATE and view.rounds
    return f"{phase} · round {view.rounds[-1].number}" if is_iterating else phase


def _running_facts(view: MigrationView) -> list[Fact]:
    verdict = view.verdict
    facts = [Fact("running for", duration(view.elapsed_seconds))]
    if view.transferred_bytes is not None:
        facts.append(Fact("sent", size(view.transferred_bytes)))
    if view.bandwidth_bytes_per_second is not None:
        facts.append(Fact("sending, mean of 2 s", rate(view.bandwidth_bytes_per_second)))
    if view.dirty_bytes_per_second is not None:
        facts.append(Fact("dirtied, last round", rate(view.dirty_bytes_per_second)))
    if verdict.best_pending_bytes is not None and view.last_phase is PhaseName.ITERATE:
        facts.append(Fact("least pending", f"{size(verdict.best_pending_bytes)} in round {verdict.best_round}"))
    if view.throttle_ratio:
        facts.append(Fact("guest throttled", f"{100 * view.throttle_ratio:.0f} %"))
    if verdict.eta_seconds is not None:
        facts.append(Fact("ends", ending(verdict.eta_seconds)))
    return [*facts, *_downtime(view)]


def _ended_facts(view: MigrationView) -> list[Fact]:
    facts = [Fact("took", duration(view.duration_seconds))]
    if view.transferred_bytes is not None:
        facts.append(Fact("sent", size(view.transferred_bytes)))
    return [*facts, *_downtime(view)]


def _downtime(view: MigrationView) -> list[Fact]:
    """Return the downtime and its limit, or for a running migration the downtime required now."""
    most = view.downtime_limit_seconds
    is_needed = view.downtime_seconds is None and view.running and view.last_phase is PhaseName.ITERATE
    seconds = view.verdict.required_downtime_seconds if is_needed else view.downtime_seconds
    if seconds is None:
        # A failed migration had no downtime; the downtime of a completed migration may be missing in the stream.
        is_open = view.running or view.result is Result.COMPLETED
        return [Fact("downtime limit", limit(most))] if is_open and most is not None else []
    against = "" if most is None else f" (limit {limit(most, seconds)})"
    tone = "" if most is None else ("bad" if seconds > most else "good")
    return [Fact("needs a downtime of" if is_needed else "downtime", f"{duration(seconds)}{against}", tone)]
