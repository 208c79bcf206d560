"""Lines of one format, taken apart together.

The regular expression engine finds the prefixes of hundreds of lines in one call, which costs half as much as a match
for each line. A format that has such a pattern returns its lines as columns. Most texts are in the decoder's cache. Of
the others nearly all have numbers, which do not repeat, in one of two or three layouts: `NumberTexts` decodes all texts
of a layout in one call, and a column of numbers in another. Only the rest is decoded one by one.

A pattern for whole lines ends with the newline: the engine takes twice as long to find `$`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import repeat
from typing import NamedTuple

from qemu_migration_exporter.core.events import Event


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


def whole(lines: Sequence[bytes]) -> Columns:
    """Return the columns of lines without a prefix."""
    nothing = [None] * len(lines)
    return Columns(lines, nothing, nothing, nothing)


class NumberTexts:
    """Texts of one event with a layout of two numbers or more.

    Args:
        name: The event's name.
        arguments: The pattern of its arguments, with a group for each number.
        kind: The event's type, all fields of which are whole numbers.
        groups: The number of the group for each field, None for a field without a value. Fields behind these are None.
    """

    def __init__(self, name: bytes, arguments: bytes, kind: Callable[..., Event], groups: Sequence[int | None]) -> None:
        self._find = re.compile(rb"\n" + re.escape(name + b" ") + arguments + rb"(?=\n)").findall
        assert isinstance(kind, type)  # noqa: S101 - only texts are arguments of a partial
        self._new = partial(tuple.__new__, kind)
        fields: tuple[str, ...] = kind._fields  # type: ignore[attr-defined]  # every event is a NamedTuple
        self._groups = [*groups, *[None] * (len(fields) - 2 - len(groups))]

    def events(self, texts: Sequence[bytes], threads: Sequence[int | None]) -> list[Event] | None:
        """Return the events of texts without a time; None if a text has another layout."""
        if not texts:
            return []
        found = self._find(b"\n%b\n" % b"\n".join(texts))
        if len(found) != len(texts):
            return None
        columns = [*zip(*found, strict=True)]
        fields = [repeat(None) if group is None else map(int, columns[group]) for group in self._groups]
        return [*map(self._new, zip(repeat(None), threads, *fields))]
