"""Rules for every stream, however damaged: no exception, and no change that contradicts another."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qemu_migration_exporter.core.changes import (
    Change,
    DeviceFinished,
    GuestGone,
    MigrationEnded,
    PhaseEnded,
    PreSwitchoverEnded,
    Resumed,
    RoundEnded,
    StallCleared,
    Stalled,
    Started,
    Surprised,
    SyncFinished,
)
from qemu_migration_exporter.core.model import ClockKind, Migration
from qemu_migration_exporter.core.parsing.line_splitter import LineSplitter

from tests.support.core_helpers import (
    ANCHOR,
    EPOCH_NS,
    MADE,
    UPTIME_NS,
    Reading,
    made,
    new_stream,
    probe_lines,
    read,
    recording,
)
from tests.unit.parsing.test_trace_events import EXAMPLES

#: What a probe saw of one, two and three processes.
PROBED: Final[dict[str, bytes]] = {
    "one": probe_lines({26734: made("7.2-two-attempts")}),
    "two": probe_lines({26734: made("8.0-completed"), 7: made("7.2-destination")}),
    "three": probe_lines({1: made("9.2-postcopy"), 34: made("7.2-snapshot"), 234: made("7.2-pre-switchover")}),
}

#: Short streams of every kind: prefixes, eras, endings, sides, processes, and the trace without times.
LOGS: Final[dict[str, bytes]] = (
    {path.stem: path.read_bytes() for path in sorted(MADE.glob("*.log"))}
    | {name: recording(name) for name in ("qemu-7.2-log-idle", "qemu-7.2-log-refused", "qemu-kvm-2.6-systemtap")}
    | {f"probe-{name}": ANCHOR + lines for name, lines in PROBED.items()}
    | {"probe-again": (ANCHOR + PROBED["two"] + b"Lost 4 events\n") * 2, "probe-unanchored": PROBED["one"]}
)
logs = st.sampled_from(sorted(LOGS))


def check(reading: Reading) -> None:
    """Assert the rules for all changes of a stream."""
    counts = reading.counts
    assert counts.lines == counts.events + counts.noise + counts.malformed
    assert sum(counts.surprises.values()) == len(reading.of(Surprised))

    open_ids: dict[str, str] = {}
    seen: dict[str, list[Change]] = {}
    for change in reading.changes:
        if isinstance(change, Surprised):
            continue
        assert not isinstance(change, Resumed), "nothing was before"
        if isinstance(change, Started):
            assert change.identity.vm not in open_ids, "a migration starts when its machine's before has ended"
            open_ids[change.identity.vm] = change.identity.trace_id
            assert change.identity.trace_id not in seen, "no two migrations share an id"
            seen[change.identity.trace_id] = []
        elif isinstance(change, GuestGone):
            assert change.trace_id in seen, "the guest of a migration is gone"
            assert change.trace_id not in open_ids.values(), "a guest is gone after its migration has ended"
        else:
            assert change.trace_id in open_ids.values(), "a change belongs to a migration that runs"
            seen[change.trace_id].append(change)
        if isinstance(change, MigrationEnded):
            assert change.trace_id == open_ids.pop(change.migration.identity.vm)
    assert {} == open_ids, "what started has ended when the stream is closed"
    for changes in seen.values():
        check_migration(changes)


def check_migration(changes: list[Change]) -> None:
    """Assert the rules for one migration."""
    (ended,) = [change for change in changes if isinstance(change, MigrationEnded)]
    assert changes[-1] is ended
    migration = ended.migration
    check_order(changes, migration)
    check_lists(changes, migration)


def check_order(changes: list[Change], migration: Migration) -> None:
    """Assert that durations are not negative."""
    spans: list[tuple[int, int | None]] = [(each.start_ns, each.end_ns) for each in migration.phases]
    spans += [(each.start_ns, each.end_ns) for each in migration.rounds]
    spans += [(each.sync.start_ns, each.sync.end_ns) for each in changes if isinstance(each, SyncFinished)]
    spans += [(each.start_ns, each.end_ns) for each in changes if isinstance(each, PreSwitchoverEnded)]
    spans += [(migration.identity.start_ns, migration.outcome_ns), (migration.identity.start_ns, migration.end_ns)]
    assert [] == [(start, end) for start, end in spans if end is not None and end < start]
    durations = [migration.setup_ns, migration.downtime_ns, *(each.duration_ns for each in migration.devices)]
    assert [] == [each for each in durations if each is not None and each < 0]
    phases, rounds = len(migration.phases), len(migration.rounds)
    for sequence in (spans[:phases], spans[phases : phases + rounds]):
        for (_, end_ns), (start_ns, _) in pairwise(sequence):
            assert end_ns is not None
            assert end_ns <= start_ns


def check_lists(changes: list[Change], migration: Migration) -> None:
    """Assert that rounds and stalls reported at their end are those of the final report."""
    assert [each.round for each in changes if isinstance(each, RoundEnded)] == list(migration.rounds)
    assert [each.device for each in changes if isinstance(each, DeviceFinished)] == list(migration.devices)
    told = [each.phase for each in changes if isinstance(each, PhaseEnded)]
    assert told == [each for each in migration.phases if each.end_ns is not None]
    assert len(told) == len({each.name for each in told})
    assert list(range(1, len(migration.rounds) + 1)) == [each.number for each in migration.rounds]
    syncs = [each.sync.number for each in changes if isinstance(each, SyncFinished)]
    assert list(range(1, migration.progress.bitmap_syncs + 1)) == sorted(syncs)
    check_stalls(changes, migration)
    shares = sum(each.transferred_bytes or 0 for each in migration.rounds)
    assert shares <= (migration.progress.transferred_bytes or 0) + len(migration.rounds)


def check_stalls(changes: list[Change], migration: Migration) -> None:
    """Assert that stalls follow one another inside the migration, each with its number."""
    told = [each.stall for each in changes if isinstance(each, Stalled)]
    cleared = {each.stall.number: each.stall for each in changes if isinstance(each, StallCleared)}
    assert [cleared.get(each.number, each) for each in told] == list(migration.stalls)
    assert list(range(1, len(told) + 1)) == [each.number for each in told]
    for stall, after in pairwise(migration.stalls):
        assert stall.end_ns is not None
        assert stall.since_ns <= stall.start_ns <= stall.end_ns <= after.start_ns
    for stall in migration.stalls:
        assert migration.identity.start_ns <= stall.start_ns <= (stall.end_ns or stall.start_ns) <= migration.end_ns
    assert (migration.progress.verdict.stalled_since_ns is None) == all(
        stall.end_ns is not None for stall in migration.stalls
    )


def without(lines: list[bytes], place: int, _other: int) -> list[bytes]:
    """Lose a line."""
    return lines[:place] + lines[place + 1 :]


def doubled(lines: list[bytes], place: int, _other: int) -> list[bytes]:
    """Print a line twice."""
    return lines[: place + 1] + lines[place:]


def swapped(lines: list[bytes], place: int, other: int) -> list[bytes]:
    """Swap two lines."""
    result = lines.copy()
    result[place], result[other] = lines[other], lines[place]
    return result


def moved(lines: list[bytes], place: int, other: int) -> list[bytes]:
    """Print a line earlier or later than it happened."""
    result = lines.copy()
    result.insert(other, result.pop(place))
    return result


def glued(lines: list[bytes], place: int, other: int) -> list[bytes]:
    """Lose the tail of a line together with its newline."""
    result = lines.copy()
    result[place] = result[place][: other % max(1, len(result[place]))]
    return result


def torn(lines: list[bytes], place: int, other: int) -> list[bytes]:
    """Lose the tail of a line and keep its newline."""
    result = lines.copy()
    result[place] = result[place][: other % max(1, len(result[place]))] + b"\n"
    return result


MUTATIONS: Final[list[Callable[[list[bytes], int, int], list[bytes]]]] = [without, doubled, swapped, moved, glued, torn]


@pytest.mark.parametrize("name", sorted(LOGS))
def test_rules_hold_for_whole_streams(name: str) -> None:
    check(read(LOGS[name]))


@pytest.mark.parametrize("name", sorted(LOGS))
def test_rules_hold_for_lost_or_doubled_line(name: str) -> None:
    """Each line of each log in turn."""
    lines = LOGS[name].splitlines(keepends=True)
    for place in range(0, len(lines), max(1, len(lines) // 60)):
        check(read(b"".join(without(lines, place, 0)), chunks=5))
        check(read(b"".join(doubled(lines, place, 0)), chunks=5))


@settings(max_examples=600)
@given(name=logs, mutation=st.sampled_from(MUTATIONS), places=st.tuples(st.integers(0, 999), st.integers(0, 999)))
def test_rules_hold_for_damaged_stream(
    name: str, mutation: Callable[[list[bytes], int, int], list[bytes]], places: tuple[int, int]
) -> None:
    """A line is lost, doubled, swapped with another, moved, glued to the next one, or torn."""
    lines = LOGS[name].splitlines(keepends=True)
    check(read(b"".join(mutation(lines, places[0] % len(lines), places[1] % len(lines))), chunks=7))


@settings(max_examples=200)
@given(
    name=logs,
    mutations=st.lists(
        st.tuples(st.sampled_from(MUTATIONS), st.integers(0, 999), st.integers(0, 999)), min_size=2, max_size=9
    ),
)
def test_rules_hold_for_repeated_damage(
    name: str, mutations: list[tuple[Callable[[list[bytes], int, int], list[bytes]], int, int]]
) -> None:
    lines = LOGS[name].splitlines(keepends=True)
    for mutation, place, other in mutations:
        lines = mutation(lines, place % len(lines), other % len(lines)) or [b"\n"]
    check(read(b"".join(lines), chunks=7))


@settings(max_examples=200)
@given(name=logs, begin=st.floats(0, 1), end=st.floats(0, 1))
def test_rules_hold_for_piece_of_stream(name: str, begin: float, end: float) -> None:
    """Joined at any byte and cut at any byte."""
    data = LOGS[name]
    check(read(data[int(begin * len(data)) : int(end * len(data))], chunks=3))


@settings(max_examples=150)
@given(name=logs, cuts=st.lists(st.floats(0, 1), max_size=30).map(sorted))
def test_migrations_do_not_depend_on_chunks(name: str, cuts: list[float]) -> None:
    data = LOGS[name]
    stream = new_stream()
    places = [0, *(int(cut * len(data)) for cut in cuts), len(data)]
    changes = [change for start, end in pairwise(places) for change in stream.feed(data[start:end])]
    pieces, whole = Reading(stream, changes + stream.close()), read(data)

    assert whole.changes == pieces.changes
    assert whole.counts == pieces.counts


@settings(max_examples=50)
@given(name=logs, cuts=st.lists(st.floats(0, 1), max_size=30).map(sorted))
def test_counts_never_fall(name: str, cuts: list[float]) -> None:
    """Read at any moment, up to the end."""
    data, stream = LOGS[name], new_stream()
    seen: dict[str, tuple[int, ...]] = {}

    def check_growth(migrations: list[Migration]) -> None:
        for migration in migrations:
            numbers = migration.progress
            counts = (numbers.bitmap_syncs, numbers.iterations, numbers.transferred_bytes or 0, numbers.throttles)
            before = seen.get(migration.identity.trace_id, (0,) * len(counts))
            assert all(old <= new for old, new in zip(before, counts, strict=True))
            seen[migration.identity.trace_id] = counts

    for start, end in pairwise([0, *(int(cut * len(data)) for cut in cuts), len(data)]):
        check_growth(Reading(stream, stream.feed(data[start:end])).migrations)
        check_growth(stream.running())
    check_growth(Reading(stream, stream.close()).migrations)


@given(
    data=st.binary(max_size=200).map(lambda data: data.replace(b"\r", b"\n")),
    cuts=st.lists(st.integers(0, 200), max_size=9).map(sorted),
)
def test_line_count_is_that_of_newlines(data: bytes, cuts: list[int]) -> None:
    """For any bytes in any pieces."""
    splitter = LineSplitter()
    places = [0, *cuts, len(data)]
    lines: list[bytes] = []
    for start, end in pairwise(places):
        first, block = splitter.take(data[start:end])
        lines += [*first, *splitter.split(block)]
    expected = data.split(b"\n")
    assert (expected if expected[-1] else expected[:-1]) == lines + splitter.close()


@settings(max_examples=100)
@given(data=st.binary(max_size=2_000))
def test_any_bytes_raise_nothing(data: bytes) -> None:
    """They are noise, or by chance malformed."""
    check(read(data))


#: What a machine reacts to, several times over; the values a few sizes apart.
EVENTS: Final = (
    [line for _, line, _ in EXAMPLES]
    + ["qemu-system-x86_64: terminating on signal 15 from pid 1"]
    + [
        f"migrate_set_state new state {state}"
        for state in (
            "setup",
            "wait-unplug",
            "active",
            "pre-switchover",
            "device",
            "postcopy-device",
            "postcopy-active",
            "postcopy-paused",
            "postcopy-recover",
            "completed",
            "failing",
            "failed",
            "cancelling",
            "cancelled",
            "colo",
            "nonsense",
        )
    ]
)


@settings(max_examples=400)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(EVENTS),
            st.sampled_from([4000, 4100]),
            st.sampled_from([0, 40, 3_000, 100_000, 1_500_000, 40_000_000]),
        ),
        max_size=60,
    ),
    clock=st.sampled_from(["probe", "bare"]),
)
def test_rules_hold_for_any_events(lines: list[tuple[str, int, int]], clock: str) -> None:
    """In no order, from two threads, within microseconds or half a minute."""
    text = ""
    now_us = EPOCH_NS // 1_000
    for event, thread, gap_us in lines:
        now_us += gap_us
        prefix = f"{thread}@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:" if clock == "probe" else ""
        text += f"{prefix}{event}\n"
    check(read(text, chunks=4))


@settings(max_examples=400)
@given(
    lines=st.lists(
        st.tuples(
            st.sampled_from(EVENTS),
            st.integers(0, 2),
            st.sampled_from([4000, 4100]),
            # buffers are emptied in turns, some too late
            st.sampled_from([0, 40_000, 3_000_000, -200_000_000, -600_000_000, 1_500_000_000, 40_000_000_000]),
        ),
        max_size=60,
    ),
    processes=st.integers(1, 3),
    others=st.lists(
        st.tuples(
            st.integers(0, 60), st.sampled_from([b"Lost 4 events\n", b"Attaching 45 probes...\n", ANCHOR, b"m\n"])
        ),
        max_size=4,
    ),
)
@example(  # a wait that begins behind the end of the loop, which becomes the outcome
    lines=[
        ("migrate_set_state new state wait-unplug", 0, 4000, 0),
        ("migrate_fd_cleanup ", 0, 4000, 0),
        ("migrate_set_state new state 4", 0, 4000, 40_000),
        ("migrate_set_state new state postcopy-recover-setup", 0, 4000, 0),
    ],
    processes=1,
    others=[],
)
def test_rules_hold_for_any_processes(
    lines: list[tuple[str, int, int, int]], processes: int, others: list[tuple[int, bytes]]
) -> None:
    """In no order, of one to three processes, with a probe's own lines between them."""
    numbers = (7, 26734, 226734)[:processes]  # each the end of the next one's: a torn line may make one of another
    text = []
    now_ns = UPTIME_NS
    for event, process, thread, gap_ns in lines:
        now_ns = max(UPTIME_NS, now_ns + gap_ns)
        text.append(b"%d/%d@%d %s\n" % (numbers[process % processes], thread, now_ns, event.encode()))
    for place, other in others:
        text.insert(place, other)
    check(read(b"".join(text), chunks=4))


@settings(max_examples=100)
@given(
    lines=st.lists(st.sampled_from(EVENTS), max_size=40),
    gaps=st.lists(st.integers(-(10**9), 10**10), min_size=40, max_size=40),
)
def test_rules_hold_for_arrival_times(lines: list[str], gaps: list[int]) -> None:
    """The clock may be set back."""
    stream = new_stream(ClockKind.ARRIVAL)
    changes: list[Change] = []
    now_ns = EPOCH_NS
    for line, gap_ns in zip(lines, gaps, strict=False):
        now_ns += gap_ns
        changes += stream.feed(line.encode() + b"\n", now_ns)
    check(Reading(stream, changes + stream.close(now_ns)))


@given(
    arguments=st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["downtime-limit", "capabilities", "capability", "state"]), inner)
        ),
    ),
    command=st.sampled_from(["migrate_set_parameters", "migrate_set_capabilities"]),
)
@example(arguments={"capabilities": [{"capability": ["x-colo"], "state": True}]}, command="migrate_set_capabilities")
def test_any_json_is_valid_arguments(arguments: Any, command: str) -> None:  # noqa: ANN401 - JSON is anything
    """An invalid downtime limit or capability is ignored."""
    check(
        read(
            f"1@1700000000.000000:qmp_enter_{command} ".encode()
            + json.dumps(arguments).encode()
            + b"\n"
            + made("8.0-completed")
        )
    )
