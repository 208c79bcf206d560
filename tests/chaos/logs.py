"""Logs of virtual machines: real recordings, appended piece by piece and rotated in every usual way."""

from __future__ import annotations

import os
import random
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from tests.support.paths import DATA

_RECORDINGS: Final = {
    name: (DATA / f"qemu-7.2-log-{name}.log").read_bytes()
    for name in ("idle", "cancelled", "destination-killed", "nonconverging", "postcopy", "refused")
}

#: The tail of a migration is written at once: what waits a second for it is ended without it, as it should be.
_TAIL: Final = re.compile(
    rb"^[^:]*:(?:migrate_set_state new state (?:completed|failed|cancell\w+)|migration_thread_after_loop"
    rb"|savevm_state_cleanup|migrate_fd_cleanup|migrate_fd_error|migrate_error|migrate_fd_cancel).*$",
    re.MULTILINE,
)
#: Lines that QEMU prints within a millisecond: a second of silence between them ends a phase, as it should.
_TOGETHER: Final = re.compile(
    rb"^[^:]*:migrate_set_state new state active *\n.*:migration_thread_setup_complete.*\n"
    rb"|^[^:]*:migrate_set_state new state postcopy-active *\n(?:.*\n)*?.*:savevm_send_ping 0x4 *\n",
    re.MULTILINE,
)
_TIME: Final = re.compile(rb"^(\d+)@(\d+)", re.MULTILINE)

#: Backups kept; a daemon looks at sixteen.
_BACKUPS: Final = 10


def _dated(log: bytes, start: int) -> tuple[bytes, int]:
    """Move the times of a recording to begin at `start` seconds; return it with the second of its end."""
    seconds = [int(match[2]) for match in _TIME.finditer(log)]
    later = start - seconds[0]
    return _TIME.sub(lambda match: b"%s@%d" % (match[1], int(match[2]) + later), log), seconds[-1] + later


@dataclass
class Log:
    """Log of one virtual machine.

    Attributes:
        segments: Everything written, cut where the log was deleted: a new log of the name continues nothing.
        kept: Descriptors of deleted files, so that their inode numbers are not used again.
    """

    path: Path
    scheme: str
    random: random.Random
    segments: list[bytearray] = field(default_factory=lambda: [bytearray()])
    kept: list[IO[bytes]] = field(default_factory=list)
    _pieces: deque[bytes] = field(default_factory=deque)
    _end: int = 0

    @property
    def lines(self) -> int:
        """Lines written since the last deletion."""
        return self.segments[-1].count(b"\n")

    def begin(self, pieces: int) -> None:
        """Append pieces of a migration, but not its end: a migration that ends before the first daemon is history."""
        self._pieces.extend(self._migration())
        for _ in range(min(pieces, len(self._pieces) - 1)):
            self.write()

    def write(self) -> None:
        """Append the next piece, of the next migration if the last one is over."""
        if not self._pieces:
            self._pieces.extend(self._migration())
        piece = self._pieces.popleft()
        with self.path.open("ab") as out:
            out.write(piece)
        self.segments[-1] += piece

    def finish(self) -> None:
        """Append the rest of the open migration."""
        while self._pieces:
            self.write()

    def rotate(self) -> None:
        """Rotate as virtlogd does, as logrotate's `create`, or as its `copytruncate`."""
        first = 0 if self.scheme == "virtlogd" else 1
        names = [Path(f"{self.path}.{number}") for number in range(first, first + _BACKUPS)]
        if names[-1].exists():
            self.kept.append(names[-1].open("rb"))
        for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
            if newer.exists():
                newer.rename(older)
        if self.scheme == "copytruncate":
            names[0].write_bytes(self.path.read_bytes())
            os.truncate(self.path, 0)
        else:
            self.path.rename(names[0])
            self.path.touch()

    def truncate(self) -> None:
        """Empty the log without a copy."""
        os.truncate(self.path, 0)

    def delete(self) -> None:
        """Delete the log with its backups."""
        for path in [self.path, *self.path.parent.glob(f"{self.path.name}.*")]:
            self.kept.append(path.open("rb"))
            path.unlink()
        self.segments.append(bytearray())

    def close(self) -> None:
        for file in self.kept:
            file.close()

    def _migration(self) -> Iterator[bytes]:
        name = self.random.choice(list(_RECORDINGS))
        log, self._end = _dated(_RECORDINGS[name], max(int(time.time()), self._end + 30))
        tail = _TAIL.search(log)
        body = tail.start() if tail else 0
        together = [match.span() for match in _TOGETHER.finditer(log)]
        place = 0
        while place < body:
            # Almost anywhere: lines are torn as the kernel likes.
            end = min(body, place + self.random.randint(1, 1 + len(log) // 4))
            end = next((stop for start, stop in together if start < end < stop), end)
            yield log[place:end]
            place = end
        yield log[place:]
