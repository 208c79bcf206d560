"""Deterministic trace and span ids: the same recording gives the same ids, another gives others."""

from __future__ import annotations

import hashlib


def trace_id(vm: str, first_line: bytes, ordinal: int, arrival_ns: int | None = None) -> str:
    """Name a migration by 32 hexadecimal digits.

    Args:
        vm: The virtual machine's name.
        first_line: The raw line that began the migration.
        ordinal: Which migration of its stream this is.
        arrival_ns: When that line came, for live streams without times: their lines repeat themselves.
    """
    arrival = "" if arrival_ns is None else str(arrival_ns)
    text = b"\0".join([vm.encode(), first_line, str(ordinal).encode(), arrival.encode()])
    return hashlib.sha256(text).hexdigest()[:32]


def span_id(trace: str, *path: str | int) -> str:
    """Name a span by 16 hexadecimal digits, from its place in the trace."""
    text = "/".join([trace, *map(str, path)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
