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


def root_span(trace: str) -> str:
    """Name the span `migrate`."""
    return span_id(trace, "migrate")


def phase_span(trace: str, phase: str) -> str:
    """Name the span of a phase; the rounds are the spans of the iterate phase."""
    return span_id(trace, "phase", phase)


def round_span(trace: str, number: int) -> str:
    """Name the span `iterate` of a round."""
    return span_id(trace, "iterate", number)


def sync_span(trace: str, number: int) -> str:
    """Name a span `bitmap_sync`."""
    return span_id(trace, "bitmap_sync", number)
