"""Names of virtual machines, derived from the paths of their logs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from qemu_migration_exporter.ops.sanitize import decode_filename

#: `VM.log.1`, but not a machine called `db.1`.
_BACKUP: Final = re.compile(r"(?<=\.log)\.\d+$")
_ENDING: Final = re.compile(r"\.[A-Za-z]+$")


def vm_name(path: str) -> str:
    """Return the file's name without directory, `.gz`, backup number and ending; "stdin" for "-"."""
    if path == "-":
        return "stdin"
    name = Path(decode_filename(path)).name
    base = _BACKUP.sub("", name.removesuffix(".gz"))
    return _ENDING.sub("", base) or name


def deduplicate(vm: str, taken: Sequence[str]) -> tuple[str, bool]:
    """Return a unique name, and whether `vm` was taken: two logs may be of machines with the same name."""
    number = sum(1 for other in taken if other == vm or other.startswith(f"{vm}#"))
    return (f"{vm}#{number + 1}", True) if number else (vm, False)
