"""Clauses about stalls and waits: the present stall, past stalls, and the action that ends a wait.

A stall is described by its reason first, then by the numbers behind it. The present stall uses the numbers of now, a
past one those of its own time, and the end of a stall is explained by the number that changed most: bandwidth, limit
or pause.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from qemu_migration_exporter.core.model import Kind, PauseCause, StallReason
from qemu_migration_exporter.present.units import duration, limit, rate, size
from qemu_migration_exporter.present.view import MigrationView, StallView
from qemu_migration_exporter.present.wording.styled import Part, Role

#: A later bandwidth or limit is mentioned if it is this many times the earlier value.
_ROSE: Final = 1.5

#: Rates change within an hour: a longer time has no digits that mean anything.
_LONGEST_SECONDS: Final = 3_600.0

#: A stall ends at the boundary after a suspension, or at the window after it.
_SOON_SECONDS: Final = 2.0

#: A round that ended up to one bandwidth window before the end of a stall has the bandwidth that ended it.
_WINDOW_SECONDS: Final = 0.2


class _Words(NamedTuple):
    """Wordings of a wait; the first two are followed by its duration."""

    lasting: str
    over: str
    ends: str
    #: Advice for the next attempt.
    avoid: str = ""


_WAITS: Final = {
    StallReason.NO_THROUGHPUT: _Words(
        "nothing has been sent", "nothing was sent", "it goes on when the network carries data again"
    ),
    StallReason.BLOCKED_SETUP: _Words(
        "setup has not ended", "setup did not end", "it goes on when the destination accepts the connection"
    ),
    StallReason.BLOCKED_WAIT_UNPLUG: _Words(
        "the guest has not given up its network device",
        "the guest did not give up its network device",
        "it goes on when the guest's driver releases the failover device",
        "To avoid it, detach that device before migrating, or use a guest driver that supports failover.",
    ),
    StallReason.BLOCKED_PRE_SWITCHOVER: _Words(
        "the guest has been stopped, waiting for migrate-continue,",
        "the guest was stopped, waiting for migrate-continue,",
        "it goes on with migrate-continue, which libvirt sends when the disks are copied",
    ),
    StallReason.POSTCOPY_PAUSED: _Words(
        "post-copy has been without its network",
        "post-copy was without its network",
        "it goes on with a resume, once the network is back",
    ),
    StallReason.SWITCHOVER_ACK: _Words(
        "the destination has not acknowledged the switchover",
        "the destination did not acknowledge the switchover",
        "QEMU stops the guest when the destination is ready: look at the destination's log",
    ),
}

#: The wording of a job that writes to a file.
_NOTHING_WRITTEN: Final = _Words(
    "nothing has been written", "nothing was written", "it goes on when the file's storage takes data again"
)
_WRITING: Final = frozenset({Kind.SAVE, Kind.DUMP, Kind.SNAPSHOT, Kind.FILE})

#: Wordings by QEMU's state, for a wait that is too short to be a stall.
_STATES: Final = {
    "wait-unplug": StallReason.BLOCKED_WAIT_UNPLUG,
    "pre-switchover": StallReason.BLOCKED_PRE_SWITCHOVER,
    "postcopy-paused": StallReason.POSTCOPY_PAUSED,
}


def _words_of(reason: StallReason | None, view: MigrationView) -> _Words | None:
    """Return the wording of a wait, None for another reason."""
    if reason is StallReason.NO_THROUGHPUT and view.kind in _WRITING:
        return _NOTHING_WRITTEN
    return None if reason is None else _WAITS.get(reason)


def evidence(stall: StallView, view: MigrationView) -> list[Part]:
    """Return the evidence for the stall in force, with the present numbers."""
    words = _words_of(stall.reason, view)
    if words is not None:
        return [f"{words.lasting} for {_long(view.elapsed_seconds - stall.since_seconds)}; {words.ends}"]
    is_device = stall.reason is StallReason.DEVICE_STATE
    kind = ", device state and not memory" if is_device else ""
    rounds = _rounds(stall, view, view.elapsed_seconds)
    parts: list[Part] = [f"{rounds} began with {size(stall.best_pending_bytes)} or more pending{kind}"]
    needed, against = view.verdict.required_downtime_seconds, view.downtime_limit_seconds
    if needed is not None:
        parts += ["; sending that takes ", (f"{duration(needed)} of downtime", Role.KEY)]
        parts += [f" and the limit is {limit(against, needed)}"] if against is not None else []
    dirtied, sent = view.dirty_bytes_per_second, view.bandwidth_bytes_per_second
    if dirtied is not None and sent is not None and not is_device:
        parts.append(f"; the guest dirties {rate(dirtied)} and {rate(sent)} are sent")
    at_best = view.verdict.best_case_seconds
    if at_best is not None and not is_device:
        another = f"another {duration(at_best)}" if at_best <= _LONGEST_SECONDS else "more than another hour"
        parts.append(f"; at best it would take {another}")
    return parts


def waiting(view: MigrationView) -> str:
    """Return the clause on the wait of a migration without an outcome; empty without a wait."""
    wait = view.wait
    if wait is None:
        return ""
    for_seconds = _long(view.elapsed_seconds - wait.since_seconds)
    reason = wait.reason or _STATES.get(wait.state or "")
    words = _words_of(reason, view)
    if words is not None:
        return f"where {words.lasting} for {for_seconds}; {words.ends}"
    return f"in state {wait.state} for {for_seconds}" if wait.state not in {None, "setup"} else ""


def past_stalls(view: MigrationView) -> list[str]:
    """Return a sentence on past stalls, their times and causes; of many stalls only the longest in full."""
    stalls = [stall for stall in view.stalls if stall.end_seconds is not None or view.is_over]
    if not stalls:
        return []
    lengths = [view.end_of(stall) - stall.start_seconds for stall in stalls]
    longest = max(zip(lengths, stalls, strict=True), key=lambda pair: pair[0])[1]
    times = "It was stalled"
    if len(stalls) > 1:
        times = f"It was stalled {len(stalls)} times, for {duration(sum(lengths))} in all; the longest"
    ended = "on" if longest.end_seconds is None else f"to {duration(longest.end_seconds)}"
    sentence = f"{times} from {duration(longest.start_seconds)} {ended}: {_past_reason(longest, view)}."
    words = _words_of(longest.reason, view)
    return [f"{sentence} {words.avoid}" if words is not None and words.avoid else sentence]


def stalled_seconds(view: MigrationView) -> float:
    """Return the total duration of the stalls."""
    return sum(view.end_of(stall) - stall.start_seconds for stall in view.stalls)


def _past_reason(stall: StallView, view: MigrationView) -> str:
    end = view.end_of(stall)
    words = _words_of(stall.reason, view)
    if words is not None:
        return f"{words.over} for {duration(end - stall.since_seconds)}"
    clause = f"{_rounds(stall, view, end)} began with {size(stall.best_pending_bytes)} or more pending"
    needed = stall.required_downtime_seconds
    if needed is not None and stall.downtime_limit_seconds is not None:
        clause += (
            f": at {rate(stall.required_at_bytes_per_second)} that needed {duration(needed)} of downtime"
            f" and the limit was {limit(stall.downtime_limit_seconds, needed)}"
        )
    return clause + _change_that_ended(stall, view, end)


def _change_that_ended(stall: StallView, view: MigrationView, end: float) -> str:
    """Return the change that ended a stall: of the limit, the guest's run state, or the bandwidth."""
    before, after = stall.downtime_limit_seconds, view.downtime_limit_seconds
    if before and after and after >= _ROSE * before:
        return f"; then the limit was raised to {limit(after)}"
    for pause in view.pauses:
        pause_end = view.elapsed_seconds if pause.end_seconds is None else pause.end_seconds
        if pause.by is PauseCause.SUSPENDED and pause.start_seconds - _SOON_SECONDS <= end <= pause_end + _SOON_SECONDS:
            return "; then the guest was suspended"
    later = [
        round_.bandwidth_bytes_per_second
        for round_ in view.rounds
        if round_.duration_seconds is None or round_.start_seconds + round_.duration_seconds >= end - _WINDOW_SECONDS
    ]
    sent = stall.bandwidth_bytes_per_second
    if later and later[-1] is not None and sent is not None and later[-1] >= _ROSE * sent:
        return f"; then the bandwidth rose to {rate(later[-1])}"
    return ""


def _long(seconds: float) -> str:
    """Return the duration of a wait, without digits in its first second."""
    return "less than 1 s" if seconds < 1 else duration(seconds)


def _rounds(stall: StallView, view: MigrationView, end: float) -> str:
    """Return the rounds from the best round to the last round that began before `end`."""
    last = max((round_.number for round_ in view.rounds if round_.start_seconds <= end), default=stall.round)
    return f"rounds {stall.best_round}\N{EN DASH}{max(last, stall.round)}"
