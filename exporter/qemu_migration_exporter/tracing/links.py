"""Links between the two ends of one migration: the same virtual machine, on the other side, at the same time.

The exporter sees both ends if a guest moves within a host, and in a replay of both logs.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, NamedTuple

from qemu_migration_exporter.core.model import ClockKind, Identity, Migration, Side

#: Number of ended migrations to keep, because the log of the other end may be read later.
_MAX_ENDED: Final = 256
#: A migration has one other end; more links are found only if virtual machines share a name.
_MAX_COUNTERPARTS: Final = 4

#: Suffix of virtual machines that share a name, see `sources.recording.deduplicate`.
_ORDINAL: Final = re.compile(r"#\d+$")


class _Seen(NamedTuple):
    identity: Identity
    end_ns: int | None


class CounterpartIndex:
    """Running and recently ended migrations, for the search for the other end."""

    def __init__(self) -> None:
        self._open: dict[str, Identity] = {}
        self._ended: deque[_Seen] = deque(maxlen=_MAX_ENDED)

    def add(self, identity: Identity) -> None:
        """Add a migration that began or was resumed."""
        self._open[identity.trace_id] = identity

    def end(self, migration: Migration) -> None:
        """Record the end of a migration."""
        self._open.pop(migration.identity.trace_id, None)
        self._ended.append(_Seen(migration.identity, migration.end_ns))

    def find(self, identity: Identity, end_ns: int) -> list[Identity]:
        """Return the other ends of a migration that lasted until `end_ns`."""
        seen = [*self._ended, *(_Seen(running, None) for running in self._open.values())]
        return [
            other.identity
            for other in seen
            if _are_two_ends(identity, other.identity)
            and other.identity.start_ns <= end_ns
            and (other.end_ns is None or identity.start_ns <= other.end_ns)
        ][:_MAX_COUNTERPARTS]


def _are_two_ends(one: Identity, other: Identity) -> bool:
    if ClockKind.RECONSTRUCTED in {one.clock, other.clock}:
        return False  # their times are not comparable
    if {one.side, other.side} != {Side.SOURCE, Side.DESTINATION}:
        return False
    if one.uuid is not None and other.uuid is not None:
        return one.uuid == other.uuid
    return _ORDINAL.sub("", one.vm) == _ORDINAL.sub("", other.vm)
