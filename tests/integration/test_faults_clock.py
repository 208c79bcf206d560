"""The clock is set while migrations run: no line is lost, and no migration ends or stalls by it."""

from __future__ import annotations

import os
import re
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import Migration, Result, SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.support.daemon import Daemon, running
from tests.support.paths import DATA
from tests.support.prometheus import need
from tests.support.recordings import as_of_now
from tests.support.service_manager import managing

HOUR_S = 3_600
_LOG = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes()
_PROBE = (DATA / "qemu-7.2-bpftrace-nonconverging.log").read_bytes()


class Wall:
    """The wall clock as one process with threads sees it, by libfaketime; its monotonic clock is everybody's."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "offset"
        self.set(0)
        folders = ("lib*/*/faketime", "lib*/faketime")  # of Debian and of others
        library = next(found for folder in folders for found in Path("/usr").glob(f"{folder}/libfaketimeMT.so.1"))
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds: int) -> None:
        """Set the clock so many seconds off the true time; a reader meanwhile gets the old or the new time."""
        unfinished = self._file.with_suffix(".new")
        unfinished.write_text(f"{seconds:+d}\n", encoding="ascii")
        unfinished.rename(self._file)


def _shifted(log: bytes, seconds: int) -> bytes:
    """Date lines of QEMU's log by a clock that is so far off."""
    return re.sub(
        rb"^(\d+)@(\d+)", lambda match: b"%s@%d" % (match[1], int(match[2]) + seconds), log, flags=re.MULTILINE
    )


def _now_anchored(log: bytes) -> bytes:
    """Make a probe's recording one that ends now."""
    now_ns = time.monotonic_ns()
    shift_ns = now_ns - int(re.findall(rb"@(\d+) ", log)[-1])
    log = re.sub(rb"^anchor .*$", b"anchor %d %f" % (now_ns, time.time()), log, flags=re.MULTILINE)
    return re.sub(rb"@(\d+) ", lambda match: b"@%d " % (int(match[1]) + shift_ns), log)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as log:
        log.write(data)


def _migration(daemon: Daemon, vm: str) -> dict[str, Any]:
    return next(each for each in daemon.migrations() if each["vm"].startswith(vm) and each["side"] == "source")


def _shape(migration: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that a clock must not change, and the durations of the rounds to 10 ms; the first one was cut by hand."""
    rounds = [round(each["duration_seconds"] or 0, 2) for each in migration["rounds"][1:]]
    kept = ("result", "bitmap_syncs", "iterations", "transferred_bytes", "ram_bytes", "partial")
    return {**{name: migration[name] for name in kept}, "rounds": rounds}


def test_clock_step_changes_no_verdict(tmp_path: Path) -> None:
    """Back an hour and forth two, under a log that is dated by it and a probe that is not, with migrations open."""
    need("faketime")
    log, fifo, other = tmp_path / "db-7.log", tmp_path / "probe", tmp_path / "undisturbed.log"
    os.mkfifo(fifo)
    dated, probed = as_of_now(_LOG), _now_anchored(_PROBE)
    cut, probe_cut = dated.index(b"\n", len(dated) // 8) + 1, probed.index(b"\n", len(probed) // 4) + 1
    wall, open_ones = Wall(tmp_path), {"db-7", "probe/27371"}
    with ExitStack() as stack:
        manager = stack.enter_context(managing(tmp_path))
        daemon = stack.enter_context(
            running(
                tmp_path,
                *(f"--source={each}" for each in (log, fifo, other)),
                NOTIFY_SOCKET=manager.address,
                **wall.environment,
            )
        )
        probe = stack.enter_context(fifo.open("wb", buffering=0))
        _append(other, dated)
        _append(log, dated[:cut])
        probe.write(probed[:probe_cut])
        daemon.wait_until(lambda: _active(daemon) == open_ones, "both run")

        for seconds in (-HOUR_S, HOUR_S):
            wall.set(seconds)
            manager.wait_for(b"WATCHDOG=1", times=2)  # it has looked at its clocks
            assert _active(daemon) == open_ones, daemon.log
            assert "no_throughput" not in _reasons(daemon)

        wall.set(-HOUR_S)
        _append(log, _shifted(dated[cut:], -HOUR_S))
        probe.write(probed[probe_cut:])
        daemon.wait_until(lambda: not _active(daemon), "both end, by lines and by the time that passes after them")

        assert _shape(_migration(daemon, "db-7")) == _shape(_migration(daemon, "undisturbed"))
        assert _migration(daemon, "probe")["result"] == "completed"
        assert "no_throughput" not in _reasons(daemon)
        surprises = "qemu_migration_exporter_surprises_total"
        assert daemon.metric(surprises, kind="clock_backward", stream=str(log)) == 1
        assert daemon.metric(surprises, kind="clock_backward", stream=str(fifo)) == 0
        lines = "qemu_migration_exporter_lines_total"
        of = [sum(daemon.metric(lines, outcome=outcome, stream=str(each)) or 0 for outcome in ("event", "noise", "malformed")) for each in (log, other)]  # fmt: skip
        assert of == [dated.count(b"\n")] * 2


def _reasons(daemon: Daemon) -> set[str]:
    """Why migrations stalled so far: the guests were too busy for their limits, when this was recorded."""
    return {stall["reason"] for migration in daemon.migrations() for stall in migration["stalls"]}


def _active(daemon: Daemon) -> set[str]:
    return set(re.findall(r'^qemu_migration_active\{vm="(.+)"\} 1\.0$', daemon.get("/metrics"), re.MULTILINE))


def test_clock_set_back_keeps_line_times() -> None:
    """Not that of the hour before, which a log that is never idle for a second would keep."""
    stream, migrations, offset_s = Stream("db-7.log", vm="db-7"), [], 0
    now_ns = time.time_ns()
    for offset_s in (0, -HOUR_S):
        changes = stream.feed(_shifted(as_of_now(_LOG), offset_s), now_ns)
        changes += stream.tick(now_ns + offset_s * 10**9 + 2 * 10**9)
        changes += stream.tick(now_ns + offset_s * 10**9 + 3 * 10**9)
        migrations += [change.migration for change in changes if isinstance(change, MigrationEnded)]
        stream.tick(now_ns - HOUR_S * 10**9)  # the daemon sees the clock that was set before a line does

    first, second = migrations
    assert _length(first) == _length(second)
    assert -HOUR_S - 2 < (second.identity.start_ns - first.identity.start_ns) / 10**9 < -HOUR_S + 2
    assert stream.counts.surprises[SurpriseKind.CLOCK_BACKWARD] == 0


def test_clock_a_day_ahead_ends_no_migration() -> None:
    """The line after it is a day later, and no day of silence: its migration is longer by a day, and completes."""
    log = as_of_now(_LOG)
    cut = log.index(b"\n", len(log) // 2) + 1
    stream, now_ns = Stream("db-7.log", vm="db-7"), time.time_ns()
    changes = stream.feed(log[:cut], now_ns)
    changes += stream.feed(_shifted(log[cut:], 25 * HOUR_S), now_ns + 10**9)
    changes += stream.tick(now_ns + 26 * HOUR_S * 10**9)

    (migration,) = [change.migration for change in changes if isinstance(change, MigrationEnded)]
    assert (migration.result, migration.result_inferred, migration.partial) == (Result.COMPLETED, False, False)
    assert (migration.duration_ns or 0) > 25 * HOUR_S * 10**9


def _length(migration: Migration) -> tuple[int | None, int | None, int]:
    return migration.duration_ns, migration.downtime_ns, len(migration.rounds)
