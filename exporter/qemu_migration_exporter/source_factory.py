"""Sources made from the configuration: one constructor for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from qemu_migration_exporter.config.schema import SourceConfig
from qemu_migration_exporter.sources import Position, Source
from qemu_migration_exporter.sources.command import Command
from qemu_migration_exporter.sources.fifo import Fifo
from qemu_migration_exporter.sources.files.follow import Follow
from qemu_migration_exporter.sources.standard_input import StandardInput
from qemu_migration_exporter.sources.unix_socket import UnixSocket

#: Constructors of sources by the key of the configuration that names one.
_SOURCES: Final[Mapping[str, Callable[[SourceConfig], Source]]] = {
    "fifo": lambda config: Fifo(config.fifo or ""),
    "socket": lambda config: UnixSocket(config.socket or ""),
    "command": lambda config: Command(config.command or (), config.vm or Path((config.command or ("",))[0]).name),
    "stdin": lambda _: StandardInput(),
}


def make_source(config: SourceConfig, resume: Mapping[str, Position], since_ns: int | None) -> Source:
    """Open a source; `resume` has the positions of its files, `since_ns` the time until which they were followed.

    Raises:
        OSError: There is no file descriptor for it.
        SourceError: It can never be read.
    """
    if config.file is not None:
        return Follow(config.file, resume, since_ns)
    kind = next(kind for kind in _SOURCES if getattr(config, kind))
    return _SOURCES[kind](config)


def describe(config: SourceConfig) -> dict[str, object]:
    """Return the source that a configuration describes."""
    return config.model_dump(exclude_defaults=True)


def why_missing(pattern: str) -> str:
    """Return why no file matches a pattern."""
    directory = Path(pattern).parent
    try:
        names = next(directory.iterdir(), None)
    except OSError as error:  # the reason
        return f"{directory}: {error.strerror}"
    return f"{directory} is empty" if names is None else "no file has this name"
