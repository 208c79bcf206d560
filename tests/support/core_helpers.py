"""Helpers of the core's tests: streams read from text, and the recordings."""

from __future__ import annotations

import gzip
import re
import tomllib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from qemu_migration_exporter.core.changes import Change, MigrationEnded, Started, Surprised
from qemu_migration_exporter.core.model import ClockKind, Migration, SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Counts, Stream

from tests.support.paths import DATA

MADE: Final = DATA / "made"

#: Every real recording, by its name without endings.
RECORDINGS: Final[tuple[str, ...]] = tuple(sorted(path.stem for path in DATA.glob("*.toml")))
#: Those that are read in milliseconds.
SMALL: Final[tuple[str, ...]] = tuple(name for name in RECORDINGS if (DATA / f"{name}.log").exists())

#: Microsecond 0 of `log_lines`, 2023-11-14T22:13:20Z.
EPOCH_SECONDS: Final = 1_700_000_000
EPOCH_NS: Final = EPOCH_SECONDS * 1_000_000_000
NS_PER_MS: Final = 1_000_000


C = TypeVar("C", bound=Change)


class Reading(NamedTuple):
    """The result of a stream that was read to its end."""

    stream: Stream
    changes: list[Change]

    @property
    def counts(self) -> Counts:
        """How the stream counted its lines."""
        return self.stream.counts

    @property
    def migrations(self) -> list[Migration]:
        """The migrations, as they ended."""
        return [change.migration for change in self.changes if isinstance(change, MigrationEnded)]

    @property
    def migration(self) -> Migration:
        """The only migration."""
        (migration,) = self.migrations
        return migration

    @property
    def started(self) -> list[Started]:
        """The beginnings."""
        return self.of(Started)

    @property
    def surprises(self) -> list[SurpriseKind]:
        """The kinds of surprises, in order."""
        return [change.kind for change in self.of(Surprised)]

    def of(self, kind: type[C]) -> list[C]:
        """Return the changes of one kind."""
        return [change for change in self.changes if isinstance(change, kind)]


def new_stream(untimed: ClockKind = ClockKind.RECONSTRUCTED, start_ns: int = 0) -> Stream:
    """Make a stream of a virtual machine called `guest`."""
    return Stream("guest.log", vm="guest", untimed=untimed, start_ns=start_ns)


def read(
    data: bytes | str, *, chunks: int = 1, untimed: ClockKind = ClockKind.RECONSTRUCTED, start_ns: int = 0
) -> Reading:
    """Read a whole stream, in so many chunks of about the same size."""
    data = data.encode() if isinstance(data, str) else data
    stream = new_stream(untimed, start_ns)
    size = max(1, -(-len(data) // chunks))
    changes: list[Change] = []
    for start in range(0, len(data), size):
        changes += stream.feed(data[start : start + size])
    return Reading(stream, changes + stream.close())


def log_lines(events: str, *, step_us: int = 1_000) -> str:
    """Write events, one a line, as a QEMU 7.2 log, a millisecond apart.

    `M ` or `R ` in front is the thread that says it, the migration thread (`T `) without one; `+N ` lets N ms pass first.
    """
    threads = {"M": 4000, "T": 4100, "R": 4101}
    lines = []
    now_us = 0
    for text in events.strip().splitlines():
        words = text.strip().split(" ")
        if words[0].startswith("+"):
            now_us += round(float(words.pop(0)) * 1_000)
        thread = threads[words.pop(0)] if words[0] in threads else threads["T"]
        event = " ".join(words) if len(words) > 1 else words[0] + " "
        lines.append(f"{thread}@{EPOCH_SECONDS + now_us // 1_000_000}.{now_us % 1_000_000:06d}:{event}\n")
        now_us += step_us
    return "".join(lines)


#: What `probe_lines` has for a monotonic clock at `EPOCH_NS`: a day since the machine's start.
UPTIME_NS: Final = 86_400 * 1_000_000_000
ANCHOR: Final = b"anchor %d %d\n" % (UPTIME_NS, EPOCH_NS)

_LOGGED: Final = re.compile(rb"(\d+)@(\d+)\.(\d{6}):(.*\n)")


def probe_lines(logs: Mapping[int, str | bytes]) -> bytes:
    """Write QEMU logs with times as a probe would that sees these processes, without its anchor; all in order of time."""
    lines: list[tuple[int, bytes]] = []
    for process, log in logs.items():
        for thread, seconds, micros, event in _LOGGED.findall(log.encode() if isinstance(log, str) else log):
            at_ns = int(seconds) * 1_000_000_000 + int(micros) * 1_000 - EPOCH_NS + UPTIME_NS
            lines.append((at_ns, b"%d/%s@%d %s" % (process, thread, at_ns, event)))
    return b"".join(line for _, line in sorted(lines, key=lambda each: each[0]))


def recording(name: str) -> bytes:
    """Return the bytes of a real recording."""
    path = DATA / f"{name}.log"
    return path.read_bytes() if path.exists() else gzip.decompress((DATA / f"{name}.log.gz").read_bytes())


def truth(name: str) -> dict[str, Any]:
    """Return the facts known of a real recording from elsewhere."""
    known: dict[str, Any] = tomllib.loads((DATA / f"{name}.toml").read_text())["truth"]
    return known


def made(name: str) -> bytes:
    """Return the bytes of a log that was written after QEMU's sources."""
    return (MADE / f"made-{name}.log").read_bytes()


def made_cases() -> list[dict[str, Any]]:
    """Return the expected meaning of each made log."""
    cases: list[dict[str, Any]] = tomllib.loads((MADE / "expected.toml").read_text())["case"]
    return cases
