"""Ends of traced processes: a QEMU that is killed prints no line about it, and its migration would stay open.

A process is looked up in /proc when its first line comes, and once a second while it has an open migration. It is gone
if its entry has vanished, is a zombie's, or has another start time, for then its number was given to another process.
The lines of a stream may come from another host. So a process can only be gone if it was seen alive, before a restart
of this program too, or if another process of the stream was.
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

#: More processes than a host runs QEMUs; the oldest are forgotten first.
_MAX_KNOWN: Final = 2_048

#: No process has this start.
_NO_TICKS: Final = -1


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
    """The processes of one stream that have, or may get, an open migration."""

    def __init__(self, proc: Path = _PROC, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc, self._clock = proc, clock
        self._known: dict[int, Process] = {}
        self._absent: set[int] = set()
        self._open: frozenset[int] = frozenset()
        self._gone: dict[int, tuple[float, int]] = {}
        self._next_check = 0.0

    def look(self, process: int) -> None:
        """Look up a process whose first line has come, because it may end before the next check."""
        found = read_process(process, self._proc)
        if found is not None and self._is_qemu(process, found):
            self._remember(process, found)

    def ended(self, open_since: Mapping[int, int], now_ns: int) -> list[tuple[int, int]]:
        """Return the processes that are gone for good, each with the time at which that was noticed.

        The time is 0 for a process that ended while this program was not running.

        Args:
            open_since: Process → start of its open migration.
            now_ns: The present on the stream's clock.
        """
        now = self._clock()
        if not open_since:
            self._open = frozenset()
            self._gone.clear()
            self._next_check = 0.0
            return []
        if now < self._next_check:
            return []
        self._next_check = now + _CHECK_SECONDS
        self._gone = {process: noticed for process, noticed in self._gone.items() if process in open_since}
        gone = [
            (process, self._gone[process][1])
            for process, since_ns in open_since.items()
            if self._is_gone(process, since_ns, now, now_ns)
        ]
        self._open = frozenset(open_since)
        return gone

    def known(self) -> Mapping[int, int]:
        """Return the known processes and their starts, for a checkpoint."""
        return {process: found.started_ticks for process, found in self._known.items()}

    def restore(self, known: Mapping[int, int], boot: str) -> None:
        """Continue with the processes of a checkpoint; of another boot of this host all are gone."""
        is_same_boot = boot == boot_id(self._proc)
        for process, ticks in known.items():
            self._remember(process, Process(b"", ticks if is_same_boot else _NO_TICKS))
            self._absent.add(process)

    def _remember(self, process: int, found: Process) -> None:
        self._known.pop(process, None)
        self._known[process] = found
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]

    def _is_gone(self, process: int, since_ns: int, now: float, now_ns: int) -> bool:
        """Look a process up; return True if it has been gone for long enough."""
        found, known = read_process(process, self._proc), self._known.get(process)
        is_new = known is None or process not in self._open  # its number may have been another QEMU's before
        if is_new and found is not None and found.started_ns <= since_ns + _SLACK_NS:
            if self._is_qemu(process, found):
                self._remember(process, found)
            return False
        if known is None:
            if not self._known:
                return False
        elif found is not None and found.started_ticks == known.started_ticks:
            self._absent.discard(process)
            return False
        noticed, _ = self._gone.setdefault(process, (now, 0 if process in self._absent else now_ns))
        return now - noticed >= _GRACE_SECONDS

    def _is_qemu(self, process: int, found: Process) -> bool:
        """Return whether this is QEMU by its name or, as `-name process=` changes that, by its program."""
        if any(name in found.name for name in _NAMES):
            return True
        try:
            program = (self._proc / str(process) / "cmdline").read_bytes().partition(b"\0")[0]
        except OSError:  # it ended
            return False
        return any(name in program.rpartition(b"/")[2] for name in _NAMES)


def boot_id(proc: Path = _PROC) -> str:
    """Return the kernel's id of this boot, empty if it is not known."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # /proc is not Linux's, or is hidden
        return ""
