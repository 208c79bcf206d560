"""Lines of one format, taken apart together.

The regular expression engine finds the prefixes of hundreds of lines in one call, which costs half as much as a match
for each line. A format that has such a pattern returns its lines as columns. Most texts are in the decoder's cache, and
only the others are decoded one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Columns(NamedTuple):
    """Prefixes and texts of some lines, a column for each part.

    Attributes:
        texts: The lines without their prefixes, empty for a line with another prefix.
        threads, processes: The numbers in the prefixes, None in a format without them.
        times: The times in the prefixes in nanoseconds, None in a format without them.
    """

    texts: Sequence[bytes]
    threads: Sequence[int | None]
    processes: Sequence[int | None]
    times: Sequence[int | None]

    def behind(self, start: int) -> Columns:
        """Return the lines from `start` on."""
        if not start:
            return self
        return Columns(self.texts[start:], self.threads[start:], self.processes[start:], self.times[start:])


def numbers(column: Sequence[bytes]) -> list[int | None]:
    """Return the numbers of a column that has few distinct ones."""
    known = {text: int(text) if text else None for text in set(column)}
    return [known[column[0]]] * len(column) if len(known) == 1 else [known[text] for text in column]
