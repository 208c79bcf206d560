"""Settings of the parser that a configuration or a command line gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout


@dataclass(frozen=True, slots=True, kw_only=True)
class ParserOptions:
    """Settings of the parser.

    Attributes:
        rows: The table of trace events.
        argument_names: Event → key as a script prints it → the argument's name in QEMU.
        mark_addresses: Address of each USDT mark in QEMU's binary → its name. Empty if the binary is not known.
    """

    rows: tuple[EventLayout, ...] = LAYOUTS
    argument_names: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    mark_addresses: Mapping[int, bytes] = field(default_factory=dict)
