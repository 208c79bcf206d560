"""Durations with a unit, such as `90s`, `15m` or `2h`."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

_PATTERN: Final = re.compile(r"[0-9]+(\.[0-9]+)?[smhd]")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def seconds(duration: str) -> float:
    """Convert a valid duration into seconds."""
    return float(duration[:-1]) * _SECONDS[duration[-1]]


def _reject_number(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f"expected a duration with a unit such as {value}s")  # noqa: TRY004 - pydantic's way
    return value


def _validate_duration(text: str) -> str:
    if not _PATTERN.fullmatch(text):
        raise ValueError("expected a duration such as 90s, 15m or 2h")
    return text


def _validate_positive(text: str) -> str:
    if seconds(text) == 0:
        raise ValueError("expected a duration greater than 0")
    return text


#: A duration, possibly `0s`.
Duration = Annotated[str, BeforeValidator(_reject_number), AfterValidator(_validate_duration)]
PositiveDuration = Annotated[Duration, AfterValidator(_validate_positive)]
