"""Pages newly dirtied, out of a counter that QEMU resets when it likes.

Since 2.9 `dirty_pages` of a sync counts from the last reset of QEMU's period, and a sync that ends more than a second
after the last reset resets it, after it printed. Short rounds therefore show growing numbers.
Source: migration_bitmap_sync(), migration/ram.c, 2.9 to 11.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_NS_PER_MS: Final = 1_000_000
#: migration_bitmap_sync() compares milliseconds: `end_time > time_last_bitmap_sync + 1000`.
_PERIOD_MS: Final = 1_000
#: It does so by another clock, cut to milliseconds elsewhere: so near to the limit it cannot be told what it found.
_DOUBT_MS: Final = 1


@dataclass(slots=True)
class DirtyPageCounter:
    """Follow QEMU's period through the syncs of one migration.

    `began_ms` is None until it is known, where the stream was joined in the middle of a period.
    """

    began_ms: int | None = None
    counted: int | None = None
    last_end_ms: int = 0

    def begin(self, at_ns: int) -> None:
        """Note the start of the first sync of a migration: there the first period begins."""
        self.began_ms = at_ns // _NS_PER_MS
        self.counted = 0

    def newly_dirtied(self, dirty_pages: int | None, end_ns: int, *, cumulative: bool) -> int | None:
        """Return the pages this sync found newly dirty, None where that cannot be told."""
        if dirty_pages is None or not cumulative:
            return dirty_pages
        end_ms, before = end_ns // _NS_PER_MS, self.counted
        if before is not None and dirty_pages < before:
            # The counter fell, so the last sync reset it, whatever our clock says.
            self.began_ms, before = self.last_end_ms, 0
        known = self.began_ms is not None
        if self.began_ms is not None and self._is_over(end_ms - self.began_ms, counted=bool(before)):
            self.began_ms, self.counted = end_ms, 0
        else:
            self.counted = dirty_pages
        self.last_end_ms = end_ms
        return dirty_pages - (before or 0) if known else None

    def _is_over(self, elapsed_ms: int, *, counted: bool) -> bool:
        """Say whether QEMU reset its period; in doubt the next counter tells, if several rounds made up this one.

        Counted from a reset it is lower than a second's worth, and above that is seen.
        """
        return elapsed_ms > _PERIOD_MS + (_DOUBT_MS if counted else 0)
