"""Values that are frozen for the type checker alone.

A line, a round or a device makes values of its own. A frozen dataclass takes 2.5 times as long to make as another,
because it sets each field through a method. With `record` mypy still refuses a change of a field, and the program does
not check again: SystemTap's output takes 0.9 of the time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen: bool, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
        """Return a decorator that makes a dataclass; `frozen` is for the type checker."""
        return dataclasses.dataclass(unsafe_hash=frozen, slots=slots, kw_only=kw_only)


__all__ = ["record"]
