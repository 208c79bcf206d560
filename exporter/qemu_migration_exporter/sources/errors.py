"""Errors of sources and recordings."""

from __future__ import annotations

from qemu_migration_exporter.ops.errors import UserError


class SourceError(UserError):
    """A source that cannot be read at all; the message names it, the cause and what was expected."""


class DamagedError(SourceError):
    """A source that broke off in the middle; the data before is good."""
