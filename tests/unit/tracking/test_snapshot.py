"""Going on where a program before this one stopped."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from qemu_migration_exporter.core.changes import Change, MigrationEnded, Resumed, RoundEnded, Started
from qemu_migration_exporter.core.model import ClockKind, Migration, Result
from qemu_migration_exporter.core.tracking.snapshot import StreamState
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink

from tests.support.paths import DATA
from tests.support.recordings import SMALL, START_NS, Recording


def _stream(recording: Recording) -> Stream:
    return Stream(f"{recording.name}.log", vm=recording.name, start_ns=START_NS)


def _interrupted(recording: Recording, at: int) -> tuple[list[Change], list[Change], list[Migration]]:
    """Read up to a byte, keep a snapshot as a state file does, and read the rest in another stream.

    The last value is the migration that was running between.
    """
    data = recording.data
    before = _stream(recording)
    first = before.feed(data[:at])
    kept: StreamState = pickle.loads(pickle.dumps(before.snapshot()))  # noqa: S301 - its own
    after = _stream(recording)
    return first, [*after.restore(kept), *after.feed(data[at:]), *after.close()], before.running()


@pytest.mark.parametrize("recording", SMALL, ids=lambda each: each.name)
@settings(max_examples=12)
@given(place=st.floats(min_value=0, max_value=1))
def test_interruption_changes_nothing(recording: Recording, place: float) -> None:
    """At any byte: its end, its rounds, its devices, its ids."""
    data = recording.data
    whole = _stream(recording)
    expected = [c for c in (*whole.feed(data), *whole.close()) if isinstance(c, MigrationEnded)]

    first, second, _ = _interrupted(recording, int(len(data) * place))

    assert [change for change in (*first, *second) if isinstance(change, MigrationEnded)] == expected


_TIMED_LATE = b"""torn migrate_set_state new state setup
2023-11-14T22:13:20.001200Z migration_bitmap_sync_start
2023-11-14T22:13:20.102500Z migrate_transferred transferred 900 time_spent 100 bandwidth 9 max_size 30
2023-11-14T22:13:20.102600Z migration_tls_incoming_4T22:13:20.103000Z migration_bitmap_sync_end dirty_pages 9
2023-11-14T22:13:21.000000Z migration_thread_setup_complete
2023-11-14T22:13:21.000100Z migrate_set_state new state completed
"""


@pytest.mark.parametrize("kind", [ClockKind.RECONSTRUCTED, ClockKind.ARRIVAL])
def test_clock_is_kept_though_later_lines_have_times(kind: ClockKind) -> None:
    """The text before the first event had none, and the fourth line has another text before its event."""

    def read(restart: int | None) -> tuple[list[Change], ClockKind]:
        changes: list[Change] = []
        stream = Stream("x", vm="x", untimed=kind, start_ns=START_NS)
        for number, line in enumerate(_TIMED_LATE.splitlines(keepends=True)):
            if number == restart:
                kept: StreamState = pickle.loads(pickle.dumps(stream.snapshot()))  # noqa: S301 - its own
                stream = Stream("x", vm="x", untimed=kind, start_ns=START_NS)
                stream.restore(kept)
            changes += stream.feed(line, START_NS + number * 1_000_000_000)
        return [*changes, *stream.close()], stream.clock_kind

    undisturbed = read(None)
    assert undisturbed[1] is kind
    assert [read(restart) for restart in range(1, 6)] == [undisturbed] * 5


def test_ongoing_change_is_reported_once() -> None:
    """It was started before; now it is resumed, with the numbers it had."""
    recording = Recording(DATA / "qemu-7.2-log-nonconverging.log")

    first, second, _ = _interrupted(recording, len(recording.data) // 2)

    assert [type(change) for change in first if isinstance(change, Started)] == [Started]
    resumed = [change for change in second if isinstance(change, Started | Resumed)]
    assert [type(change) for change in resumed] == [Resumed]
    told = [change.round for change in first if isinstance(change, RoundEnded)]
    assert [change.rounds for change in resumed if isinstance(change, Resumed)] == [tuple(told)]
    assert len(told) > 2


def test_restored_counters_do_not_double() -> None:
    """As Prometheus expects of a process that was restarted."""
    recording = Recording(DATA / "qemu-7.2-log-nonconverging.log")
    first, second, running = _interrupted(recording, len(recording.data) // 2)
    totals = []
    for changes, left in ((first, running), (second, [])):
        registry, sink = CollectorRegistry(auto_describe=True), MetricsSink()
        registry.register(sink)
        sink.apply(changes)
        sink.update(left)
        totals.append(
            [
                registry.get_sample_value("qemu_migration_bitmap_syncs_total", {"vm": recording.name}),
                registry.get_sample_value("qemu_migrations_transferred_bytes_total", {"side": "source"}),
                registry.get_sample_value("qemu_migrations_started_total", {"side": "source"}),
                registry.get_sample_value(
                    "qemu_migrations_finished_total", {"side": "source", "kind": "live", "result": "completed"}
                ),
            ]
        )

    assert [sum(filter(None, both)) for both in zip(*totals, strict=True)] == [18, 691758611, 1, 1]


def test_passing_time_ends_waits() -> None:
    """A live stream is silent after a migration: its end is reported one second later."""
    data = (DATA / "qemu-7.2-bpftrace-nonconverging.log").read_bytes()
    stream = Stream("x", vm="x", untimed=ClockKind.ARRIVAL)
    told = [change for change in stream.feed(data, 1) if isinstance(change, MigrationEnded)]
    assert stream.last_event_ns is not None
    assert not stream.is_idle

    told += [c for c in stream.tick(stream.last_event_ns + 600_000_000) if isinstance(c, MigrationEnded)]
    told += [c for c in stream.tick(stream.last_event_ns + 2_000_000_000) if isinstance(c, MigrationEnded)]

    assert len(told) == 2
    assert stream.is_idle


def test_day_of_silence_ends_migration() -> None:
    """Its QEMU is gone, and nothing stays open for ever."""
    recording = Recording(DATA / "qemu-7.2-log-nonconverging.log")
    stream = _stream(recording)
    stream.feed(recording.data[: len(recording.data) // 2])
    assert stream.last_event_ns is not None
    day = 24 * 3600 * 1_000_000_000

    assert not any(isinstance(change, MigrationEnded) for change in stream.tick(stream.last_event_ns + day))
    (ended,) = (c for c in stream.tick(stream.last_event_ns + day + 1_000_000_000) if isinstance(c, MigrationEnded))
    assert ended.migration.result == "unknown"


def test_tick_before_first_line_is_noop() -> None:
    """There is no time yet."""
    assert Stream("x", vm="x").tick(1) == []


@pytest.mark.parametrize("recording", SMALL, ids=lambda each: each.name)
def test_running_migration_is_visible(recording: Recording) -> None:
    """The view holds the open round and phase too; reading it changes no state."""
    lines = recording.data.splitlines(keepends=True)
    stream = _stream(recording)
    changes = stream.feed(b"".join(lines[: len(lines) // 2]))
    changes += stream.tick(stream.last_event_ns or 0)
    running = stream.running()
    changes += [*stream.feed(b"".join(lines[len(lines) // 2 :])), *stream.close()]

    started = {change.identity.trace_id for change in changes if isinstance(change, Started)}
    assert {migration.identity.trace_id for migration in running} <= started
    assert all(migration.progress.round == len(migration.rounds) for migration in running if migration.rounds)
    whole = _stream(recording)
    undisturbed = [*whole.feed(recording.data), *whole.close()]
    assert [c for c in changes if isinstance(c, MigrationEnded)] == [
        c for c in undisturbed if isinstance(c, MigrationEnded)
    ]
    assert _stream(recording).running() == []


def test_held_line_that_is_no_event_any_more_is_dropped() -> None:
    """The vocabulary may have changed with the release that reads the state."""
    data = (DATA / "qemu-7.2-bpftrace-postcopy.log").read_bytes()
    middle = data.index(b"\n", len(data) // 2) + 1
    before = Stream("x", vm="x")
    before.feed(data[:middle])
    kept: StreamState = pickle.loads(pickle.dumps(before.snapshot()))  # noqa: S301 - its own
    assert kept.clock is not None
    count = len(kept.clock.held)
    kept.clock.held[0].text = b"an event of another release"
    after = Stream("x", vm="x")
    changes = [*after.restore(kept), *after.feed(data[middle:]), *after.close()]
    assert count > 0
    assert len(kept.clock.held) == count - 1
    ended = [change.migration.result for change in changes if isinstance(change, MigrationEnded)]
    assert ended == [Result.COMPLETED, Result.COMPLETED]
