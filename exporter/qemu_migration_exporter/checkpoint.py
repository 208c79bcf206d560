"""What a daemon remembers over a restart: the open migrations of each stream, and the place in its file behind them.

The snapshots are the core's own objects. They are read back by an unpickler that knows the core's classes and no
others, so a state file that somebody else wrote can be nonsense, and no more than that.
"""

from __future__ import annotations

import errno
import hashlib
import io
import pickle
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import qemu_migration_exporter
from qemu_migration_exporter import core
from qemu_migration_exporter.core.tracking.snapshot import StreamState
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.ops.outputs import replace_file
from qemu_migration_exporter.sources import Position

#: A snapshot is some 10 KB a migration and round 200 bytes: this is a thousand of the longest.
_MAX_BYTES: Final = 64 * 1024 * 1024

_MAGIC: Final = b"qemu-migration-exporter state\n"

#: What a snapshot is made of, beside the core's own classes. None of these does anything.
_HARMLESS: Final = frozenset({("builtins", "set"), ("builtins", "frozenset"), ("collections", "Counter")})
_OURS: Final = frozenset({(__name__, "Checkpoint"), ("qemu_migration_exporter.sources", "Position")})


class Checkpoint(NamedTuple):
    """One stream as it was: where its file was read to, and what was known then."""

    position: Position
    snapshot: StreamState


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - the base class says so
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        if (module.startswith("qemu_migration_exporter.core.") or (module, name) in _OURS) and "." not in name:
            found = super().find_class(module, name)
            # A module also has what it imported, its functions and __builtins__, which are good for much.
            if isinstance(found, type) and found.__module__ == module:
                return found
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state file")


def save(path: Path, streams: Mapping[str, Checkpoint]) -> None:
    """Write the state beside its place and move it there, so that a crash leaves the old one.

    Raises:
        OSError: It was not kept; the old one is there still, and takes no more room than it did.
    """
    content = _MAGIC + pickle.dumps((_build(), dict(streams)), protocol=5)
    if len(content) > _MAX_BYTES:
        raise OSError(errno.EFBIG, f"it has {len(content)} bytes")
    replace_file(path, content, sync=True)


def load(path: Path, failures: ErrorCounter) -> dict[str, Checkpoint]:
    """Read the state; one that is not there, is another build's or is damaged is empty, and the log says which."""
    try:
        with path.open("rb") as state:
            content = state.read(_MAX_BYTES + 1)
    except FileNotFoundError:  # as at the first start
        return {}
    except OSError as error:
        failures.note(Component.STATE, "the state was not read: %s: %s", path, error.strerror)
        return {}
    if len(content) > _MAX_BYTES or not content.startswith(_MAGIC):
        failures.note(Component.STATE, "the state is ignored: %s is none", path)
        return {}
    try:
        build, streams = _Unpickler(io.BytesIO(content[len(_MAGIC) :])).load()
    except Exception as error:  # noqa: BLE001 - a damaged pickle may raise anything
        failures.note(Component.STATE, "the state is ignored: %s is damaged: %s", path, error)
        return {}
    if build != _build():
        failures.note(Component.STATE, "the state is ignored: %s is of another build, %s", path, build)
        return {}
    if not _is_state(streams):
        failures.note(Component.STATE, "the state is ignored: %s holds something else", path)
        return {}
    return dict(streams)


@cache
def _build() -> str:
    """Name what wrote a state: snapshots are the core's objects, and any change of the core may be one of theirs."""
    digest = hashlib.sha256()
    for path in sorted(Path(core.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{qemu_migration_exporter.__version__}+{digest.hexdigest()[:12]}"


def _is_state(streams: object) -> bool:
    """Whether it has the form of one; what a snapshot holds is seen when a stream goes on with it."""
    return isinstance(streams, dict) and all(
        isinstance(name, str)
        and isinstance(each, Checkpoint)
        and isinstance(each.position, Position)
        and all(isinstance(number, int) and number >= 0 for number in each.position)
        for name, each in streams.items()
    )
