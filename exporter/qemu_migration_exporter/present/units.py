"""Quantities as text: binary units for bytes, three digits for durations, and a dash for unknown values.

The core counts nanoseconds; `seconds_of` and `moment_of` turn them into the seconds and dates of the views.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

UNKNOWN: Final = "\N{EN DASH}"

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
TIB: Final = 1 << 40

_MAX_DECIMALS: Final = 3

#: 9999-12-31T23:59:59.999999Z, the last moment of RFC 3339.
_MAX_NS: Final = 253_402_300_799_999_999_999

#: Smaller values would be rounded to 0.
_LEAST_CELL: Final = 0.05
_LEAST_MS: Final = 0.05
_LEAST_PERCENT: Final = 0.5

#: Durations from which on there is no decimal, and the unit is seconds, minutes, hours.
_WHOLE_MS: Final = 10
_SECOND_MS: Final = 1_000
_MINUTES_S: Final = 120
_HOURS_MIN: Final = 120


def size(count: float | None, decimals: int = 1) -> str:
    """Return bytes in MiB, or in another unit if MiB would be hard to read."""
    if count is None:
        return UNKNOWN
    if count >= 10 * TIB:
        return f"{count / TIB:.{decimals}f} TiB"
    if count >= 10 * GIB:
        return f"{count / GIB:.{decimals}f} GiB"
    if count >= MIB / 10:
        return f"{count / MIB:.{decimals}f} MiB"
    return f"{count / KIB:.{decimals}f} KiB" if count >= KIB else f"{count:.0f} B"


def sizes_apart(left: int, right: int) -> tuple[str, str]:
    """Return two sizes with enough decimals to differ."""
    for decimals in range(1, _MAX_DECIMALS + 1):
        texts = size(left, decimals), size(right, decimals)
        if left == right or texts[0] != texts[1]:
            break
    return texts


def part_of(part: int, whole: int) -> str:
    """Return a part of a size with the whole, both in GiB if that hides no part."""
    text = f"{part / GIB:.1f} GiB" if part >= GIB and whole >= 10 * GIB else size(part)
    return f"{text} of {size(whole)}"


def rate(bytes_per_second: float | None) -> str:
    """Return a bandwidth."""
    return UNKNOWN if bytes_per_second is None else f"{size(bytes_per_second)}/s"


def cell(count: float | None, unit: int) -> str:
    """Return bytes for a table's cell, in the unit of its caption."""
    if count is None:
        return UNKNOWN
    scaled = count / unit
    return "<0.1" if 0 < scaled < _LEAST_CELL else f"{scaled:.1f}"


def duration(seconds: float | None) -> str:
    """Return a duration with about three digits."""
    if seconds is None:
        return UNKNOWN
    if seconds == 0:
        return "0 ms"
    milliseconds = seconds * 1_000
    if milliseconds < _LEAST_MS:
        return "<0.1 ms"
    if round(milliseconds, 1) < _WHOLE_MS:
        return f"{milliseconds:.1f} ms"
    if round(milliseconds) < _SECOND_MS:
        return f"{milliseconds:.0f} ms"
    if round(seconds, 1) < _MINUTES_S:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < _HOURS_MIN:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def duration_cell(seconds: float | None) -> str:
    """Return a duration for a table's cell, short if it has two units."""
    text = duration(seconds)
    if " min" in text:  # 2 min 5 s, 1 h 4 min
        return text.replace(" h", "h").replace(" min", "m").replace(" s", "s")
    # The shorter unit is padded, so that in a column the digits align.
    return f"{text} " if text.endswith(" s") else text


def limit(seconds: float | None, beside: float | None = None) -> str:
    """Return a limit in the unit of the duration beside it."""
    if seconds is None:
        return UNKNOWN
    if seconds < 1 and (beside is None or not duration(beside).endswith((" s", "min"))):
        return f"{_bare(seconds * 1_000)} ms"
    return f"{_bare(seconds)} s"


def share(part: float, whole: float | None) -> str:
    """Return a part of a whole in per cent."""
    if not whole:
        return UNKNOWN
    percent = 100 * part / whole
    return "<1 %" if 0 < percent < _LEAST_PERCENT else f"{percent:.0f} %"


def plural(count: int, noun: str) -> str:
    """Return a count and its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def seconds_of(nanoseconds: int | None) -> float | None:
    """Return the core's nanoseconds as seconds."""
    return None if nanoseconds is None else nanoseconds / 1e9


def moment_of(at_ns: int) -> datetime:
    """Return nanoseconds since 1970 as a date; impossible times of a stream are clamped."""
    seconds, rest_ns = divmod(min(max(at_ns, 0), _MAX_NS), 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1_000)


def _bare(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")
