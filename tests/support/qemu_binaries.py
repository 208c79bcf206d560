"""ELF files with the USDT notes of real and of made-up QEMUs, and nothing else of them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from tests.support.paths import DATA

#: A listing each: `tests/data/usdt-notes-RELEASE.txt`.
RELEASES: Final = tuple(sorted(path.stem.removeprefix("usdt-notes-") for path in DATA.glob("usdt-notes-*.txt")))
#: What stands in a QEMU with the `log` trace backend.
LOGGED: Final = b"%d@%zu.%06zu:migrate_set_state new state %s\n"
BUILD_ID: Final = bytes.fromhex("e2c187be2b60346cbea25052f05145b6c74c8f7f")


def notes(release: str) -> list[str]:
    """Return the lines `NAME ARGUMENTS` of a release."""
    lines = (DATA / f"usdt-notes-{release}.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def write_qemu(path: Path, release: str | list[str], *, provider: str = "qemu", text: bytes = b"") -> Path:
    """Write a binary of a release, or of these probes, with this text among its constants."""
    path.write_bytes(_elf(notes(release) if isinstance(release, str) else release, provider, text))
    return path


def _note(owner: bytes, kind: int, description: bytes) -> bytes:
    def padded(data: bytes) -> bytes:
        return data + bytes(-len(data) % 4)

    return struct.pack("<III", len(owner) + 1, len(description), kind) + padded(owner + b"\0") + padded(description)


def _place(line: str) -> tuple[int, str, str]:
    """Split `[0xADDRESS ]NAME ARGUMENTS`."""
    address, rest = (
        (int(line.split(maxsplit=1)[0], 16), line.partition(" ")[2]) if line.startswith("0x") else (0x1105, line)
    )
    name, _, arguments = rest.partition(" ")
    return address, name, arguments


def _elf(probes: list[str], provider: str, text: bytes) -> bytes:
    stapsdt = b"".join(
        _note(
            b"stapsdt", 3, struct.pack("<QQQ", address, 0x20FB, 0x4030) + f"{provider}\0{name}\0{arguments}\0".encode()
        )
        for address, name, arguments in map(_place, probes)
    )
    contents = {
        b"": (0, b""),
        b".note.stapsdt": (7, stapsdt),
        b".note.gnu.build-id": (7, _note(b"GNU", 3, BUILD_ID)),
        b".rodata": (1, text),
        b".shstrtab": (3, b"\0.note.stapsdt\0.note.gnu.build-id\0.rodata\0.shstrtab\0"),
    }
    body, headers, (_, names) = b"", b"", contents[b".shstrtab"]
    for name, (kind, content) in contents.items():
        place = names.index(b"\0" + name + b"\0") + 1 if name else 0
        headers += struct.pack("<IIQQQQIIQQ", place, kind, 0, 0, 64 + len(body), len(content), 0, 0, 4, 0)
        body += content
    head = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 0, 3, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, len(contents), len(contents) - 1),
    )
    return head + body + headers
