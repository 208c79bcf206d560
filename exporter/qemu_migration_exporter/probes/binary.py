r"""USDT notes of a QEMU binary: its trace events, their arguments and their addresses.

A binary built with the `dtrace` trace backend has a note in `.note.stapsdt` for each place a mark was compiled into:

    Location, base, semaphore (addresses), then "qemu\0" "migrate_transferred\0" "8@%r12 8@%rbp 8@%rbx 8@%r13\0"

A probe attaches at the Location. If the file was prelinked, all Locations have moved by the distance between
`.stapsdt.base` and `base`.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

_PROVIDER: Final = b"qemu"
_SECTION: Final = ".note.stapsdt"
_BASE_SECTION: Final = ".stapsdt.base"
_OWNER: Final = "stapsdt"
#: `N@OPERAND`, N negative for a signed value, and with an `f` for a double since SystemTap 4.6.
#: An operand may hold blanks, as `8@[sp, 16]` on ARM.
_ARGUMENT: Final = re.compile(rb"(?:^| )(-?)([1248])f?@")
#: Characters without a special meaning in both tools' paths, unlike wildcards, colons, quotes and line ends.
_PATH: Final = re.compile(r"/[\w./+@,=~ -]+")
#: The format string of an event is in the binary if a text backend prints it, and only then.
_LOGGED: Final = re.compile(rb"migrate_set_state new state %[sd]\n")


class ProbeError(Exception):
    """A binary for which no probe can be made; the message has the reason and the alternative."""


class Argument(NamedTuple):
    """The shape of a probe's argument: its size in bytes, and whether it has a sign."""

    size: int
    signed: bool


class Binary(NamedTuple):
    """A QEMU binary.

    Attributes:
        path: Absolute path.
        build_id: The linker's id of this build in hexadecimal, or None.
        pointer_size: In bytes.
        probes: Name of each of QEMU's USDT probes → its arguments.
        addresses: Address at which a probe was compiled in → the probe's name.
        logs: True if the binary prints its events as text, as the `log` backend does.
    """

    path: Path
    build_id: str | None
    pointer_size: int
    probes: Mapping[str, tuple[Argument, ...]]
    addresses: Mapping[int, bytes]
    logs: bool


class _Note(NamedTuple):
    address: int
    base: int
    name: bytes
    arguments: tuple[Argument, ...]


def read(path: Path) -> Binary:
    """Read the trace events of a binary.

    Raises:
        ProbeError: The file cannot be read, is not an ELF file, or has a path that a probe cannot contain.
    """
    path = path.absolute()
    if not _PATH.fullmatch(str(path)):
        raise ProbeError(f"{str(path)!r}: bpftrace and SystemTap cannot name a file with such characters; link to it")
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            elf = ELFFile(file)
            build_id, notes = _notes(elf)
            base = elf.get_section_by_name(_BASE_SECTION)
            return Binary(
                path,
                build_id,
                elf.elfclass // 8,
                MappingProxyType({note.name.decode("ascii", "replace"): note.arguments for note in notes}),
                MappingProxyType(
                    {note.address + (0 if base is None else base["sh_addr"] - note.base): note.name for note in notes}
                ),
                _LOGGED.search(content) is not None,
            )
    except OSError as error:
        raise ProbeError(f"{path}: {error.strerror}") from error
    except (ELFError, ValueError) as error:  # mmap() raises a ValueError for an empty file
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


def mark_addresses(path: Path) -> Mapping[int, bytes]:
    """Return the address of each mark of a binary and its name.

    Raises:
        ProbeError: As `read_traced()`.
    """
    try:
        version = path.stat().st_mtime_ns
    except OSError as error:
        raise ProbeError(f"{path}: {error.strerror}") from error
    return _mark_addresses(path, version)


@lru_cache(maxsize=4)
def _mark_addresses(path: Path, _version: int) -> Mapping[int, bytes]:
    return read_traced(path).addresses


def _notes(elf: ELFFile) -> tuple[str | None, list[_Note]]:
    build_id = None
    notes: list[_Note] = []
    for section in elf.iter_sections():
        if not isinstance(section, NoteSection):
            continue
        for note in section.iter_notes():
            if note["n_name"] == "GNU" and note["n_type"] == "NT_GNU_BUILD_ID":
                build_id = str(note["n_desc"])
            elif note["n_name"] == _OWNER:
                notes += _parse_note(bytes(note["n_descdata"]), elf.elfclass // 8, little=elf.little_endian)
    return build_id, notes


def _parse_note(description: bytes, pointer_size: int, *, little: bool) -> Iterator[_Note]:
    """Parse a note, if it describes a mark of QEMU."""
    address, base = (
        int.from_bytes(description[at : at + pointer_size], "little" if little else "big") for at in (0, pointer_size)
    )
    provider, name, arguments, *_ = [*description[3 * pointer_size :].split(b"\0"), b"", b"", b""]
    if provider == _PROVIDER:
        shapes = tuple(Argument(int(size), sign == b"-") for sign, size in _ARGUMENT.findall(arguments))
        yield _Note(address, base, name, shapes)
