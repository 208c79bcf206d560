"""The error of a configuration, apart from the YAML loader, which a daemon without a configuration file never loads."""

from __future__ import annotations

from qemu_migration_exporter.ops.errors import UserError
from qemu_migration_exporter.ops.sanitize import escape_control


class ConfigError(UserError):
    """A configuration that cannot be used.

    Attributes:
        mistakes: A line for each mistake: file, line, key, the expected and the found value.
    """

    def __init__(self, mistakes: list[str]) -> None:
        self.mistakes = [escape_control(mistake) for mistake in mistakes]
        super().__init__("\n".join(self.mistakes))
