"""Which migration is the other end of which: the same virtual machine, on the other side, at the same time.

Both ends are seen where a guest moves within a host, and in a replay of both logs.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final, NamedTuple

from qemu_migration_exporter.core.model import ClockKind, Identity, Migration, Side

#: Of those that ended; one that is replayed later, or told later, may still be the other end.
_REMEMBERED: Final = 256
#: A migration has one other end; a name that many machines share has no more than this.
_MOST: Final = 4

#: What tells machines of one name apart within this program, see `sources.recording.deduplicate`.
_ORDINAL: Final = re.compile(r"#\d+$")


class _Seen(NamedTuple):
    identity: Identity
    end_ns: int | None


class CounterpartIndex:
    """Remember the migrations that were seen."""

    def __init__(self) -> None:
        self._open: dict[str, Identity] = {}
        self._ended: deque[_Seen] = deque(maxlen=_REMEMBERED)

    def began(self, identity: Identity) -> None:
        """Note a migration that began, or goes on."""
        self._open[identity.trace_id] = identity

    def ended(self, migration: Migration) -> None:
        """Note the end of a migration."""
        self._open.pop(migration.identity.trace_id, None)
        self._ended.append(_Seen(migration.identity, migration.end_ns))

    def of(self, identity: Identity, end_ns: int) -> list[Identity]:
        """Return the other ends of a migration that goes, or went so far, to `end_ns`."""
        seen = [*self._ended, *(_Seen(each, None) for each in self._open.values())]
        return [
            other.identity
            for other in seen
            if _is_other_end(identity, other.identity)
            and other.identity.start_ns <= end_ns
            and (other.end_ns is None or identity.start_ns <= other.end_ns)
        ][:_MOST]


def _is_other_end(one: Identity, other: Identity) -> bool:
    if ClockKind.RECONSTRUCTED in {one.clock, other.clock}:
        return False  # their times are not comparable
    if {one.side, other.side} != {Side.SOURCE, Side.DESTINATION}:
        return False
    if one.uuid is not None and other.uuid is not None:
        return one.uuid == other.uuid
    return _ORDINAL.sub("", one.vm) == _ORDINAL.sub("", other.vm)
