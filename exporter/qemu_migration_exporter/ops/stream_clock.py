"""Present time on the clock of a stream's lines.

That clock may be the wall clock, which may be set, or a monotonic clock. While a migration runs, its stream's time
advances with this machine's monotonic clock, so that setting a clock neither ends nor stalls a migration.
"""

from __future__ import annotations

import time


class StreamTime:
    """Offset of a stream's clock from the monotonic clock, in nanoseconds, fixed while a migration is open."""

    def __init__(self) -> None:
        self._ahead_ns: int | None = None

    def now_ns(self, wall_ns: int, *, is_open: bool) -> int:
        """Return the stream's time; without an open migration it is the wall time."""
        monotonic_ns = time.monotonic_ns()
        if not is_open:
            self._ahead_ns = None
            return wall_ns
        if self._ahead_ns is None:
            self._ahead_ns = wall_ns - monotonic_ns
        return monotonic_ns + self._ahead_ns

    def observe(self, event_ns: int, *, is_news: bool) -> None:
        """Adjust the offset by a line's time: the present is later, or equal if the line `is_news`, not read late."""
        ahead_ns = event_ns - time.monotonic_ns()
        if is_news if self._ahead_ns is None else ahead_ns > self._ahead_ns:
            self._ahead_ns = ahead_ns
