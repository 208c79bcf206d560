"""Where changes go. A sink takes them in their order and must not block reading for long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from qemu_migration_exporter.core.changes import Change


class Sink(Protocol):
    """Something that makes changes visible."""

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes of one stream, in the order they happened."""
        ...
