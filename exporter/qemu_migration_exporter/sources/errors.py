"""Errors of sources and recordings."""

from __future__ import annotations


class SourceError(Exception):
    """A source that cannot be read at all; the message names it, the cause and what was expected."""


class DamagedError(SourceError):
    """A source that broke off in the middle; the data before is good."""
