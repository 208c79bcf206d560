"""One migration, in the words and numbers of its card on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from qemu_migration_exporter.config.addresses import trace_url
from qemu_migration_exporter.core.model import Mode, PhaseName, Result, Side
from qemu_migration_exporter.ops.sanitize import printable
from qemu_migration_exporter.present.html.chart import Rounds, Share, rounds_of, share_of
from qemu_migration_exporter.present.units import UNKNOWN, duration, limit, moment_of, plural, rate, seconds_of, size
from qemu_migration_exporter.present.view import MigrationView

MAX_NAME: Final = 64
MAX_WORDS: Final = 600

_PHASES: Final = {
    PhaseName.SETUP: "setup",
    PhaseName.ITERATE: "iterating",
    PhaseName.COMPLETE_PRECOPY: "switchover",
    PhaseName.POSTCOPY: "post-copy",
    PhaseName.CLEANUP: "cleanup",
}
_UNITS: Final = {"days": 86_400, "h": 3_600, "min": 60, "s": 1}
_SIDES: Final = {Side.SOURCE: "outgoing", Side.DESTINATION: "incoming", None: "direction unknown"}
_TONES: Final = {
    Result.COMPLETED: "good",
    Result.FAILED: "bad",
    Result.CANCELLED: "plain",
    Result.UNKNOWN: "plain",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """A number with its name; `tone` is good, bad or none."""

    name: str
    value: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """One thing to do: a command, and what it costs."""

    command: str
    price: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """All that a card shows."""

    vm: str
    uuid: str | None
    side: str
    badge: str
    tone: str
    place: str
    sentence: str
    options: tuple[Option, ...]
    error: str | None
    facts: tuple[Fact, ...]
    rounds: Rounds | None
    share: Share | None
    trace: str | None
    trace_id: str
    at: str
    at_iso: str


def card(view: MigrationView, now_ns: int, template: str | None) -> Card:
    """Make the card of a migration."""
    badge, tone = _badge(view)
    moment, at = _moment(view, now_ns)
    return Card(
        vm=shown(view.identity.vm, MAX_NAME) or "(no name)",
        uuid=shown(view.identity.uuid, MAX_NAME) if view.identity.uuid else None,
        side=_SIDES[view.identity.side],
        badge=badge,
        tone=tone,
        place=_place(view),
        sentence=shown(view.sentence, MAX_WORDS),
        options=tuple(Option(shown(each.virsh, MAX_WORDS), each.price) for each in view.advice),
        error=shown(view.error, MAX_WORDS) if view.error else None,
        facts=tuple(_running_facts(view) if view.result is None else _ended_facts(view)),
        rounds=rounds_of(view),
        share=share_of(view),
        trace=trace_url(template, view.identity.trace_id),
        trace_id=shown(view.identity.trace_id, MAX_NAME),
        at=at,
        at_iso=clock(moment, "%Y-%m-%dT%H:%M:%SZ"),
    )


def shown(words: str, most: int) -> str:
    """Make a tenant's words harmless to look at: escape what is not printable, leave out the middle of what is long.

    Not printable are also the characters that turn the direction of writing. HTML is escaped where the page is made.
    """
    if len(words) > 2 * most:  # what is left out is not looked at
        words = f"{words[:most]}{words[-most:]}"
    safe = printable(words)
    head = (most - 1) // 2
    return safe if len(safe) <= most else f"{safe[:head]}…{safe[head + 1 - most :]}"


def clock(at_ns: int, form: str = "%H:%M:%S UTC") -> str:
    """Write a time of day, in UTC as logs and Prometheus have it."""
    return moment_of(at_ns).strftime(form)


def ago(at_ns: int, now_ns: int) -> str:
    """Say how long ago something was; the clocks of a stream and of ours may differ a little."""
    seconds = max(now_ns - at_ns, 0) // 1_000_000_000
    for unit, its_seconds in _UNITS.items():
        if seconds >= 2 * its_seconds:
            return f"{seconds // its_seconds} {unit} ago"
    return "just now"


def _moment(view: MigrationView, now_ns: int) -> tuple[int, str]:
    if view.result is None:
        start_ns = view.identity.start_ns
        return start_ns, f"{'seen since' if view.identity.partial else 'since'} {clock(start_ns)}"
    if view.outcome_ns is None:
        return view.identity.start_ns, f"began {ago(view.identity.start_ns, now_ns)}"
    return view.outcome_ns, ago(view.outcome_ns, now_ns)


def _badge(view: MigrationView) -> tuple[str, str]:
    if view.result is not None:
        word = "end not seen" if view.result is Result.UNKNOWN else str(view.result)
        return word, _TONES[view.result]
    if view.progress.state == "postcopy-paused":
        return "paused", "bad"
    if view.progress.verdict.converging is False:
        return "stalled", "bad"
    if view.progress.phase is PhaseName.POSTCOPY:
        return "post-copy", "busy"
    return ("converging", "good") if view.progress.verdict.converging else ("running", "busy")


def _place(view: MigrationView) -> str:
    progress = view.progress
    phase = _PHASES[progress.phase] if progress.phase is not None else "starting"
    if view.result is not None:
        rounds = [plural(view.rounds[-1].number, "round")] if view.rounds else []
        return " · ".join([*rounds, *(["post-copy"] if progress.mode is Mode.POSTCOPY else [])])
    if progress.phase is not PhaseName.ITERATE or not progress.round:
        return phase
    return f"{phase} · round {progress.round}"


def _running_facts(view: MigrationView) -> list[Fact]:
    progress, verdict = view.progress, view.progress.verdict
    facts = [Fact("running for", _time(view.duration_ns))]
    if progress.transferred_bytes is not None:
        facts.append(Fact("sent", size(progress.transferred_bytes)))
    if progress.bandwidth_bytes_per_second is not None:
        facts.append(Fact("sending", rate(progress.bandwidth_bytes_per_second)))
    if progress.dirty_bytes_per_second is not None:
        facts.append(Fact("dirtied", rate(progress.dirty_bytes_per_second)))
    if verdict.best_pending_bytes is not None and progress.phase is PhaseName.ITERATE:
        facts.append(Fact("least pending", f"{size(verdict.best_pending_bytes)} in round {verdict.best_round}"))
    if progress.throttle_ratio:
        facts.append(Fact("guest throttled", f"{100 * progress.throttle_ratio:.0f} %"))
    if verdict.eta_seconds is not None:
        low, high = verdict.eta_seconds
        facts.append(Fact("ends in", f"{duration(low)} to {duration(high)}"))
    return [*facts, *_downtime(view)]


def _ended_facts(view: MigrationView) -> list[Fact]:
    facts = [Fact("took", _time(view.duration_ns))]
    if view.progress.transferred_bytes is not None:
        facts.append(Fact("sent", size(view.progress.transferred_bytes)))
    return [*facts, *_downtime(view)]


def _downtime(view: MigrationView) -> list[Fact]:
    """Set the downtime against its limit: the one there was, else the one that ending now would take."""
    most, needed = view.progress.downtime_limit_seconds, view.progress.verdict.required_downtime_seconds
    is_needed = view.downtime_ns is None and view.result is None and view.progress.phase is PhaseName.ITERATE
    seconds = needed if is_needed else seconds_of(view.downtime_ns)
    if seconds is None:
        # What ended otherwise had none; what completed may have kept it to itself.
        is_open = view.result is None or view.result is Result.COMPLETED
        return [Fact("downtime limit", limit(most))] if is_open and most is not None else []
    against = "" if most is None else f" (limit {limit(most, seconds)})"
    tone = "" if most is None else ("bad" if seconds > most else "good")
    return [Fact("needs a downtime of" if is_needed else "downtime", f"{duration(seconds)}{against}", tone)]


def _time(duration_ns: int | None) -> str:
    return UNKNOWN if duration_ns is None else duration(seconds_of(duration_ns))
