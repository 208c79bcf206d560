"""Garbage collector's settings for commands that read many lines; they save a quarter of a long replay's time.

Modules that are loaded by now stay to the end, so the collector need not look at them. A chunk's lines are thousands of
tuples that are all gone with the chunk, so it is worth looking only after many more objects than Python's default, 700.
"""

from __future__ import annotations

import gc
from typing import Final

_COLLECTED_AFTER: Final = 20_000


def freeze() -> None:
    """Exempt the objects there are now from collection, and collect the others seldom."""
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER)
