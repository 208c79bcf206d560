"""Who a process is: a QEMU's name and uuid, from its command line in /proc."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

_PROC: Final = Path("/proc")

#: `-name` first appeared with `guest=` in 2.4; before, and by hand, the name stands alone.
_GUEST: Final = "guest="


class Guest(NamedTuple):
    """A virtual machine, as its QEMU was started."""

    name: str | None
    uuid: str | None


def guest_of(process: int, proc: Path = _PROC) -> Guest:
    """Read the name and uuid of the virtual machine a process runs; both None where there are none, or no process."""
    try:
        arguments = (proc / str(process) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return Guest(None, None)
    following = dict(pairwise(arguments))
    return Guest(_name(following.get("-name", "")), following.get("-uuid"))


def _name(value: str) -> str | None:
    """Read the value of `-name`: options separated by commas, a comma in the name doubled."""
    options = value.replace(",,", "\0").split(",")
    named = next((option.removeprefix(_GUEST) for option in options if option.startswith(_GUEST)), None)
    plain = options[0] if options[0] and "=" not in options[0] else None
    name = named or plain
    return name.replace("\0", ",") if name else None
