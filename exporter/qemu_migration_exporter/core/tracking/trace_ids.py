"""Deterministic trace and span ids: the same recording gives the same ids, another gives others."""

from __future__ import annotations

import hashlib


def trace_id(vm: str, first_line: bytes, ordinal: int, arrival_ns: int | None = None) -> str:
    """Return the trace id of a migration, 32 hexadecimal digits.

    Args:
        vm: The virtual machine's name.
        first_line: The raw line that began the migration.
        ordinal: The migration's number in its stream.
        arrival_ns: Time of arrival in a live stream without times, because such lines repeat themselves.
    """
    arrival = "" if arrival_ns is None else str(arrival_ns)
    text = b"\0".join([vm.encode(), first_line, str(ordinal).encode(), arrival.encode()])
    return hashlib.sha256(text).hexdigest()[:32]


def span_id(trace: str, *path: str | int) -> str:
    """Return a span id, 16 hexadecimal digits, from the span's place in the trace."""
    text = "/".join([trace, *map(str, path)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def root_span(trace: str) -> str:
    """Return the id of the span `migrate`."""
    return span_id(trace, "migrate")


def phase_span(trace: str, phase: str) -> str:
    """Return the id of a phase's span; the iterate phase has a span for each round instead."""
    return span_id(trace, "phase", phase)


def round_span(trace: str, number: int) -> str:
    """Return the id of a round's span `iterate`."""
    return span_id(trace, "iterate", number)


def sync_span(trace: str, number: int) -> str:
    """Return the id of a sync's span `bitmap_sync`."""
    return span_id(trace, "bitmap_sync", number)
