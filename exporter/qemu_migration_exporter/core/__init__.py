"""The pure core: bytes and time come in as values, changes go out as values.

Nothing below this package opens a file, reads a clock or knows what telemetry is;
an import contract in pyproject.toml keeps it so.
"""
