"""Calls that one line of a stall makes, by the event it has: the way of a line through the code, as a reader follows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import NamedTuple

from qemu_migration_exporter.core.tracking.stream import Stream

from tests.bench.stuck import stall_of
from tests.bench.table import Row
from tests.bench.throughput import LOG

#: The file of generated code, such as the constructor of a dataclass.
_GENERATED = "<string>"


class Cost(NamedTuple):
    """Python calls for one line, and the source files they are in; generated constructors are in none."""

    calls: int
    files: int


def costs() -> dict[str, list[Cost]]:
    """Feed the lines of a stall one at a time; return their costs by event."""
    lines = LOG.read_bytes().splitlines(keepends=True)
    first, last = stall_of(lines)
    stream = Stream("vm.log", vm="vm")
    stream.feed(b"".join(lines[:first]))
    found: dict[str, list[Cost]] = {}
    for line in lines[first:last]:
        event = line.partition(b":")[2].split()[0].decode()
        found.setdefault(event, []).append(_cost(stream, line))
    return found


def _cost(stream: Stream, line: bytes) -> Cost:
    called: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            called.append(frame.f_code.co_filename)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        stream.feed(line)
    finally:
        sys.setprofile(before)
    return Cost(len(called), len(set(called) - {_GENERATED}))


def per_line() -> Iterator[Row]:
    """Count the calls of a line with pending bytes."""
    found = costs()["migrate_pending"]
    most = max(found)
    usual = sorted(found)[len(found) // 2]
    yield Row(
        "calls for a migrate_pending line in a stall",
        f"{usual.calls} in {usual.files} files, at most {most.calls}",
        "<= 30 in 9",
        "65 in 15",
    )
