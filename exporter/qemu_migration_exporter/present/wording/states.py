"""Words for the state of a migration and for the age of an event, for pages and terminals."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from qemu_migration_exporter.core.model import PhaseName, Result
from qemu_migration_exporter.present.view import MigrationView

Tone = Literal["good", "bad", "busy", "plain"]

_UNITS: Final = {"days": 86_400, "h": 3_600, "min": 60, "s": 1}
_TONES: Final[dict[Result, Tone]] = {
    Result.COMPLETED: "good",
    Result.FAILED: "bad",
    Result.CANCELLED: "plain",
    Result.UNKNOWN: "plain",
}


def state_of(view: MigrationView) -> tuple[str, Tone]:
    """Return a word for the state of a migration, and its tone."""
    if not view.running:
        word = "end not seen" if view.result is Result.UNKNOWN else str(view.result)
        return word, _TONES[view.result]
    if view.state == "postcopy-paused":
        return "paused", "bad"
    if view.verdict.converging is False:
        return "stalled", "bad"
    if view.last_phase is PhaseName.POSTCOPY:
        return "post-copy", "busy"
    return ("converging", "good") if view.verdict.converging else ("running", "busy")


def ago(at: datetime, now: datetime) -> str:
    """Return the age of an event in words; the clocks of the stream and of this host may differ a little."""
    seconds = max(int((now - at).total_seconds()), 0)
    for unit, unit_seconds in _UNITS.items():
        if seconds >= 2 * unit_seconds:
            return f"{seconds // unit_seconds} {unit} ago"
    return "just now"
