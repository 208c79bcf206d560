"""What the landing page shows, as frozen records; whoever serves the page makes them."""

from __future__ import annotations

from dataclasses import dataclass

from qemu_migration_exporter.core.model import ClockKind, Identity, Progress, Result, Round
from qemu_migration_exporter.present.advice import Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationView:
    """A migration as it is now.

    Attributes:
        rounds: Those known, the one that runs included.
        result: None while it runs.
        outcome_ns: When it ended; None while it runs and where its stream ended first.
        duration_ns: Of all of it; so far while it runs, None where it is unknown.
        downtime_ns: How long the guest was stopped; None as long as that is not known.
        sentence: What a person asks first: how it ended, or where it stands and what is missing. Plain text.
        advice: What would end the stall that holds.
        error: QEMU's words, where they are not in the sentence.
    """

    identity: Identity
    progress: Progress
    rounds: tuple[Round, ...]
    result: Result | None
    outcome_ns: int | None
    duration_ns: int | None
    downtime_ns: int | None
    sentence: str
    advice: tuple[Advice, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """A stream as it is now.

    Attributes:
        format: None as long as no line told.
        is_up: Whether it is being read; lines may be far between.
        problem: Why it is not, in a few words.
        last_event_ns: When the last line that is an event came.
    """

    name: str
    format: str | None
    clock: ClockKind
    is_up: bool
    last_event_ns: int | None
    lines: int
    events: int
    malformed: int
    surprises: int
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All of the landing page.

    Attributes:
        now_ns: When this was true, in nanoseconds since the Unix epoch.
        running: The longest running first.
        recent: The last to end first.
        trace_url: Where a trace is shown, with `{trace_id}` in it; see `check_template`.
    """

    now_ns: int
    running: tuple[MigrationView, ...] = ()
    recent: tuple[MigrationView, ...] = ()
    streams: tuple[StreamView, ...] = ()
    trace_url: str | None = None
