"""The table of QEMU's migration states.

Source: qapi/migration.json (MigrationStatus) and the callers of migrate_set_state() in migration/*.c, 2.3 to 11.0.
A name that a later release adds is counted as a surprise, and the migration continues.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from qemu_migration_exporter.core.model import Result


class StateFacts(NamedTuple):
    """Facts about one state.

    Attributes:
        successors: The states that may follow.
        result: The result of a migration that ends in it.
        implied: The result of a migration if this is the last state printed and its end was not.
        source_only: Only an outgoing migration has it. The destination has `setup` too since 8.2.
        joins: If it comes first, the stream was joined in the middle of a migration.
    """

    successors: frozenset[str]
    result: Result | None = None
    implied: Result | None = None
    source_only: bool = False
    joins: bool = False


_ENDINGS: Final = frozenset({"cancelling", "failing", "failed"})


def _to(*states: str) -> frozenset[str]:
    return _ENDINGS | set(states)


_FINAL: Final = frozenset[str]()

STATES: Final[Mapping[str, StateFacts]] = {
    "none": StateFacts(frozenset({"setup", "active"})),
    "setup": StateFacts(_to("active", "wait-unplug", "completed")),  # completed by savevm, which is never active
    "wait-unplug": StateFacts(_to("active"), source_only=True, joins=True),
    "active": StateFacts(
        _to("pre-switchover", "device", "completed", "postcopy-device", "postcopy-active", "colo"), joins=True
    ),
    "pre-switchover": StateFacts(_to("device", "completed", "postcopy-active"), source_only=True, joins=True),
    "device": StateFacts(_to("completed", "postcopy-device", "postcopy-active", "colo"), source_only=True, joins=True),
    "postcopy-device": StateFacts(_to("postcopy-active", "postcopy-paused")),
    "postcopy-active": StateFacts(_to("completed", "pre-switchover", "device", "postcopy-paused"), joins=True),
    "postcopy-paused": StateFacts(_to("postcopy-recover-setup", "postcopy-recover"), joins=True),
    "postcopy-recover-setup": StateFacts(_to("postcopy-recover", "postcopy-paused")),
    "postcopy-recover": StateFacts(_to("postcopy-active", "postcopy-paused")),
    "cancelling": StateFacts(frozenset({"cancelled"}), implied=Result.CANCELLED, source_only=True, joins=True),
    "failing": StateFacts(frozenset({"failed"}), implied=Result.FAILED, source_only=True, joins=True),
    "colo": StateFacts(_to("completed")),
    "completed": StateFacts(_FINAL, result=Result.COMPLETED),
    "failed": StateFacts(_FINAL, result=Result.FAILED),
    "cancelled": StateFacts(_FINAL, result=Result.CANCELLED, source_only=True),
}

RESULTS: Final[Mapping[str, Result]] = {
    name: state.result for name, state in STATES.items() if state.result is not None
}
IMPLIED_RESULTS: Final[Mapping[str, Result]] = {
    name: state.implied for name, state in STATES.items() if state.implied is not None
}
SOURCE_ONLY: Final = frozenset(name for name, state in STATES.items() if state.source_only)
JOINING: Final = frozenset(name for name, state in STATES.items() if state.joins)
