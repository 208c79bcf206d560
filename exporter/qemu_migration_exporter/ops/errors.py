"""What the program failed to do, by part: counted, and told in the log, though not a thousand times a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Self

logger = logging.getLogger(__name__)

#: A disk that is full fails every five seconds, a mistake of ours at every line: once a minute is enough to find it.
_SECONDS_BETWEEN_MESSAGES: Final = 60.0


class UserError(Exception):
    """A mistake in what the user gave: its text is the whole message, without a traceback, and the status is 1."""


class Component(StrEnum):
    """What can fail without the rest: a label's value, and no more of them than a person can look through."""

    #: A source could not be opened or raised what sources do not raise; the others are read.
    SOURCE = "source"
    #: A stream failed at what it was given, and began anew.
    STREAM = "stream"
    #: A change did not get into the metrics, onto the page, or into a trace; the other two have it.
    METRICS = "metrics"
    PAGE = "page"
    SPANS = "spans"
    #: The state was not kept, or what was kept could not be read.
    STATE = "state"
    #: The disk did not take spans, or did not give them back; they wait.
    SPOOL = "spool"
    #: A connection was not accepted.
    WEB = "web"
    #: The service manager was not told.
    NOTIFY = "notify"


class Attempt:
    """What `Failures.attempt` does.

    Attributes:
        failed: Whether there was an exception.
    """

    def __init__(self, failures: ErrorCounter, part: Component, message: str, arguments: tuple[object, ...]) -> None:
        self._failures = failures
        self._part = part
        self._message = message
        self._arguments = arguments
        self.failed = False

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        """End; an exception that is no order to stop goes no further."""
        self.failed = isinstance(error, Exception)
        if self.failed and self._failures.count(self._part):
            if isinstance(error, OSError):
                logger.warning(f"{self._message}: %s", *self._arguments, error.strerror or error)  # noqa: G004
            else:
                logger.error(self._message, *self._arguments, exc_info=error)
        return self.failed


class ErrorCounter:
    """Count failures; any thread may."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(Component, 0)
        self._told: dict[Component, float] = {}

    def counts(self) -> Mapping[Component, int]:
        """Return how often each part failed."""
        return dict(self._counts)

    def note(self, part: Component, message: str, *arguments: object) -> None:
        """Count a failure that can be expected of a machine, and warn of it, once a minute and part at most."""
        if self.count(part):
            logger.warning(message, *arguments)

    def attempt(self, part: Component, message: str, *arguments: object) -> Attempt:
        """Do in a `with` what must not stop the rest: an exception goes no further, is counted and logged.

        The message says what is lost by it. The system's errors are added in their own words, ours with a traceback.
        """
        return Attempt(self, part, message, arguments)

    def count(self, part: Component) -> bool:
        """Count a failure, and say whether it is to be told."""
        now = time.monotonic()
        with self._lock:
            self._counts[part] += 1
            is_due = now - self._told.get(part, float("-inf")) >= _SECONDS_BETWEEN_MESSAGES
            if is_due:
                self._told[part] = now
        return is_due
