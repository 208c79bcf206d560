"""Logging to standard error, as logfmt or JSON, one line a record. Set up once, from the command line."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final

LEVELS: Final = ("debug", "info", "warning", "error")
FORMATS: Final = ("logfmt", "json")


def set_up(level: str, log_format: str) -> None:
    """Send the records of all loggers from `level` up to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if log_format == "json" else _Logfmt())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # It tells of its own life at every start; what goes wrong in it is still said.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


class _Logfmt(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{key}={_quoted(value)}" for key, value in _fields(self, record).items())


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_fields(self, record))


def _fields(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str]:
    moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    fields = {
        "ts": moment.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "msg": record.getMessage(),
    }
    if record.exc_info:
        fields["exception"] = formatter.formatException(record.exc_info)
    return fields


def _quoted(value: str) -> str:
    """Quote what is not one plain word; what a record holds stays one line."""
    plain = value.isascii() and value.isprintable() and not any(character in value for character in ' ="\\')
    return value if value and plain else json.dumps(value)
