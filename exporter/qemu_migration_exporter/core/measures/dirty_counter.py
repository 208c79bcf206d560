"""Pages newly dirtied between two syncs, from a counter that QEMU resets once a second.

Since 2.9 the `dirty_pages` of a sync counts from the start of QEMU's period. A sync that ends more than a second after
that start prints the counter and then resets it, which begins the next period. Rounds shorter than a second therefore
show growing numbers, and the pages of one sync are the difference to the number before.
Source: migration_bitmap_sync(), migration/ram.c, 2.9 to 11.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NS_PER_MS: Final = 1_000_000
#: migration_bitmap_sync() compares milliseconds: `end_time > time_last_bitmap_sync + 1000`.
_PERIOD_MS: Final = 1_000
#: QEMU's clock is not the trace's, and both are cut to milliseconds: this near to the limit the result is uncertain.
_DOUBT_MS: Final = 1


@dataclass(slots=True)
class DirtyPageCounter:
    """QEMU's dirty page counter in one migration, as plain data.

    `began_ms` is None until a reset is seen, if the stream was joined in the middle of a period.
    """

    began_ms: int | None = None
    counted: int | None = None
    last_end_ms: int | None = None

    def begin(self, at_ns: int) -> None:
        """Begin the first period, at the start of the migration's first sync."""
        self.began_ms = at_ns // _NS_PER_MS
        self.counted = 0

    def newly_dirtied(self, dirty_pages: int | None, end_ns: int, *, cumulative: bool) -> int | None:
        """Return the pages that became dirty since the sync before, None if that is uncertain."""
        if dirty_pages is None or not cumulative:
            return dirty_pages
        end_ms, before = end_ns // _NS_PER_MS, self.counted
        if before is not None and dirty_pages < before:
            # The counter fell, so the last sync reset it, even if the stream's clock disagrees.
            self.began_ms, before = self.last_end_ms, 0
        known = self.began_ms is not None
        if self.began_ms is not None and self._is_over(end_ms - self.began_ms, counted=bool(before)):
            self.began_ms, self.counted = end_ms, 0
        else:
            self.counted = dirty_pages
        self.last_end_ms = end_ms
        return dirty_pages - (before or 0) if known else None

    def _is_over(self, elapsed_ms: int, *, counted: bool) -> bool:
        """Return whether the sync that ended now reset QEMU's counter.

        Near the limit the answer is no: if the counter was reset after all, the next number is lower and shows it.
        """
        return elapsed_ms > _PERIOD_MS + (_DOUBT_MS if counted else 0)
