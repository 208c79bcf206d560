"""Live sources of trace events."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import field_validator, model_validator

from qemu_migration_exporter.config.section import Section
from qemu_migration_exporter.core.parsing.formats import FORMATS


class SourceConfig(Section):
    """A live source: exactly one of file, fifo, socket, stdin and command.

    Attributes:
        file: A path, or a pattern with wildcards in its last part: every file is a stream.
        fifo: A named pipe; its writers come and go.
        socket: A unix stream socket to listen on: every writer is a stream.
        stdin: Standard input.
        command: A program and its arguments whose output is the stream; started again when it ends.
        vm: The virtual machine's name; default the file's name, or that of the process in /proc.
        format: Format of the lines; recognised if left out.
    """

    file: str | None = None
    fifo: str | None = None
    socket: str | None = None
    stdin: bool = False
    command: tuple[str, ...] | None = None
    vm: str | None = None
    format: str | None = None

    @field_validator("command", mode="before")
    @classmethod
    def _validate_command(cls, command: object) -> object:
        return tuple(command) if isinstance(command, list) else command

    @field_validator("format")
    @classmethod
    def _validate_format(cls, name: str | None) -> str | None:
        if name is not None and name not in FORMATS:
            raise ValueError(f"expected one of {', '.join(sorted(FORMATS))}")
        return name

    @model_validator(mode="after")
    def _validate_kind(self) -> SourceConfig:
        kinds = [self.file, self.fifo, self.socket, self.stdin or None, self.command or None]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("expected exactly one of file, fifo, socket, stdin and command")
        return self


#: libvirt's log of each virtual machine on this host.
DEFAULT_SOURCES: Final = (SourceConfig(file="/var/log/libvirt/qemu/*.log"),)


def source_of(path: str) -> SourceConfig:
    """Return the source for a path on the command line, by the present type of the file."""
    if path == "-":
        return SourceConfig(stdin=True)
    kind = Path(path)
    if kind.is_fifo():
        return SourceConfig(fifo=path)
    return SourceConfig(socket=path) if kind.is_socket() or path.endswith(".sock") else SourceConfig(file=path)
