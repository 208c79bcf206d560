"""Clauses on the guest's standstill: QEMU's downtime, and all other pauses.

The guest's owner notices the blackout, which is the downtime plus suspensions and I/O errors. If downtime and blackout
differ, the sentence begins with the blackout and lists its parts.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from qemu_migration_exporter.core.model import Kind, PauseCause, Result, Side
from qemu_migration_exporter.present.downtime import longest_part
from qemu_migration_exporter.present.units import duration, limit
from qemu_migration_exporter.present.view import MigrationView
from qemu_migration_exporter.present.wording.styled import Part, Role

#: Blackout and downtime are measured by different marks, so a smaller difference is not a pause.
_SAME_SECONDS: Final = 0.005
_SAME_SHARE: Final = 0.02

_CAUSES: Final = {
    PauseCause.SUSPENDED: "suspended",
    PauseCause.IO_ERROR: "paused by an I/O error",
}


def standstill(view: MigrationView) -> list[Part]:
    """Return the clause for a completed migration: the downtime and its limit, or the blackout and its parts."""
    if view.side is Side.DESTINATION:  # a destination does not print when the guest was stopped
        return []
    others = _other_pauses(view)
    downtime, blackout = view.downtime_seconds, view.blackout_seconds
    if view.kind is not Kind.LIVE:  # the limit is for live migrations
        still = (
            downtime if blackout is None and view.kind is not Kind.SAVE else blackout
        )  # a saved guest is paused first
        return [] if still is None else [f"the guest stood still for {duration(still)}"]
    if blackout is None or not others or not _differ(blackout, downtime or 0.0):
        return [_downtime(view)]
    parts = [f"{duration(seconds)} {words}" for words, seconds in others.items()]
    return [
        (f"the guest stood still for {duration(blackout)}", Role.KEY),
        f"of which {', '.join(parts)}",
        _downtime(view),
    ]


def standstill_note(view: MigrationView) -> list[str]:
    """Return a sentence on the standstill of a migration that did not complete, or on the present pause."""
    if view.paused_since_seconds is not None and not view.is_over and view.pause_cause is not PauseCause.DOWNTIME:
        cause = _cause(view.pause_cause)
        return [f"The guest has stood still for {duration(view.elapsed_seconds - view.paused_since_seconds)}: {cause}."]
    part = longest_part(view)
    limit_seconds = view.downtime_limit_seconds
    if part is not None and view.result is Result.COMPLETED and limit_seconds is not None:
        is_over = (view.downtime_seconds or 0) > limit_seconds
        return [f"Most of the downtime, {duration(part.seconds)}, was {part.activity}."] if is_over else []
    if view.error is not None and view.error.startswith("QEMU ended"):  # and the guest with it
        return []
    is_unsuccessful = view.is_over and view.result is not Result.COMPLETED
    if not is_unsuccessful or not view.blackout_seconds:
        return []
    return [f"The guest stood still for {duration(view.blackout_seconds)}."]


def _downtime(view: MigrationView) -> Part:
    seconds, limit_seconds = view.downtime_seconds, view.downtime_limit_seconds
    if seconds is None:
        against = f" (limit {limit(limit_seconds)})" if limit_seconds is not None else ""
        return f"unknown downtime{against}"
    if view.downtime_is_partial:
        against = f" (limit {limit(limit_seconds, seconds)})" if limit_seconds is not None else ""
        return f"at least {duration(seconds)} of downtime{against}"
    if limit_seconds is None:
        return f"{duration(seconds)} of downtime"
    if seconds > limit_seconds:
        return f"{duration(seconds)} of downtime, over the limit of {limit(limit_seconds, seconds)}", Role.KEY
    return f"{duration(seconds)} of downtime within its limit of {limit(limit_seconds, seconds)}"


def _other_pauses(view: MigrationView) -> dict[str, float]:
    """Return the seconds of pauses other than the downtime, by their cause in words."""
    sums: dict[str, float] = defaultdict(float)
    for pause in view.pauses:
        if pause.by is not PauseCause.DOWNTIME:
            end = pause.end_seconds if pause.end_seconds is not None else view.duration_seconds or view.elapsed_seconds
            sums[_cause(pause.by)] += max(0.0, end - pause.start_seconds)
    return sums


def _cause(by: PauseCause | None) -> str:
    if by is None:
        return "stopped"
    if by is PauseCause.DOWNTIME:
        return "stopped for the switchover"
    return _CAUSES.get(by, f"in QEMU's state {by}")


def _differ(left: float, right: float) -> bool:
    return abs(left - right) > max(_SAME_SECONDS, _SAME_SHARE * max(left, right))
