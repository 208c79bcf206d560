"""Failures of the program itself, by part: counted, and logged once a minute and part at most."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self

logger = logging.getLogger(__name__)

#: A full disk fails every five seconds and a bug at every line; one message a minute shows either.
_SECONDS_BETWEEN_MESSAGES: Final = 60.0


class UserError(Exception):
    """An error in the user's input; it is printed without a traceback, and the exit status is 1."""


class Component(StrEnum):
    """Parts that can fail independently, as the values of a label."""

    #: A source could not be opened, or raised an unexpected exception; the others are read.
    SOURCE = "source"
    #: A stream failed at its input, and was started again.
    STREAM = "stream"
    #: A change is missing in the metrics, on the page, in a trace or in the log; the other sinks have it.
    METRICS = "metrics"
    PAGE = "page"
    SPANS = "spans"
    JOURNAL = "journal"
    #: The state could not be saved, or a saved state could not be read.
    STATE = "state"
    #: Spans could not be written to the disk or read from it; they wait.
    SPOOL = "spool"
    #: A connection was not accepted.
    WEB = "web"
    #: The service manager did not accept a message.
    NOTIFY = "notify"


class Attempt:
    """Context of `ErrorCounter.attempt`.

    Attributes:
        failed: True if there was an exception.
    """

    def __init__(self, failures: ErrorCounter, part: Component, message: str, arguments: tuple[object, ...]) -> None:
        self._failures = failures
        self._part = part
        self._message = message
        self._arguments = arguments
        self.failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """Count, log and suppress an exception, unless it stops the program."""
        self.failed = isinstance(error, Exception)
        if self.failed and self._failures.count(self._part):
            if isinstance(error, OSError):
                logger.warning(f"{self._message}: %s", *self._arguments, error.strerror or error)  # noqa: G004
            else:
                logger.error(self._message, *self._arguments, exc_info=error)
        return self.failed


class ErrorCounter:
    """Counter of failures by part, for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Component, 0)
        self._last_logged: dict[Component, float] = {}

    def counts(self) -> Mapping[Component, int]:
        """Return the number of failures of each part."""
        return dict(self._counts)

    def record(self, part: Component, message: str, *arguments: object) -> None:
        """Count an expected failure, and log a warning unless there was one in this minute."""
        if self.count(part):
            logger.warning(message, *arguments)

    def guard(self, part: Component, message: str, *arguments: object) -> Attempt:
        """Return a context that counts, logs and suppresses an exception.

        The message describes the loss. An error of the system is added with its text, a bug with a traceback.
        """
        return Attempt(self, part, message, arguments)

    def count(self, part: Component) -> bool:
        """Count a failure; return True if a message about it is due."""
        now = time.monotonic()
        with self._lock:
            self._counts[part] += 1
            is_due = now - self._last_logged.get(part, float("-inf")) >= _SECONDS_BETWEEN_MESSAGES
            if is_due:
                self._last_logged[part] = now
        return is_due
