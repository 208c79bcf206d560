"""The sentences a report begins with: how the migration ended, or where it stands, and what its rounds plainly say."""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.model import ClockKind, Migration, Mode, PhaseName, Result, Side
from qemu_migration_exporter.present.text.layout import ACCENT, BOLD, FAILED, Part, literal
from qemu_migration_exporter.present.text.stalls import open_stall, past, why
from qemu_migration_exporter.present.units import duration, limit, plural, rate, seconds_of, size, sizes_apart

_MAX_NAME_CELLS: Final = 48
_MAX_ERROR_CELLS: Final = 320

_PLACES: Final = {
    PhaseName.SETUP: "in setup",
    PhaseName.COMPLETE_PRECOPY: "in the switchover",
    PhaseName.POSTCOPY: "in post-copy",
}


def sentence(migration: Migration) -> list[Part]:
    """Say what a person asks first: how it ended, or where it stands and what is missing."""
    name = literal(migration.identity.vm, _MAX_NAME_CELLS) or "(no name)"
    subject: list[Part] = [(name, BOLD), " (incoming) " if migration.identity.side is Side.DESTINATION else " "]
    verdict = {
        Result.COMPLETED: _completed,
        Result.FAILED: _failed,
        Result.CANCELLED: _cancelled,
        Result.UNKNOWN: _unknown,
    }[migration.result](migration)
    return [*subject, *verdict]


def running_sentence(migration: Migration, now_ns: int) -> list[Part]:
    """Say where a migration stands that runs, and what is missing to its end."""
    name = literal(migration.identity.vm, _MAX_NAME_CELLS) or "(no name)"
    at_least = "at least " if migration.identity.partial else ""
    so_far = at_least + duration(max(0.0, (now_ns - migration.identity.start_ns) / 1e9))
    stall = open_stall(migration)
    if stall is not None:
        stalled: list[Part] = [" is ", ("stalled", FAILED), f" after {so_far}", _place(migration), ": "]
        return [(name, BOLD), *stalled, *why(stall, migration, now_ns), "."]
    arrives = "has been coming in" if migration.identity.side is Side.DESTINATION else "has been migrating"
    return [(name, BOLD), f" {arrives} for {so_far}", _place(migration), *_standing(migration), "."]


def notes(migration: Migration) -> list[str]:
    """Say what the rounds plainly show, and what the recording cannot tell."""
    said = [*past(migration), *_throttled(migration)]
    if migration.identity.clock is ClockKind.RECONSTRUCTED:
        said.append(
            "The stream has no times: durations are reconstructed from time_spent; "
            "setup, downtime and device times are unknown."
        )
    elif migration.identity.clock is ClockKind.ARRIVAL:
        said.append("The stream has no times: they are those at which its lines arrived.")
    if migration.identity.side is None:
        said.append("Nothing in the stream tells whether it was outgoing or incoming.")
    if migration.identity.partial:
        said.append("The beginning is missing from the recording: times and counts start where it does.")
    elif migration.partial and migration.outcome_ns is not None:
        said.append("Lines of it are missing from the recording.")
    return said


def last_phase(migration: Migration) -> PhaseName | None:
    """Return the phase in which it ended, or stands."""
    names = [phase.name for phase in migration.phases if phase.name is not PhaseName.CLEANUP]
    return names[-1] if names else None


def _completed(migration: Migration) -> list[Part]:
    # A destination does not print when the guest was stopped.
    downtime = [] if migration.identity.side is Side.DESTINATION else [_downtime(migration)]
    details = _joined([*downtime, *_post_copy(migration), *_sent(migration)], ": ")
    return [("completed", BOLD), _inferred(migration), *_after(migration, "in"), *details, "."]


def _failed(migration: Migration) -> list[Part]:
    reason = f"QEMU says “{literal(migration.error, _MAX_ERROR_CELLS)}”" if migration.error else "QEMU gave no reason"
    left = [f"{size(migration.progress.pending_bytes)} pending"] if migration.progress.pending_bytes else []
    counts = _joined([*_sent(migration, rounds=False), *left], ", with ", " and ")
    place = _place(migration)
    return [("failed", FAILED), _inferred(migration), *_after(migration, "after"), place, *counts, f"; {reason}."]


def _cancelled(migration: Migration) -> list[Part]:
    parts: list[Part] = ["was ", ("cancelled", BOLD), _inferred(migration), *_after(migration, "after")]
    pending, threshold = migration.progress.pending_bytes, migration.progress.threshold_bytes
    details: list[Part] = []
    if pending is not None and threshold and last_phase(migration) is PhaseName.ITERATE:
        still, below = sizes_apart(pending, threshold)
        details.append(f"{still} were still pending, below {below} the guest would have been stopped")
    elif pending is not None:
        details.append(f"{size(pending)} were still pending")
    return [*parts, _place(migration), *_joined([*details, *_sent(migration, rounds=False)], ": ", "; "), "."]


def _unknown(migration: Migration) -> list[Part]:
    if migration.outcome_ns is not None:
        details = _joined(_sent(migration), "; ")
        return ["ended", *_after(migration, "after"), ", and the recording does not tell how", *details, "."]
    at_least = "at least " if migration.identity.partial else ""
    into = at_least + duration(seconds_of(migration.end_ns - migration.identity.start_ns))
    stall = open_stall(migration)
    if stall is not None:
        parts: list[Part] = [
            "is ",
            ("stalled", FAILED),
            f" where the recording ends, {into} into it",
            _place(migration),
        ]
        return [*parts, ": ", *why(stall, migration, migration.end_ns), "."]
    parts = ["is ", ("unfinished", BOLD), f": the recording ends {into} into it", _place(migration)]
    return [*parts, *_standing(migration), "."]


def _standing(migration: Migration) -> list[Part]:
    """Say what a migration that iterates would need to end."""
    progress = migration.progress
    if last_phase(migration) is not PhaseName.ITERATE or not migration.rounds:
        return [", which is paused"] if progress.state == "postcopy-paused" else []
    row = migration.rounds[-1]
    is_boundary = row.number > 1
    pending = progress.pending_bytes if not is_boundary else row.pending_at_start_bytes
    if pending is None:
        return []
    still, below = sizes_apart(pending, progress.threshold_bytes or pending)
    parts: list[Part] = [f", which began with {still} pending" if is_boundary else f", with {still} still pending"]
    if progress.threshold_bytes:
        parts.append(f"; QEMU would stop the guest below {below}")
    if is_boundary and progress.bandwidth_bytes_per_second:
        parts += [", ", *_need(pending, progress.bandwidth_bytes_per_second, progress.downtime_limit_seconds)]
    return parts


def _need(pending: int, bandwidth: float, limit_seconds: float | None) -> list[Part]:
    needed = pending / bandwidth
    over = limit_seconds is not None and needed > limit_seconds
    parts: list[Part] = [
        f"{'but' if over else 'and'} sending {size(pending)} at {rate(bandwidth)} needs ",
        (f"{duration(needed)} of downtime", ACCENT if over else ""),
    ]
    return parts if limit_seconds is None else [*parts, f" and the limit is {limit(limit_seconds, needed)}"]


def _throttled(migration: Migration) -> list[str]:
    ratio = migration.progress.throttle_ratio
    return [f"QEMU throttles the guest by {100 * ratio:.0f} %."] if ratio and migration.outcome_ns is None else []


def _inferred(migration: Migration) -> str:
    return ", as far as the trace tells," if migration.result_inferred else ""


def _after(migration: Migration, preposition: str) -> list[Part]:
    if migration.duration_ns is None:
        return []
    took = duration(seconds_of(migration.duration_ns))
    if not migration.timed:
        return [f" after iterating for {took}"]
    return [f" {preposition} {'at least ' if migration.identity.partial else ''}{took}"]


def _place(migration: Migration) -> str:
    phase = last_phase(migration)
    if phase is None:
        return ""
    if phase is not PhaseName.ITERATE:
        return f", {_PLACES[phase]}"
    if not migration.rounds:
        return ", before its first round"
    row = migration.rounds[-1]
    return f", in round {row.number}" + (", the bulk round" if migration.is_bulk(row) else "")


def _downtime(migration: Migration) -> Part:
    seconds, limit_seconds = seconds_of(migration.downtime_ns), migration.progress.downtime_limit_seconds
    if seconds is None:
        against = f" (limit {limit(limit_seconds)})" if limit_seconds is not None else ""
        return f"unknown downtime{against}"
    if limit_seconds is None:
        return f"{duration(seconds)} of downtime"
    over = seconds > limit_seconds
    against = f"{'over the' if over else 'within its'} limit of {limit(limit_seconds, seconds)}"
    return (
        (f"{duration(seconds)} of downtime, {against}", ACCENT)
        if over
        else f"{duration(seconds)} of downtime {against}"
    )


def _post_copy(migration: Migration) -> list[Part]:
    if migration.progress.mode is not Mode.POSTCOPY:
        return []
    phase = next((phase for phase in migration.phases if phase.name is PhaseName.POSTCOPY), None)
    took = duration(seconds_of(phase.end_ns - phase.start_ns)) if phase and phase.end_ns is not None else None
    requests = migration.progress.postcopy_requests
    asked = f" with {plural(requests, 'page request')}" if requests is not None else ""
    return [f"{took} of post-copy{asked}" if took and migration.timed else f"post-copy{asked}"]


def _sent(migration: Migration, *, rounds: bool = True) -> list[Part]:
    parts: list[Part] = []
    count = migration.rounds[-1].number if migration.rounds else 0
    sent = migration.progress.transferred_bytes
    if sent is not None:
        parts.append(f"{size(sent)} sent" + (f" in {plural(count, 'round')}" if rounds and count else ""))
    elif rounds and count:
        parts.append(plural(count, "round"))
    return parts


def _joined(details: list[Part], before: str = "", between: str = ", ") -> list[Part]:
    parts: list[Part] = []
    for index, detail in enumerate(details):
        parts += [between if index else before, detail]
    return parts
