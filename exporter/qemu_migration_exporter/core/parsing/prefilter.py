"""Noise thrown away in bulk: of a block of bytes, only the lines that may mean something become lines.

A sieve must never drop what means something, and may keep noise: what it keeps is read like any other line.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache


class LinePrefilter:
    """Keep the lines that any of some patterns touches.

    Each pattern should begin with one literal byte: the regular expression engine then finds that byte almost as fast
    as memory is read, and looks at nothing else.
    """

    def __init__(self, *patterns: bytes) -> None:
        self._patterns = patterns

    def keep(self, block: bytes) -> list[bytes]:
        """Return the lines to read, in order; `block` begins with a newline and every line of it ends with one."""
        # Compiled when first needed, which takes milliseconds and which re remembers: most streams never are so noisy.
        searches = [re.compile(pattern) for pattern in self._patterns]
        touched = {at for search in searches for hit in search.finditer(block) for at in hit.span()}
        starts = {block.rfind(b"\n", 0, at) + 1 for at in touched}
        starts -= {0, len(block)}  # what is in front of the first newline, and behind the last
        return [block[start : block.index(b"\n", start)] for start in sorted(starts)]


def none_of(others: Iterable[bytes], words: Collection[bytes]) -> bytes:
    """Write a pattern that holds where none of `others` begins, by as much of each as none of the words begins with."""
    apart = [
        next((other[:size] for size in range(1, len(other) + 1) if not _begins_any(other[:size], words)), b"")
        for other in others
    ]
    return b"".join(b"(?!" + re.escape(each) + b")" for each in apart if each)


def _begins_any(beginning: bytes, words: Iterable[bytes]) -> bool:
    return any(word.startswith(beginning) for word in words)


def any_of(words: Iterable[bytes]) -> bytes:
    """Write a pattern that matches each of the words, letter by letter and none twice: that is how it is fast."""
    return _any_of(frozenset(words))


@cache
def _any_of(words: frozenset[bytes]) -> bytes:
    # A word that another one begins with stands for both.
    tails: dict[bytes, set[bytes]] = {}
    for word in words:
        if not word:
            return b""
        tails.setdefault(word[:1], set()).add(word[1:])
    branches = [re.escape(letter) + _any_of(frozenset(rest)) for letter, rest in sorted(tails.items())]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"
