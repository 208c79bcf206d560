"""Chaos driver: one daemon, many logs, everything that happens to them on a real host, in random order from a seed.

At every moment:

1. Counters never fall, whatever is killed; a daemon has 3 s, for these logs are dated ahead of the clock.
2. The daemon is ready within 30 s of every start, or more on a busy machine.

At the end, with the receiver up and everything read:

3. Every migration that was written was counted once, by its result, and none is active.
4. Every span of every migration has arrived, under its id. Every copy of it has the same content, and the content is
   that of an undisturbed run, see `tests.chaos.truth.content`. No other span has arrived, except the markers of interruptions.
5. Every line was counted once, in logs that were never deleted.
6. No part of the daemon has failed, and its checkpoint was never older than 5 s while it had something to keep.
7. Descriptors and memory are what they were after the first minute.

A log is truncated or deleted only after the daemon has read and committed it: bytes that are gone before they are read
are lost to any reader. Rotation, kills and outages happen at any time.
"""

from __future__ import annotations

import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.core.tracking.snapshot import StreamState
from qemu_migration_exporter.ops.errors import ErrorCounter

from tests.chaos.logs import Log
from tests.chaos.receiver import MOODS, MoodyReceiver
from tests.chaos.truth import SpanId, content, tell
from tests.support.patience import patience

logger = logging.getLogger(__name__)

_SCHEMES: Final = ("virtlogd", "create", "copytruncate")
_MARKERS: Final = frozenset({"interrupted", "exporter.stopped"})
_MAX_LOGS: Final = 20

_PATIENCE_SECONDS: Final = 60.0

#: Age of a daemon from which on its checkpoint has to be new.
_SETTLED_SECONDS: Final = 6.0

_MONOTONIC: Final = ("qemu_migrations_started_total", "qemu_migrations_finished_total")


@dataclass
class Outcome:
    """Figures and violations of one run."""

    seed: int
    kills: int = 0
    stops: int = 0
    rotations: Counter[str] = field(default_factory=Counter)
    migrations: int = 0
    spans: int = 0
    copies: int = 0
    lost: int = 0
    counted_twice: int = 0
    left_active: int = 0
    state_age_seconds: float = 0.0
    resident_kib: tuple[int, int] = (0, 0)
    descriptors: tuple[int, int] = (0, 0)
    violations: list[str] = field(default_factory=list)

    def violated(self, message: str) -> None:
        if message not in self.violations:
            logger.error("seed %d: %s", self.seed, message)
            self.violations.append(message)


class Chaos:
    """One run.

    Args:
        directory: Directory for logs, state and the daemon's own log.
        seed: Seed of everything that is random.
        seconds: Duration, without the wait for the end.
    """

    def __init__(self, directory: Path, receiver: MoodyReceiver, seed: int, seconds: float) -> None:
        self._directory = directory
        self._receiver = receiver
        self._seconds = seconds
        self._random = random.Random(seed)  # noqa: S311 - repeatable, and no secret
        self._logs: list[Log] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._starts = 0
        self._started = self._written = 0.0
        self._totals: dict[str, float] = {}
        self._spool = self._random.random() < 0.5
        self.outcome = Outcome(seed)
        (directory / "logs").mkdir()

    def run(self) -> Outcome:
        """Do random things, then check the invariants."""
        actions: list[tuple[Callable[[], None], float]] = [
            (self._write, 70),
            (self._rotate, 8),
            (self._add_log, 3),
            (self._change_mood, 3),
            (self._kill, 2.5),
            (self._stop, 1),
            (self._truncate, 0.7),
            (self._delete, 0.5),
        ]
        weights = [weight for _, weight in actions]
        for _ in range(5):
            self._add_log()
        self._start()
        until = time.monotonic() + self._seconds
        warm = time.monotonic() + min(60.0, self._seconds / 2)
        while time.monotonic() < until:
            self._random.choices([action for action, _ in actions], weights)[0]()
            time.sleep(self._random.random() * 0.1)
            self._watch()
            if time.monotonic() > warm and self.outcome.resident_kib == (0, 0):
                self.outcome.resident_kib = (self._resident_kib(), 0)
                self.outcome.descriptors = (self._descriptors(), 0)
        self._finish()
        return self.outcome

    def close(self) -> None:
        """End the daemon and close all open files."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for log in self._logs:
            log.close()

    # Actions

    def _write(self) -> None:
        for _ in range(self._random.randint(1, 8)):
            self._random.choice(self._logs).write()
        self._written = time.monotonic()

    def _add_log(self) -> None:
        if len(self._logs) >= _MAX_LOGS:
            return
        name = f"vm-{len(self._logs)}"
        scheme = self._random.choice(_SCHEMES)
        log = Log(self._directory / "logs" / f"{name}.log", scheme, random.Random(self._random.random()))  # noqa: S311
        self._logs.append(log)
        pieces = self._random.randint(1, 6)
        if self._process is None:
            log.begin(pieces)
            return
        for _ in range(pieces):
            log.write()
        if self._random.random() < 0.5:
            log.finish()
            time.sleep(self._random.random() * 0.4)
            self._kill()

    def _rotate(self) -> None:
        log = self._random.choice(self._logs)
        if not log.path.exists():
            return
        log.rotate()
        self.outcome.rotations[log.scheme] += 1

    def _truncate(self) -> None:
        log = self._quiet_log()
        if log is not None:
            log.truncate()
            self.outcome.rotations["truncated"] += 1

    def _delete(self) -> None:
        log = self._quiet_log()
        if log is not None:
            log.delete()
            self.outcome.rotations["deleted"] += 1
            if self._random.random() < 0.5:
                self._kill()

    def _change_mood(self) -> None:
        self._receiver.be(self._random.choice(MOODS))

    def _kill(self) -> None:
        self._end(signal.SIGKILL)
        self.outcome.kills += 1

    def _stop(self) -> None:
        self._end(signal.SIGTERM)
        self.outcome.stops += 1

    def _end(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(timeout=patience(30))
        for _ in range(self._random.randint(0, 5)):  # what happens while it is down
            self._random.choice([self._write, self._rotate])()
        self._start()

    # The daemon

    def _start(self) -> None:
        self._starts += 1
        log = self._directory / f"daemon-{self._starts}.stderr"
        arguments = [f"--source={self._directory}/logs/*.log", f"--state.file={self._directory}/state"]
        environment = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": self._receiver.url}
        config = self._directory / "config.yml"
        if self._spool:
            config.write_text(f"spans:\n  spool_directory: {self._directory}/spool\n", encoding="utf-8")
            arguments.append(f"--config.file={config}")
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "qemu_migration_exporter",
                    "run",
                    "--web.listen-address=127.0.0.1:0",
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stderr=out,
                env=environment,
            )
        self._wait(lambda: "msg=ready" in log.read_text(encoding="utf-8"), "ready", 30)
        self._started = time.monotonic()
        self._url = re.findall(r"msg=listening url=(\S+)", log.read_text(encoding="utf-8"))[0]

    def _wait(self, condition: Callable[[], bool], what: str, seconds: float = _PATIENCE_SECONDS) -> bool:
        seconds = patience(seconds)
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.outcome.violated(f"not within {seconds:.0f} s: {what}")
                return False
            time.sleep(0.05)
        return True

    def _scrape(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self._url}/metrics", timeout=patience(30)) as answer:
            text = answer.read().decode()
        samples = re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in samples}

    def _resident_kib(self) -> int:
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
        return int(re.findall(r"VmRSS:\s+(\d+)", status)[0])

    def _descriptors(self) -> int:
        assert self._process is not None
        return len(list(Path(f"/proc/{self._process.pid}/fd").iterdir()))

    # Invariants

    def _watch(self) -> None:
        """Check the rules that hold at every moment."""
        if self._random.random() > 0.1:
            return
        samples = self._scrape()
        for name, value in samples.items():
            if name.startswith(_MONOTONIC) and time.monotonic() > self._started + 3:
                if value < self._totals.get(name, 0):
                    self.outcome.violated(f"{name} fell from {self._totals[name]} to {value}")
                self._totals[name] = value
        now, state = time.monotonic(), self._directory / "state"
        if now - self._written < 1 and now - self._started > _SETTLED_SECONDS:
            age = time.time() - state.stat().st_mtime
            self.outcome.state_age_seconds = max(self.outcome.state_age_seconds, age)

    def _lines_read(self, samples: dict[str, float], log: Log | None = None) -> int:
        wanted = f'stream="{log.path}"' if log is not None else ""
        lines = [v for k, v in samples.items() if k.startswith("qemu_migration_exporter_lines_total") and wanted in k]
        return int(sum(lines))

    def _quiet_log(self) -> Log | None:
        """Wait until a log is read and committed, and return it."""
        log = self._random.choice(self._logs)
        if not log.path.exists():
            return None
        log.finish()
        if not self._wait(lambda: self._lines_read(self._scrape(), log) >= log.lines, f"{log.path.name} is read", 30):
            logger.error("%d of %d lines", self._lines_read(self._scrape(), log), log.lines)
            return None
        time.sleep(2.5)  # a migration that waits a second for more lines is over
        if not self._wait(lambda: self._is_committed(log), f"{log.path.name} is committed", 20):
            return None
        return log

    def _is_committed(self, log: Log) -> bool:
        kept = checkpoint.load(self._directory / "state", ErrorCounter()).streams.get(str(log.path))
        # Not the offset: the file at the path may be new and empty, and the last lines in a backup of it. Not the lines of
        # the log alone: a daemon that was killed after a deletion goes on counting from the lines before it.
        lines = max(log.lines, self._lines_read(self._scrape(), log))
        return not log.lines or (kept is not None and kept.counts.lines >= lines and _is_idle(kept.state))

    def _finish(self) -> None:
        """Wait until everything has arrived, and compare it with the truth."""
        outcome = self.outcome
        self._receiver.be("up")
        for log in self._logs:
            log.finish()
        truth = tell(self._logs)
        outcome.migrations = sum(truth.finished.values())
        self._wait(
            lambda: _sum(self._scrape(), "qemu_migrations_finished_total") >= outcome.migrations, "all have ended"
        )
        self._wait(lambda: not truth.spans.keys() - self._arrived().keys(), "all spans have arrived")
        time.sleep(2.0)  # and no more
        samples = self._scrape()
        for result, count in truth.finished.items():
            counted = sum(
                value
                for name, value in samples.items()
                if name.startswith("qemu_migrations_finished_total") and f'result="{result}"' in name
            )
            outcome.lost += max(0, count - int(counted))
            outcome.counted_twice += max(0, int(counted) - count)
            if counted != count:
                outcome.violated(f"{count} migrations {result}, {counted:.0f} counted")
        if (started := _sum(samples, "qemu_migrations_started_total")) != truth.started:
            outcome.violated(f"{truth.started} migrations started, {started:.0f} counted")
        outcome.left_active = int(_sum(samples, "qemu_migration_active"))
        if outcome.left_active:
            outcome.violated(f"{outcome.left_active} migrations are left active")
        self._check_spans(truth.spans)
        for log in self._logs:
            if len(log.segments) == 1 and (read := self._lines_read(samples, log)) != log.lines:
                outcome.violated(f"{log.path.name}: {log.lines} lines, {read} counted")
        if outcome.state_age_seconds > patience(5):
            outcome.violated(f"the checkpoint was {outcome.state_age_seconds:.1f} s old")
        failures = {
            name: value
            for name, value in samples.items()
            if name.startswith("qemu_migration_exporter_failures_total") and value
        }
        if failures:
            outcome.violated(f"parts failed: {failures}")
        outcome.resident_kib = (outcome.resident_kib[0], self._resident_kib())
        outcome.descriptors = (outcome.descriptors[0], self._descriptors())
        if outcome.resident_kib[1] > 1.5 * max(outcome.resident_kib[0], 60_000):
            outcome.violated(f"memory grew: {outcome.resident_kib} KiB")
        if outcome.descriptors[1] > outcome.descriptors[0] + 2 * _MAX_LOGS:
            outcome.violated(f"descriptors grew: {outcome.descriptors}")

    def _arrived(self) -> dict[SpanId, list[bytes]]:
        arrived: dict[SpanId, list[bytes]] = {}
        for span in list(self._receiver.receiver.spans):
            if span.name not in _MARKERS:
                arrived.setdefault((span.trace_id, span.span_id), []).append(content(span))
        return arrived

    def _check_spans(self, expected: dict[SpanId, bytes]) -> None:
        from opentelemetry.proto.trace.v1.trace_pb2 import Span  # noqa: PLC0415

        outcome, arrived = self.outcome, self._arrived()
        outcome.spans, outcome.copies = len(arrived), sum(map(len, arrived.values()))
        names = {key: Span.FromString(copies[0]).name for key, copies in arrived.items()}
        if missing := expected.keys() - arrived.keys():
            kinds = Counter(Span.FromString(expected[key]).name for key in missing)
            outcome.violated(f"{len(missing)} spans are missing: {kinds}")
        if foreign := arrived.keys() - expected.keys():
            outcome.violated(f"{len(foreign)} spans of no migration: {Counter(names[key] for key in foreign)}")
        differing = [key for key, copies in arrived.items() if len(set(copies)) > 1]
        if differing:
            outcome.violated(f"{len(differing)} spans differ from their copies: {Counter(names[k] for k in differing)}")
            for copy in set(arrived[differing[0]]):
                logger.error("copy %s", Span.FromString(copy))
        untrue = [key for key, copies in arrived.items() if key in expected and copies[-1] != expected[key]]
        if untrue:
            outcome.violated(f"{len(untrue)} spans are not as undisturbed: {Counter(names[k] for k in untrue)}")
            key = untrue[0]
            logger.error("expected %s", Span.FromString(expected[key]))
            logger.error("arrived %s", Span.FromString(arrived[key][-1]))


def _sum(samples: dict[str, float], name: str) -> float:
    return sum(value for sample, value in samples.items() if re.match(rf"{name}(\{{|$)", sample))


def _is_idle(state: StreamState) -> bool:
    return all(process.tracker.machine is None for process in state.processes)
