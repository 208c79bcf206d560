"""The sentences about a migration, made once for the text report, the pages, the log and the JSON.

`headline` is the first sentence: the result, or the present state and its cause. `notes` are the sentences after it:
past stalls, pauses, and gaps of the stream. Numbers come from the view, so they are as of the moment of reading;
numbers of an earlier moment are printed with their time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.model import ClockKind, Kind, Mode, PhaseName, Result, Side
from qemu_migration_exporter.present.units import duration, limit, plural, rate, size, sizes_apart
from qemu_migration_exporter.present.view import MigrationView, Report, StreamView
from qemu_migration_exporter.present.wording.stalls import evidence, past_stalls, waiting
from qemu_migration_exporter.present.wording.standstill import standstill, standstill_note
from qemu_migration_exporter.present.wording.styled import (
    MAX_ERROR_CELLS,
    MAX_NAME_CELLS,
    Part,
    Role,
    joined,
    literal,
    plain,
)

PHASE_WORDS: Final = {
    PhaseName.SETUP: "setup",
    PhaseName.ITERATE: "iterating",
    PhaseName.COMPLETE_PRECOPY: "switchover",
    PhaseName.POSTCOPY: "post-copy",
    PhaseName.CLEANUP: "cleanup",
}

#: Jobs that use QEMU's migration code but are not live migrations.
KIND_WORDS: Final = {
    Kind.SAVE: "save to a file",
    Kind.DUMP: "memory dump",
    Kind.SNAPSHOT: "snapshot with memory",
    Kind.FILE: "migration to a file",
    Kind.CPR: "update of QEMU in place",
}

#: The same jobs seen by the QEMU that loads their state.
_LOADS: Final = {
    Kind.SAVE: "restore from a file",
    Kind.SNAPSHOT: "restore of a snapshot",
    Kind.FILE: "migration from a file",
    Kind.CPR: "incoming, update of QEMU in place",
}

#: An earlier end would come before the sentence is read.
_LEAST_ETA_SECONDS: Final = 1.0

#: The bulk round follows setup at once; without one in this time, its events are not enabled.
_FIRST_ROUND_SECONDS: Final = 0.5

_PLACES: Final = {
    PhaseName.SETUP: ", in setup",
    PhaseName.COMPLETE_PRECOPY: ", in the switchover",
    PhaseName.POSTCOPY: ", in post-copy",
}


def headline(view: MigrationView) -> list[Part]:
    """Return the first sentence: the result, or the present state and the distance to the end."""
    name = literal(view.vm, MAX_NAME_CELLS) or "(no name)"
    if _is_only_loads(view):
        label: str | None = "loading its state"
    elif view.side is Side.DESTINATION:
        label = _LOADS.get(view.kind, "incoming")
    else:
        label = KIND_WORDS.get(view.kind)
    return [(name, Role.NAME), f" ({label}) " if label else " ", *_predicate(view)]


def _is_only_loads(view: MigrationView) -> bool:
    """Return whether nothing but loads of devices is in the stream, which a snapshot's restore prints too."""
    is_unknown = view.result is Result.UNKNOWN and view.state is None and view.kind is Kind.LIVE
    return view.side is Side.DESTINATION and view.joined and is_unknown and view.mode is Mode.PRECOPY


def headline_text(view: MigrationView) -> str:
    """Return the first sentence as plain text."""
    return plain(headline(view))


def notes(view: MigrationView) -> list[str]:
    """Return the sentences after the first: past stalls, pauses, throttling, and limits of the stream."""
    lines = [*past_stalls(view), *standstill_note(view)]
    if view.throttle_ratio and not view.is_over:
        lines.append(f"QEMU throttles the guest by {100 * view.throttle_ratio:.0f} %.")
    if view.dirty_limit and not view.is_over:
        lines.append("QEMU limits the guest's dirty rate (dirty-limit), beside which it refuses auto-converge.")
    if view.clock is ClockKind.RECONSTRUCTED:
        lines.append(
            "The stream has no times: durations are reconstructed from time_spent; "
            "setup, downtime and device times are unknown."
        )
    elif view.clock is ClockKind.ARRIVAL:
        lines.append("The stream has no times: they are those at which its lines arrived.")
    if view.side is None:
        lines.append("The stream does not show whether it was outgoing or incoming.")
    if _is_only_loads(view):
        lines.append("The stream does not show whether it is a migration or the restore of a snapshot.")
    if view.joined:
        lines.append("The beginning is missing from the recording: times and counts start where it does.")
    elif view.partial and view.is_over:
        lines.append("Lines of it are missing from the recording.")
    return lines


def no_migration(report: Report) -> str:
    """Return the sentence of a report without a migration."""
    has_events = any(stream.events for stream in report.streams)
    return "No migration was found" + (": none of the events that were read begins one." if has_events else ".")


def stream_text(stream: StreamView) -> str:
    """Return the counts of a stream's lines, and reasons to doubt them."""
    return plain(stream_parts(stream))


def stream_parts(stream: StreamView) -> list[Part]:
    """Return the counts of a stream's lines, with malformed lines and surprises marked."""
    read = [plural(stream.lines, "line"), plural(stream.events, "event"), f"{stream.noise} noise"]
    name = literal(stream.name, MAX_NAME_CELLS)
    parts: list[Part] = [(f"{name}: {stream.format or 'unknown format'}, {', '.join(read)}", Role.SOFT)]
    if stream.malformed:
        parts += [(", ", Role.SOFT), (f"{stream.malformed} malformed", Role.KEY)]
    total = sum(stream.surprises.values())
    if total:
        kinds = ", ".join(f"{count} {kind}" for kind, count in stream.surprises.items())
        parts += [(", ", Role.SOFT), (f"{plural(total, 'surprise')} ({kinds})", Role.KEY)]
    return parts


def _predicate(view: MigrationView) -> list[Part]:
    if view.running:
        return _running(view)
    match view.result:
        case Result.COMPLETED:
            return _completed(view)
        case Result.FAILED:
            return _failed(view)
        case Result.CANCELLED:
            return _cancelled(view)
        case Result.UNKNOWN:
            return _unknown(view)


def _running(view: MigrationView) -> list[Part]:
    so_far = ("at least " if view.joined else "") + duration(view.elapsed_seconds)
    stall = view.stall
    if stall is not None:
        return ["is ", ("stalled", Role.BAD), f" after {so_far}{_place(view)}: ", *evidence(stall, view), "."]
    if view.kind in KIND_WORDS:
        verb = "has been running"
    else:
        verb = "has been coming in" if view.side is Side.DESTINATION else "has been migrating"
    return [f"{verb} for {so_far}{_place(view)}", *_standing(view), "."]


def _completed(view: MigrationView) -> list[Part]:
    details = joined([*standstill(view), *_post_copy(view), *_sent(view)], ": ")
    return [("completed", Role.GOOD), *_inferred(view, _after(view, "in")), *details, "."]


def _failed(view: MigrationView) -> list[Part]:
    left = [f"{size(view.pending_bytes)} pending"] if view.pending_bytes else []
    counts = joined([*_sent(view, rounds=False), *left], ", with ", " and ")
    after = [*_after(view, "after"), _place(view), *counts]
    parts: list[Part] = [("failed", Role.BAD), *_inferred(view, after)]
    return [*parts, f"; {_failure_reason(view)}", *_lost(view), "."]


def _failure_reason(view: MigrationView) -> str:
    if not view.error:
        return "QEMU gave no reason"
    error = literal(view.error, MAX_ERROR_CELLS).rstrip(".")
    return error if error.startswith(("QEMU ended", "the destination")) else f"QEMU says “{error}”"


def _cancelled(view: MigrationView) -> list[Part]:
    details: list[Part] = []
    if view.pending_bytes is not None and view.threshold_bytes and view.last_phase is PhaseName.ITERATE:
        still, below = sizes_apart(view.pending_bytes, view.threshold_bytes)
        details.append(f"{still} were still pending, below {below} the guest would have been stopped")
    elif view.pending_bytes is not None:
        details.append(f"{size(view.pending_bytes)} were still pending")
    details += _sent(view, rounds=False)
    after = [*_after(view, "after"), _place(view)]
    parts: list[Part] = ["was ", ("cancelled", Role.NAME), *_inferred(view, after)]
    return [*parts, *joined(details, ": ", "; "), *_lost(view), "."]


def _lost(view: MigrationView) -> list[Part]:
    """Return the clause on a guest that cannot run on."""
    if not view.guest_lost:
        return []
    return [", and ", ("the guest is lost", Role.BAD), ", because its memory was divided between both hosts"]


def _unknown(view: MigrationView) -> list[Part]:
    if view.is_over and view.side is Side.DESTINATION and view.state is None:
        return ["was seen", *_after(view, "for"), ", and the recording does not show how it ended."]
    if view.is_over:
        details = joined(_sent(view), "; ")
        return ["ended", *_after(view, "after"), ", and the recording does not show how", *details, "."]
    into = ("at least " if view.joined else "") + duration(view.elapsed_seconds)
    stall = view.stall
    if stall is not None:
        parts: list[Part] = ["is ", ("stalled", Role.BAD), f" where the recording ends, {into} into it{_place(view)}"]
        return [*parts, ": ", *evidence(stall, view), "."]
    parts = ["is ", ("unfinished", Role.NAME), f": the recording ends {into} into it{_place(view)}"]
    return [*parts, *_standing(view), "."]


def _standing(view: MigrationView) -> list[Part]:
    """Return the clause on the wait of a migration without an outcome, or on the requirement for its end."""
    wait = waiting(view)
    if wait:
        return [f", {wait}"]
    if view.last_phase is not PhaseName.ITERATE or not view.rounds:
        return [", which is paused"] if view.state == "postcopy-paused" else []
    row = view.rounds[-1]
    is_boundary = row.number > 1
    pending = row.pending_at_start_bytes if is_boundary else view.pending_bytes
    if pending is None:
        return _eta(view)
    still, below = sizes_apart(pending, view.threshold_bytes or pending)
    parts: list[Part] = [f", which began with {still} pending" if is_boundary else f", with {still} still pending"]
    if view.threshold_bytes and (is_boundary or not view.joined):  # in a post-copy it stands still already
        parts.append(f"; QEMU would stop the guest below {below}")
    if is_boundary and view.bandwidth_bytes_per_second:
        parts += [", ", *_need(pending, view.bandwidth_bytes_per_second, view.downtime_limit_seconds)]
    return [*parts, *_eta(view)]


def _eta(view: MigrationView) -> list[Part]:
    eta, rounds = view.verdict.eta_seconds, view.rounds
    if eta is None or eta[1] < _LEAST_ETA_SECONDS:
        return []
    if view.verdict.converging is None and rounds and rounds[-1].number > 1:
        return [f"; so near, it can end at any moment, and does most likely {ending(eta)}"]
    return [f"; at this rate it ends {ending(eta)}"]


def ending(eta: tuple[float, float]) -> str:
    """Return an interval of the time to the end in words."""
    low, high = (duration(seconds) for seconds in eta)
    if eta[0] < _LEAST_ETA_SECONDS:
        return f"within {high}"
    return f"in {low}" if low == high else f"in {low} to {high}"


def _need(pending: int, bandwidth: float, limit_seconds: float | None) -> list[Part]:
    needed = pending / bandwidth
    is_over = limit_seconds is not None and needed > limit_seconds
    words = f"{duration(needed)} of downtime"
    parts: list[Part] = [
        f"{'but' if is_over else 'and'} sending {size(pending)} at {rate(bandwidth)} needs ",
        (words, Role.KEY) if is_over else words,
    ]
    return parts if limit_seconds is None else [*parts, f" and the limit is {limit(limit_seconds, needed)}"]


def _inferred(view: MigrationView, after: Sequence[Part]) -> list[Part]:
    """Return the remark that the result is inferred, and the text after it."""
    if not view.result_inferred:
        return [*after]
    return [", as far as the trace shows", "," if plain(after) and not plain(after).startswith(",") else "", *after]


def _after(view: MigrationView, preposition: str) -> list[Part]:
    if view.duration_seconds is None:
        return []
    took = duration(view.duration_seconds)
    if not view.is_timed and not view.duration_seconds:
        return []  # it never iterated
    if not view.is_timed:
        return [f" after iterating for {took}"]
    if view.side is None and not view.phases and not view.joined:  # a destination listens first
        return [f" {preposition} at most {took}"]
    return [f" {preposition} {'at least ' if view.joined else ''}{took}"]


def _place(view: MigrationView) -> str:
    phase = view.last_phase
    if phase is not PhaseName.ITERATE:
        return "" if phase is None else _PLACES.get(phase, "")
    if not view.rounds:
        iterate = next((phase for phase in view.phases if phase.name is PhaseName.ITERATE), None)
        is_short = iterate is not None and (iterate.duration_seconds or 0.0) < _FIRST_ROUND_SECONDS
        return ", before its first round" if is_short and view.is_over else ""  # else the stream shows no rounds
    row = view.rounds[-1]
    return f", in round {row.number}" + (", the bulk round" if view.is_bulk(row) else "")


def _post_copy(view: MigrationView) -> list[Part]:
    if view.mode is not Mode.POSTCOPY:
        return []
    phase = next((phase for phase in view.phases if phase.name is PhaseName.POSTCOPY), None)
    took = phase.duration_seconds if phase is not None else None
    asked = f" with {plural(view.postcopy_requests, 'page request')}" if view.postcopy_requests is not None else ""
    if took is None or not view.is_timed:
        return [f"post-copy{asked}"]
    return [f"{'at least ' if view.joined else ''}{duration(took)} of post-copy{asked}"]


def _sent(view: MigrationView, *, rounds: bool = True) -> list[Part]:
    has_rounds = rounds and view.rounds and not (view.joined and view.mode is Mode.POSTCOPY)  # which has none
    count = view.rounds[-1].number if has_rounds else 0
    if view.transferred_bytes is None:
        return [plural(count, "round")] if count else []
    at_least = "at least " if view.transferred_is_partial or view.joined else ""
    verb = "sent" if view.kind not in KIND_WORDS else "written"
    return [f"{at_least}{size(view.transferred_bytes)} {verb}" + (f" in {plural(count, 'round')}" if count else "")]
