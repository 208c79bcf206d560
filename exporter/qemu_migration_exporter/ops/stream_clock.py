"""Present time on the clock that dates a stream's lines.

That clock may be the wall's, which is set now and then, or a monotonic one. While a migration runs, time passes in its
stream as on this machine's monotonic clock: setting a clock neither ends nor stalls a migration.
"""

from __future__ import annotations

import time


class StreamTime:
    """Offset of a stream's clock from the monotonic one, in nanoseconds, fixed while a migration is open."""

    def __init__(self) -> None:
        self._ahead_ns: int | None = None

    def now_ns(self, wall_ns: int, *, is_open: bool) -> int:
        """Return the time in the stream; if no migration is open it is the wall's."""
        monotonic_ns = time.monotonic_ns()
        if not is_open:
            self._ahead_ns = None
            return wall_ns
        if self._ahead_ns is None:
            self._ahead_ns = wall_ns - monotonic_ns
        return monotonic_ns + self._ahead_ns

    def saw(self, event_ns: int, *, is_news: bool) -> None:
        """Learn from the time of a line: it is later now, or just that time if the line `is_news`, not read late."""
        ahead_ns = event_ns - time.monotonic_ns()
        if is_news if self._ahead_ns is None else ahead_ns > self._ahead_ns:
            self._ahead_ns = ahead_ns
