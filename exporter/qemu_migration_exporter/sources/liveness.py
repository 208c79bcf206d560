"""Ends of traced processes: a QEMU that is killed prints no line about it, and its migration would stay open.

The process of an open migration is looked up in /proc once a second. It is gone if its entry has vanished, is a
zombie's, or has another start time, for then its number was given to another process. Only a process that was seen
alive can be gone: the lines may come from another host or from before a reboot.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")

_CHECK_SECONDS: Final = 1.0

#: QEMU may end right after its last line, which a probe prints late and a clock holds back for half a second.
_GRACE_SECONDS: Final = 2.0

#: Difference between the clock of a stream and that of /proc.
_SLACK_NS: Final = 2_000_000_000

#: Parts of the names under which QEMU is installed.
_NAMES: Final = (b"qemu", b"kvm")

_NS_PER_S: Final = 1_000_000_000


class Process(NamedTuple):
    """Running process; its number and start together are never used again."""

    name: bytes
    started_ticks: int

    @property
    def started_ns(self) -> int:
        """Wall time of its start."""
        boot_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return boot_ns + self.started_ticks * _NS_PER_S // os.sysconf("SC_CLK_TCK")


def read_process(process: int, proc: Path = _PROC) -> Process | None:
    """Return a process that runs, None if it does not or /proc does not show it."""
    try:
        stat = (proc / str(process) / "stat").read_bytes()
    except OSError:  # a process that is gone has no entry in /proc
        return None
    head, _, tail = stat.rpartition(b")")  # the name may have blanks and parentheses
    fields = tail.split()
    return None if fields[0] in {b"Z", b"X"} else Process(head.partition(b"(")[2], int(fields[19]))


class ProcessWatch:
    """The processes of one stream that have an open migration."""

    def __init__(self, proc: Path = _PROC, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc, self._clock = proc, clock
        self._alive: dict[int, Process] = {}
        self._gone: dict[int, tuple[float, int]] = {}
        self._next_check = 0.0

    def ended(self, open_since: Mapping[int, int], now_ns: int) -> list[tuple[int, int]]:
        """Return the processes that are gone for good, each with the time at which that was noticed.

        Args:
            open_since: Process → start of its open migration.
            now_ns: The present on the stream's clock.
        """
        now = self._clock()
        if not open_since:
            self._alive.clear()
            self._gone.clear()
            self._next_check = 0.0
            return []
        if now < self._next_check:
            return []
        self._next_check = now + _CHECK_SECONDS
        self._alive = {process: known for process, known in self._alive.items() if process in open_since}
        self._gone = {process: noticed for process, noticed in self._gone.items() if process in self._alive}
        return [
            (process, self._gone[process][1])
            for process, since_ns in open_since.items()
            if self._is_gone(process, since_ns, now, now_ns)
        ]

    def _is_gone(self, process: int, since_ns: int, now: float, now_ns: int) -> bool:
        """Look a process up; return True if it has been gone for long enough."""
        found, known = read_process(process, self._proc), self._alive.get(process)
        if known is None:
            # One that began after its migration has only the number of the QEMU that printed the lines.
            if found is not None and _is_qemu(found) and found.started_ns <= since_ns + _SLACK_NS:
                self._alive[process] = found
            return False
        if found is not None and found.started_ticks == known.started_ticks:
            return False
        noticed, _ = self._gone.setdefault(process, (now, now_ns))
        return now - noticed >= _GRACE_SECONDS


def _is_qemu(process: Process) -> bool:
    return any(name in process.name for name in _NAMES)
