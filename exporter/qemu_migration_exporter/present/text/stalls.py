"""What is said of stalls: the one that holds, those that are over, and what would end it."""

from __future__ import annotations

from typing import Final

from rich.text import Text

from qemu_migration_exporter.core.model import Migration, Stall, StallReason
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.present.advice import Advice, migration_advice
from qemu_migration_exporter.present.text.layout import ACCENT, BOLD, DIM, INDENT, Part, command
from qemu_migration_exporter.present.units import duration, limit, rate, size

#: A bandwidth that is this many times higher later is worth a word.
_ROSE: Final = 1.5

#: While it lasts, and when it is over; what it lasts or lasted is put behind.
_WAITS: Final = {
    StallReason.NO_THROUGHPUT: ("nothing has been sent", "nothing was sent"),
    StallReason.BLOCKED_SETUP: ("setup has not ended", "setup did not end"),
    StallReason.BLOCKED_WAIT_UNPLUG: (
        "the guest has not given up its network device",
        "the guest did not give up its network device",
    ),
    StallReason.BLOCKED_PRE_SWITCHOVER: (
        "the guest has been stopped, waiting for migrate-continue,",
        "the guest was stopped, waiting for migrate-continue,",
    ),
    StallReason.POSTCOPY_PAUSED: ("post-copy has been without its network", "post-copy was without its network"),
}


def open_stall(migration: Migration) -> Stall | None:
    """Return the stall that holds."""
    last = migration.stalls[-1] if migration.stalls else None
    return last if last is not None and last.end_ns is None else None


def why(stall: Stall, migration: Migration, now_ns: int) -> list[Part]:
    """Say what a stall that holds is judged by, with the numbers of now."""
    if stall.reason not in ROUND_REASONS:
        return [f"{_WAITS[stall.reason][0]} for {duration((now_ns - stall.since_ns) / 1e9)}"]
    progress, verdict = migration.progress, migration.progress.verdict
    parts: list[Part] = [
        f"{_rounds(stall, migration, now_ns)} began with {size(stall.best_pending_bytes)} or more pending"
    ]
    needed = verdict.required_downtime_seconds
    if needed is not None:
        against = progress.downtime_limit_seconds
        parts += ["; sending that takes ", (f"{duration(needed)} of downtime", ACCENT)]
        parts += [f" and the limit is {limit(against, needed)}"] if against is not None else []
    if progress.dirty_bytes_per_second is not None:
        parts.append(
            f"; the guest dirties {rate(progress.dirty_bytes_per_second)}"
            f" and {rate(stall.bandwidth_bytes_per_second)} are sent"
        )
    return parts


def past(migration: Migration) -> list[str]:
    """Say of the stalls that are over, in a sentence, when they were and why; of many only the longest."""
    stalls = [stall for stall in migration.stalls if stall.end_ns is not None or migration.outcome_ns is not None]
    if not stalls:
        return []
    lengths = {stall.number: _end(stall, migration) - stall.start_ns for stall in stalls}
    longest = max(stalls, key=lambda stall: lengths[stall.number])
    times = "It was stalled"
    if len(stalls) > 1:
        times = f"It was stalled {len(stalls)} times, for {duration(sum(lengths.values()) / 1e9)} in all; the longest"
    start_ns = migration.identity.start_ns
    began = duration((longest.start_ns - start_ns) / 1e9)
    ended = "on" if longest.end_ns is None else f"to {duration((longest.end_ns - start_ns) / 1e9)}"
    return [f"{times} from {began} {ended}: {_past_reason(longest, migration)}."]


def advice(migration: Migration, width: int) -> list[Text]:
    """List what would end the stall, or would have ended the last one."""
    options = migration_advice(migration)
    if not options:
        return []
    is_over = migration.outcome_ns is not None
    title = Text.assemble(INDENT, ("What would have ended it" if is_over else "What would end it", BOLD))
    return [title, *(line for option in options for line in _option(option, width))]


def _option(option: Advice, width: int) -> list[Text]:
    deeper = INDENT * 2
    return [
        *command(option.virsh, INDENT, width, style=ACCENT, continuation=" \\"),
        *command(option.price, deeper, width),
        *command(option.qmp, deeper, width, style=DIM),
    ]


def _past_reason(stall: Stall, migration: Migration) -> str:
    end_ns = _end(stall, migration)
    if stall.reason not in ROUND_REASONS:
        return f"{_WAITS[stall.reason][1]} for {duration((end_ns - stall.since_ns) / 1e9)}"
    said = f"{_rounds(stall, migration, end_ns)} began with {size(stall.best_pending_bytes)} or more pending"
    needed = stall.required_downtime_seconds
    if needed is not None and stall.downtime_limit_seconds is not None:
        said += (
            f": at {rate(stall.bandwidth_bytes_per_second)} that needed {duration(needed)} of downtime"
            f" and the limit was {limit(stall.downtime_limit_seconds, needed)}"
        )
    later = [row.bandwidth_bytes_per_second for row in migration.rounds if (row.end_ns or end_ns) >= end_ns]
    before = stall.bandwidth_bytes_per_second
    if later and later[-1] is not None and before is not None and later[-1] >= _ROSE * before:
        said += f"; then the bandwidth rose to {rate(later[-1])}"
    return said


def _rounds(stall: Stall, migration: Migration, end_ns: int) -> str:
    """Name the rounds from the best one to the last before `end_ns`."""
    last = max((row.number for row in migration.rounds if row.start_ns <= end_ns), default=stall.round)
    return f"rounds {stall.best_round}\N{EN DASH}{max(last, stall.round)}"


def _end(stall: Stall, migration: Migration) -> int:
    if stall.end_ns is not None:
        return stall.end_ns
    return migration.end_ns if migration.outcome_ns is None else max(migration.outcome_ns, stall.start_ns)
