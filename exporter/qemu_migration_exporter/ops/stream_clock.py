"""What time it is on the clock that a stream's lines are dated by.

That clock may be the wall's, which is set now and then, or one that never is. While a migration runs, time passes in
its stream as it does on this machine's monotonic clock, so that nobody who sets a clock ends or stalls a migration.
"""

from __future__ import annotations

import time


class StreamTime:
    """Know how far a stream's clock is ahead of the monotonic one, in nanoseconds, as long as a migration is open."""

    def __init__(self) -> None:
        self._ahead_ns: int | None = None

    def now_ns(self, wall_ns: int, *, is_open: bool) -> int:
        """Return the time in the stream; where no migration is open it is the wall's."""
        monotonic_ns = time.monotonic_ns()
        if not is_open:
            self._ahead_ns = None
            return wall_ns
        if self._ahead_ns is None:
            self._ahead_ns = wall_ns - monotonic_ns
        return monotonic_ns + self._ahead_ns

    def saw(self, event_ns: int, *, is_news: bool) -> None:
        """Note the time of a line: it is later now, or just that if the line `is_news`, and not read late."""
        ahead_ns = event_ns - time.monotonic_ns()
        if is_news if self._ahead_ns is None else ahead_ns > self._ahead_ns:
            self._ahead_ns = ahead_ns
