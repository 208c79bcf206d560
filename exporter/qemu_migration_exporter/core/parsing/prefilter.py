r"""A prefilter: it drops the lines of a block that can only be noise.

QEMU 8.1 and later can print a line for each page of memory. Splitting such a log into lines and parsing each costs a
microsecond a line; nearly all of them are noise. The regular expression engine searches the block as a whole at more
than 1 GB/s instead, as long as its pattern begins with a literal byte or a small set of bytes, and only the lines in
which a match ends become `bytes` objects:

    block in                                                                 lines out
    \n9313@1795387133.875916:migration_transferred_bytes qemu_file 1 ...
    \n9313@1795387133.875920:migration_rate_limit_post urgent: 0
    \n9313@1795387133.875924:migrate_set_state new state setup           →  9313@1795387133.875924:migrate_set_state …
    \n9313@1795387133.875930:migration_transferred_bytes qemu_file 1 ...
    \n9313@1795387133.875940:migrat                                      →  9313@1795387133.875940:migrat  (torn)
    \n2026-11-22T22:39:13.610586Z guest kvm: Broken pipe                 →  2026-11-22T22:39:13.610586Z guest kvm: …
    \n

The number of dropped lines is the number of newlines less the lines kept, so counts stay exact.

Two rules:

- A prefilter may keep noise, which is then parsed like any other line. It must never drop a line that is an event or
  malformed. `tests/unit/parsing/test_prefilter.py` and the fuzzer compare both ways of reading.
- Each format writes its own `signal_patterns`: the places where a line of that format shows an event. In QEMU's log
  that is ":" followed by a name of the vocabulary. The line in which a match ends is kept, so a pattern
  looks at the beginning of a line by the newline in front of it (`\n` + name).

The patterns depend on the vocabulary only. They are compiled when the first noisy block comes, since most streams
never have one.

`alternation` writes many words as one pattern that shares their beginnings, so that the engine reads each byte once:
abc|abd|x → (?:ab(?:c|d)|x). `reject_prefixes` writes a lookahead that fails early on a frequent word that is no
signal, by as many of its letters as no word of the vocabulary begins with.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property
from itertools import chain


class LinePrefilter:
    """The prefilter of some patterns."""

    def __init__(self, *patterns: bytes) -> None:
        self._patterns = patterns

    @cached_property
    def _searches(self) -> list[re.Pattern[bytes]]:
        return [re.compile(pattern) for pattern in self._patterns]

    def keep(self, block: bytes) -> list[bytes]:
        """Return the lines to parse, in order; `block` begins with a newline and every line of it ends with one."""
        hits = [search.finditer(block) for search in self._searches]
        starts = {block.rfind(b"\n", 0, hit.end()) + 1 for hit in chain.from_iterable(hits)}
        starts.discard(len(block))  # behind the last newline
        return [block[start : block.index(b"\n", start)] for start in sorted(starts)]


def reject_prefixes(others: Iterable[bytes], words: Collection[bytes]) -> bytes:
    """Return a lookahead that fails where one of `others` begins, unless a word begins with all of its letters."""
    shortest = [
        next((other[:size] for size in range(1, len(other) + 1) if not _begins_any(other[:size], words)), b"")
        for other in others
    ]
    return b"".join(b"(?!" + re.escape(beginning) + b")" for beginning in shortest if beginning)


def _begins_any(beginning: bytes, words: Iterable[bytes]) -> bool:
    return any(word.startswith(beginning) for word in words)


def alternation(words: Iterable[bytes]) -> bytes:
    """Return a pattern that matches each of the words, or a shorter word that it begins with."""
    tails: dict[bytes, set[bytes]] = {}
    for word in words:
        if not word:
            return b""
        tails.setdefault(word[:1], set()).add(word[1:])
    branches = [re.escape(letter) + alternation(rest) for letter, rest in sorted(tails.items())]
    return branches[0] if len(branches) == 1 else b"(?:" + b"|".join(branches) + b")"
