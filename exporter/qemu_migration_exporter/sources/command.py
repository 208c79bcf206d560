"""Command whose output is read: a probe such as bpftrace or stap, restarted whenever it ends.

    tick ──> start ──> output is read ──> end ──> pause (doubling) ──> start …

The command leads a process group of its own. It is reaped only at the next start, so that the number of its group is
not used again while the rest of the group is killed.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
from collections.abc import Sequence
from typing import IO, Final

from qemu_migration_exporter.sources import CHUNK_BYTES, READ_BYTES, Data, DataLost, Item, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.epoll_source import EpollSource

logger = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 1
_LONGEST_PAUSE_S: Final = 60

#: After this time the command counts as working, and the next pause is the shortest again.
_WORKED_S: Final = 60

#: From SIGTERM to SIGKILL: stap removes its kernel module in that time.
_GRACE_S: Final = 5

#: Capacity of a pipe, unless root allows more (fs.pipe-max-size): the most that can be unread at the command's end.
_PIPE_BYTES: Final = 1024 * 1024

_MAX_MESSAGE_BYTES: Final = 1_000

#: Messages logged between two ticks: enough for a compiler's error, and too few for a loop of errors to fill the log.
_MAX_MESSAGES: Final = 50


class Command(EpollSource):
    """Runner of a command; its standard output is the stream, its standard error goes to the log.

    `tick` starts the command in a process group of its own, which is ended with the command.

    Args:
        argv: The command and its arguments; no shell.
        name: The stream's name.
    """

    def __init__(self, argv: Sequence[str], name: str) -> None:
        super().__init__(name)
        self._argv = list(argv)
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._message = b""
        self._messages = 0
        self._started = 0.0
        self._next_start = float("-inf")
        self._pause_s = 0
        self._has_ended = False

    def read(self) -> list[Item]:
        self._read_output(READ_BYTES)
        self._read_errors()
        return self._drain_items()

    def tick(self, now: float) -> list[Item]:
        """Start the command, detect its end, and restart it after a pause."""
        if self._messages > _MAX_MESSAGES:
            logger.warning("%s: %d more messages", self.name, self._messages - _MAX_MESSAGES)
        self._messages = 0
        if self._process is not None and not self._has_ended:
            status = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if status is not None:
                self._end(now, _describe(status))
        if (self._process is None or self._has_ended) and now >= self._next_start:
            self._reap()
            self._start(now)
        return self._drain_items()

    def close(self) -> None:
        """End the command and its process group, within `_GRACE_S`."""
        if self._process is not None:
            self._signal(self._process.pid, signal.SIGTERM)
            if not self._has_ended:
                self._wait(self._process.pid)
        self._close_output()
        self._close_errors()
        self._reap()
        self._epoll.close()

    def _start(self, now: float) -> None:
        try:
            process = subprocess.Popen(  # noqa: S603 - the configuration names the command
                self._argv,
                bufsize=0,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                process_group=0,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            self._fail(now, f"{self._argv[0]}: {reason or error}")
            return
        self._process, self._output, self._errors = process, process.stdout, process.stderr
        self._has_ended = False
        self._started = now
        for pipe in (self._output, self._errors):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._epoll.register(pipe, select.EPOLLIN)
        self._items.append(StatusChanged(self.name, up=True, reason=""))

    def _end(self, now: float, status: str) -> None:
        # Reaped only at the next start: until then no other process group can get its number.
        self._has_ended = True
        if self._process is not None:
            self._signal(self._process.pid, signal.SIGTERM)
        self._read_output(_PIPE_BYTES)
        self._close_output()
        for _ in range(_PIPE_BYTES // CHUNK_BYTES):
            self._read_errors()
        self._close_errors()
        self._items.append(StreamClosed(self.name))
        if now - self._started >= _WORKED_S:
            self._pause_s = 0
        self._fail(now, status)

    def _fail(self, now: float, reason: str) -> None:
        self._pause_s = min(max(2 * self._pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        self._next_start = now + self._pause_s
        self._items.append(StatusChanged(self.name, up=False, reason=f"{reason}, again in {self._pause_s} s"))

    def _signal(self, group: int, number: signal.Signals) -> None:
        try:
            os.killpg(group, number)
        except ProcessLookupError:
            logger.debug("%s: nothing is left of process group %d", self.name, group)
        except OSError as error:  # EPERM: it runs as another user
            logger.warning("%s: %s was not sent: %s", self.name, number.name, error.strerror)

    def _wait(self, process: int) -> None:
        """Wait up to `_GRACE_S` for the end of the command, without reaping it."""
        # pidfd_open(2) needs Linux 5.3, which is older than any distribution that has this Python.
        pidfd = os.pidfd_open(process)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(_GRACE_S * 1000):
                logger.warning("%s: did not end within %d s and is killed", self.name, _GRACE_S)
        finally:
            os.close(pidfd)

    def _reap(self) -> None:
        """Kill the rest of the process group, then release its number."""
        if self._process is not None:
            self._signal(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _read_output(self, limit_bytes: int) -> None:
        left = limit_bytes
        while self._output is not None and left > 0:
            data = self._read_pipe(self._output, min(left, CHUNK_BYTES))
            if data is None:
                return
            if not data:
                self._close_output()
                return
            left -= len(data)
            self._items.append(Data(self.name, data, None))
        if self._has_ended and self._output is not None:
            self._items.append(DataLost(self.name, "a process that it started went on writing"))

    def _read_errors(self) -> None:
        if self._errors is None:
            return
        data = self._read_pipe(self._errors, CHUNK_BYTES)
        if data is None:
            return
        if not data:
            self._close_errors()
            return
        *messages, self._message = (self._message + data).split(b"\n")
        for message in messages:
            self._log(message)
        self._message = self._message[: _MAX_MESSAGE_BYTES + 1]  # a further byte shows that it was cut

    def _read_pipe(self, pipe: IO[bytes], limit_bytes: int) -> bytes | None:
        """Return the next bytes; None if there are none yet, empty at the end."""
        try:
            return os.read(pipe.fileno(), limit_bytes)
        except BlockingIOError:  # the pipe is empty
            return None
        except OSError as error:
            self._items.append(DataLost(self.name, str(error.strerror)))
            return b""

    def _log(self, message: bytes) -> None:
        self._messages += 1
        if message.strip() and self._messages <= _MAX_MESSAGES:
            cut = " ..." if len(message) > _MAX_MESSAGE_BYTES else ""
            logger.warning("%s: %s%s", self.name, _printable(message[:_MAX_MESSAGE_BYTES]), cut)

    def _close_output(self) -> None:
        if self._output is not None:
            self._output.close()  # which also removes it from the epoll set
            self._output = None

    def _close_errors(self) -> None:
        if self._errors is not None:
            self._errors.close()
            self._errors = None
            self._log(self._message)
            self._message = b""


def _describe(status: os.waitid_result) -> str:
    if status.si_code == os.CLD_EXITED:
        return f"exit status {status.si_status}"
    return f"killed by {signal.Signals(status.si_status).name}"


def _printable(message: bytes) -> str:
    """Escape characters that would act on a terminal or start another line of the log."""
    text = message.decode("utf-8", "backslashreplace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
