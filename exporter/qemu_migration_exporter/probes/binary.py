"""What a QEMU binary says of its trace events: the USDT notes in its ELF file."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

_PROVIDER: Final = b"qemu"
_SECTION: Final = ".note.stapsdt"
_OWNER: Final = "stapsdt"
#: `N@OPERAND`, N negative for a signed value, and with an `f` for a double since SystemTap 4.6.
#: An operand may hold blanks, as `8@[sp, 16]` on ARM.
_ARGUMENT: Final = re.compile(rb"(?:^| )(-?)([1248])f?@")
#: What both tools take in the place of a path; wildcards, colons, quotes and line ends mean something else there.
_PATH: Final = re.compile(r"/[\w./+@,=~ -]+")
#: An event's format string stands in the binary where a text backend prints it, and only there.
_LOGGED: Final = re.compile(rb"migrate_set_state new state %[sd]\n")


class ProbeError(Exception):
    """No probe can be made for this binary; the message says why, and what to do instead."""


class Argument(NamedTuple):
    """The shape of a probe's argument: its size in bytes, and whether it has a sign."""

    size: int
    signed: bool


class Binary(NamedTuple):
    """A QEMU binary.

    Attributes:
        path: Where it is, absolute.
        build_id: The linker's id of this build in hexadecimal, or None.
        pointer_size: In bytes.
        probes: Name of each of QEMU's USDT probes → its arguments.
        logs: Whether it can print its events as text, as the `log` backend does.
    """

    path: Path
    build_id: str | None
    pointer_size: int
    probes: Mapping[str, tuple[Argument, ...]]
    logs: bool


def read(path: Path) -> Binary:
    """Read what a binary says of its trace events.

    Raises:
        ProbeError: The file cannot be read, is no ELF file, or a probe cannot name it.
    """
    path = path.absolute()
    if not _PATH.fullmatch(str(path)):
        raise ProbeError(f"{str(path)!r}: bpftrace and SystemTap cannot name a file with such characters; link to it")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            elf = ELFFile(file)
            build_id, probes = _notes(elf)
            return Binary(path, build_id, elf.elfclass // 8, probes, _LOGGED.search(content) is not None)
    except OSError as error:
        raise ProbeError(f"{path}: {error.strerror}") from error
    except (ELFError, ValueError) as error:  # mmap() calls an empty file a ValueError
        raise ProbeError(
            f"{path}: not an ELF file, so not QEMU itself; distributions put a shell script in front of it at times"
        ) from error


def read_traced(path: Path) -> Binary:
    """Read a binary that must have USDT probes.

    Raises:
        ProbeError: As `read()`, or the binary has none.
    """
    binary = read(path)
    if binary.probes:
        return binary
    if binary.logs:
        raise ProbeError(
            f"{binary.path}: no USDT probes: this QEMU was built with the `log` trace backend only; "
            f"use `probe log` instead"
        )
    raise ProbeError(
        f"{binary.path}: no USDT probes of QEMU: either this is another program, or QEMU was built without "
        f"`--enable-trace-backends=dtrace`, or the section {_SECTION} was stripped"
    )


def _notes(elf: ELFFile) -> tuple[str | None, Mapping[str, tuple[Argument, ...]]]:
    build_id = None
    probes: dict[str, tuple[Argument, ...]] = {}
    for section in elf.iter_sections():
        if not isinstance(section, NoteSection):
            continue
        for note in section.iter_notes():
            if note["n_name"] == "GNU" and note["n_type"] == "NT_GNU_BUILD_ID":
                build_id = str(note["n_desc"])
            elif note["n_name"] == _OWNER:
                # A probe has a note for each place it was compiled into, all with the same arguments.
                probes.update(_probe(bytes(note["n_descdata"]), elf.elfclass // 8))
    return build_id, MappingProxyType(probes)


def _probe(description: bytes, pointer_size: int) -> Iterator[tuple[str, tuple[Argument, ...]]]:
    """Read a note: three addresses (the probe, the base, the semaphore), then provider, name and arguments."""
    provider, name, arguments, *_ = [*description[3 * pointer_size :].split(b"\0"), b"", b"", b""]
    if provider == _PROVIDER:
        shapes = tuple(Argument(int(size), sign == b"-") for sign, size in _ARGUMENT.findall(arguments))
        yield name.decode("ascii", "replace"), shapes
