"""The name and uuid of a QEMU process, from its command line in /proc."""

from __future__ import annotations

import logging
import re
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

_PROC: Final = Path("/proc")

#: Longest accepted name: libvirt's log has the name as its file name (NAME_MAX), and every series has it as a label.
#: A longer name is ignored, not cut, because two names with the same beginning are two machines.
_MAX_NAME_BYTES: Final = 255

#: The form that QEMU accepts (qemu_uuid_parse of util/uuid.c).
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

#: `-name` accepts `guest=` since 2.4; in older or manual command lines the value is only the name.
_GUEST: Final = "guest="


class Guest(NamedTuple):
    """A virtual machine, from the options of its QEMU."""

    name: str | None
    uuid: str | None


def read_guest(process: int, proc: Path = _PROC) -> Guest:
    """Return the name and uuid of the virtual machine that a process runs, None for an option that is not given."""
    try:
        arguments = (proc / str(process) / "cmdline").read_bytes().decode("utf-8", "backslashreplace").split("\0")
    except (FileNotFoundError, ProcessLookupError):  # no such process any more
        return Guest(None, None)
    except OSError as error:
        logger.warning("cannot read the name of process %d: %s", process, error.strerror)
        return Guest(None, None)
    following = dict(pairwise(arguments))
    uuid = following.get("-uuid", "")
    return Guest(_name(following.get("-name", "")), uuid if _UUID.fullmatch(uuid) else None)


def _name(value: str) -> str | None:
    """Parse the value of `-name`: options separated by commas, a comma in the name doubled."""
    options = value.replace(",,", "\0").split(",")
    named = next((option.removeprefix(_GUEST) for option in options if option.startswith(_GUEST)), None)
    plain = options[0] if options[0] and "=" not in options[0] else None
    name = named or plain
    return name.replace("\0", ",") if name and len(name.encode()) <= _MAX_NAME_BYTES else None
