"""Errors of sources and recordings."""

from __future__ import annotations

from qemu_migration_exporter.ops.errors import UserError


class SourceError(UserError):
    """An error of a source that cannot be read; the message has the source, the cause and the expectation."""


class DamagedError(SourceError):
    """An error in the middle of a source; the data before is valid."""
