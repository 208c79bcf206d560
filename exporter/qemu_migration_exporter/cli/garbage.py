"""Settings of the garbage collector for commands that read many lines; they save a quarter of a long replay's time.

Loaded modules are kept until the end, so the collector need not check them. The lines of a chunk are thousands of
tuples that are freed with the chunk, so a collection is only useful after many more objects than Python's default, 700.
"""

from __future__ import annotations

import gc
from typing import Final

_COLLECTED_AFTER: Final = 20_000


def freeze() -> None:
    """Exempt the present objects from collection, and collect other objects rarely."""
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER)
