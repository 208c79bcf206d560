"""Migrations that are stuck, which a daemon follows for hours: per line, per host, per save and per report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Final

from qemu_migration_exporter.checkpoint_data import StreamCheckpoint
from qemu_migration_exporter.core.changes import MigrationEnded, StallCleared, Stalled
from qemu_migration_exporter.core.model import Migration
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.ops.errors import ErrorCounter
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.present.reports import REPORTS
from qemu_migration_exporter.present.view import Report
from qemu_migration_exporter.present.view_builder import migration_view, stream_view
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.sources import Position
from qemu_migration_exporter.state_store import StateStore

from tests.bench import measure
from tests.bench.table import Row
from tests.bench.throughput import LOG
from tests.support.daemon import running
from tests.support.recordings import as_of_now

#: Lines that one stuck migration prints in a tenth of a second, at 88 a second.
_SLICE: Final = (
    "savevm_section_start ram, section_id 2",
    "savevm_section_end ram, section_id 2 -> 0",
    "migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0",
    "migration_transferred_bytes qemu_file 2 multifd 0 RDMA 0",
    "savevm_state_iterate ",
    "migrate_pending pending size 49283072 max 10071270 (pre = 49283072 compat=0 post=0)",
    "migrate_transferred transferred 3357000 time_spent 100 bandwidth 33570 max_size 10071000",
    "migration_transferred_bytes qemu_file 3 multifd 0 RDMA 0",
    "migration_transferred_bytes qemu_file 4 multifd 0 RDMA 0",
)
_SLICE_SECONDS: Final = 0.1
#: Migrations, with a state file, with a write for each line → limit, before the work.
_HOST_TARGETS: Final = {
    (100, False, False): ("<= 6 %", "15 %"),
    (100, True, False): ("<= 8 %", "23 %"),
    (100, True, True): ("", "19 %"),
}
_LINES_A_SECOND: Final = 88


def per_line(*, times: int) -> Iterator[Row]:
    """Feed the lines of a stall one at a time, as a live stream comes."""
    lines = LOG.read_bytes().splitlines(keepends=True)
    first, last = stall_of(lines)
    spent = 0.0
    for _ in range(times):
        stream, sinks = Stream("vm.log", vm="vm"), Sinks(MetricsSink(), MigrationHistory())
        sinks.apply(stream.feed(b"".join(lines[:first])))
        began = time.process_time()
        for number, line in enumerate(lines[first:last], start=1):
            sinks.apply(stream.feed(line))
            if number % _LINES_A_SECOND == 0:  # as in a daemon, which reads the numbers once a second
                sinks.update(stream.running())
        spent += time.process_time() - began
    yield Row("a line in a stall, line by line", f"{spent / times / (last - first) * 1e6:.1f} µs", "<= 15 µs", "41 µs")


def stall_of(lines: list[bytes]) -> tuple[int, int]:
    """Return where the first stall of a recording begins, and where it ends."""
    stream, first = Stream("vm.log", vm="vm"), 0
    for number, line in enumerate(lines):
        kinds = {type(change) for change in stream.feed(line)}
        first = number if Stalled in kinds and not first else first
        if first and StallCleared in kinds:
            return first, number
    return first, len(lines)


def save(directory: Path, migrations: int) -> Iterator[Row]:
    """Save the state of so many open migrations, all of which changed: time in the reading thread, in all and at once."""
    half = LOG.read_bytes()
    half = half[: len(half) // 2]
    streams = [Stream(f"vm-{number}.log", vm=f"vm-{number}") for number in range(migrations)]
    for stream in streams:
        stream.feed(half)
    store = StateStore(directory / "state", ErrorCounter())
    saves = []
    for _ in range(5):
        parts = [
            _timed(partial(store.commit, {stream.name: partial(_checkpoint, stream) for stream in streams}, (), ()))
        ]
        while store.is_encoding:
            parts.append(_timed(store.encode_some))
        saves.append((max(parts), sum(parts)))
    store.close()
    target, before = ("<= 20 ms", "154 ms") if migrations == 1_000 else ("", "")
    most, whole = min(saves)
    figure = f"{most * 1e3:.1f} ms at once, {whole * 1e3:.1f} ms in all"
    yield Row(f"state of {migrations:,} migrations: reading thread", figure, target, before)


def _checkpoint(stream: Stream) -> StreamCheckpoint:
    return StreamCheckpoint(position=Position(1, 2, 3), state=stream.snapshot())


def _timed(step: Callable[[], None]) -> float:
    began = time.thread_time()
    step()
    return time.thread_time() - began


def hosts(directory: Path, *, seconds: float, numbers: tuple[int, ...]) -> Iterator[Row]:
    """Follow so many stuck migrations, without a state file, with one, and with lines written one by one, as QEMU does."""
    half = as_of_now(LOG.read_bytes())
    half = half[: len(half) // 2].rpartition(b"\n")[0] + b"\n"
    for number in numbers:
        for state, is_slow in ((False, False), (True, False), (True, True)):
            logs = directory / f"stuck-{number}-{state}-{is_slow}"
            logs.mkdir()
            paths = [logs / f"vm-{vm}.log" for vm in range(number)]
            for path in paths:
                path.write_bytes(half)
            arguments = [f"--source={logs}/*.log", *([f"--state.file={directory}/stuck-state"] if state else [])]
            with running(logs, *arguments) as daemon:
                before_seconds, _ = measure.of_process(daemon.process.pid)
                began = time.monotonic()
                print_slices = _print_lines if is_slow else _print_slices
                print_slices(paths, seconds)
                elapsed = time.monotonic() - began
                after_seconds, rss_mib = measure.of_process(daemon.process.pid)
            target, before = _HOST_TARGETS.get((number, state, is_slow), ("", ""))
            share = (after_seconds - before_seconds) / elapsed
            with_state = (", state file" if state else "") + (", a write a line" if is_slow else "")
            yield Row(
                f"{number} stuck migrations{with_state}", f"{share:.1%} of a core, {rss_mib:.0f} MiB", target, before
            )


def _print_lines(paths: list[Path], seconds: float) -> None:
    """Print a slice of one migration after the other, evenly over a tenth of a second, in a write for each line."""
    began = time.monotonic()
    with ExitStack() as stack:
        outs = [stack.enter_context(path.open("ab", buffering=0)) for path in paths]
        for number in range(round(seconds / _SLICE_SECONDS) * len(outs)):
            for line in _SLICE:
                now_us = time.time_ns() // 1_000
                outs[number % len(outs)].write(f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:{line}\n".encode())
            time.sleep(max(0.0, began + (number + 1) * _SLICE_SECONDS / len(outs) - time.monotonic()))  # a steady pace


def _print_slices(paths: list[Path], seconds: float) -> None:
    began = time.monotonic()
    outs = [path.open("ab", buffering=0) for path in paths]
    try:
        for number in range(1, max(2, round(seconds / _SLICE_SECONDS))):
            now_us = time.time_ns() // 1_000
            stamp = f"4100@{now_us // 1_000_000}.{now_us % 1_000_000:06d}:"
            block = "".join(f"{stamp}{line}\n" for line in _SLICE).encode()
            for out in outs:
                out.write(block)
            time.sleep(max(0.0, began + number * _SLICE_SECONDS - time.monotonic()))  # a steady pace
    finally:
        for out in outs:
            out.close()


def report(rounds: int, *, times: int) -> Iterator[Row]:
    """Print the report of a migration with so many rounds; reading it is not counted."""
    stream = Stream("rounds.log", vm="rounds")
    changes = [*stream.feed(b"".join(_rounds(rounds))), *stream.close()]
    (migration,) = (change.migration for change in changes if isinstance(change, MigrationEnded))
    for name in ("text", "json"):
        spent = min(_timed(partial(_print_report, name, stream, migration)) for _ in range(times))
        target, before = ("<= 0.6 s", "1.55 s") if name == "text" and rounds == 10_000 else ("", "")
        yield Row(f"{name} report of {rounds:,} rounds", f"{spent:.2f} s of CPU", target, before)


def _print_report(name: str, stream: Stream, migration: Migration) -> None:
    REPORTS[name](Report(streams=(stream_view(stream),), migrations=(migration_view(migration),)), StringIO())


def _rounds(number: int) -> Iterator[bytes]:
    at_us = 1_795_387_205_000_000
    events = ["migrate_set_state new state setup", "savevm_state_header ", "migrate_set_state new state active"]
    events.append("migration_thread_setup_complete ")
    for round_ in range(number):
        events += [
            "migration_bitmap_sync_start ",
            f"migration_bitmap_sync_end dirty_pages {10_000 + round_ % 7}",
            f"migrate_pending pending size {40_960_000 + round_ % 7} max 10071270 (pre = 40960000 compat=0 post=0)",
            "savevm_state_iterate ",
            "migrate_transferred transferred 3357000 time_spent 100 bandwidth 33570 max_size 10071000",
        ]
    for event in events:
        at_us += 40_000
        yield f"4100@{at_us // 1_000_000}.{at_us % 1_000_000:06d}:{event}\n".encode()
