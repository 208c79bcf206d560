"""Pauses between attempts while a receiver is away: doubling, with jitter because other exporters retry too."""

from __future__ import annotations

import random
import time
from typing import Final

_MIN_PAUSE_SECONDS: Final = 1.0
_MAX_PAUSE_SECONDS: Final = 60.0
#: Longest pause that a receiver may request (Retry-After).
_MAX_ASKED_SECONDS: Final = 300.0
_MAX_DOUBLINGS: Final = 8


class Backoff:
    """The present pause, and the number of failures in a row."""

    def __init__(self) -> None:
        self._failures = 0
        self._resume_at = 0.0

    @property
    def is_pausing(self) -> bool:
        return time.monotonic() < self._resume_at

    def failed(self, asked_seconds: float = 0.0) -> bool:
        """Begin a pause of at least the requested length; return True for the first failure in a row."""
        pause = min(_MIN_PAUSE_SECONDS * 2**self._failures, _MAX_PAUSE_SECONDS)
        pause *= random.uniform(0.75, 1.25)  # noqa: S311 - not for security
        self._resume_at = time.monotonic() + max(pause, min(asked_seconds, _MAX_ASKED_SECONDS))
        self._failures = min(self._failures + 1, _MAX_DOUBLINGS)
        return self._failures == 1

    def succeeded(self) -> bool:
        """Forget the failures; return True if there were any."""
        failures, self._failures = self._failures, 0
        return failures > 0

    def wait(self) -> None:
        """Begin the shortest pause, without counting a failure."""
        self._resume_at = time.monotonic() + _MIN_PAUSE_SECONDS

    def resume(self) -> None:
        """End the pause."""
        self._resume_at = 0.0
