"""Types of arguments: each converts a word, or raises an error that names the expected form."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from qemu_migration_exporter.config.addresses import AddressError, parse_address, parse_path


def address(text: str) -> str:
    """Check an address to listen on."""
    try:
        parse_address(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def url_path(text: str) -> str:
    """Check the path of a URL."""
    try:
        return parse_path(text)
    except AddressError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def rfc3339_ns(text: str) -> int:
    """Parse a time into nanoseconds since the epoch; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected a time such as 2026-11-22T22:39:05Z, got {text!r}") from error
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000_000) * 1_000


def positive(text: str) -> float:
    """Parse a finite number above 0."""
    try:
        number = float(text)
    except ValueError:  # as wrong as 0
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number
