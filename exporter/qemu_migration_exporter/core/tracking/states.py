"""QEMU's MigrationStatus: which state may follow which, and what a state says of its migration.

Source: qapi/migration.json (MigrationStatus) and the callers of migrate_set_state() in migration/*.c, 2.3 to 11.0.
Names later releases may add are not an error: they are counted, and the migration goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from qemu_migration_exporter.core.model import Result

RESULTS: Final[Mapping[str, Result]] = {
    "completed": Result.COMPLETED,
    "failed": Result.FAILED,
    "cancelled": Result.CANCELLED,
}

#: The states before an end that is still to come: what the end will be if its line is lost.
IMPLIED_RESULTS: Final[Mapping[str, Result]] = {"cancelling": Result.CANCELLED, "failing": Result.FAILED}

#: States that only an outgoing migration has. The destination has `setup` too (since 8.2), `active` and the rest.
SOURCE_ONLY: Final = frozenset({"wait-unplug", "pre-switchover", "device", "cancelling", "cancelled", "failing"})

_ENDINGS: Final = frozenset({"cancelling", "failing", "failed"})

TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    "none": frozenset({"setup", "active"}),
    "setup": _ENDINGS | {"active", "wait-unplug"},
    "wait-unplug": _ENDINGS | {"active"},
    "active": _ENDINGS | {"pre-switchover", "device", "completed", "postcopy-active", "colo"},
    "pre-switchover": _ENDINGS | {"device", "completed", "postcopy-active"},
    "device": _ENDINGS | {"completed", "postcopy-device", "postcopy-active", "colo"},
    "postcopy-device": _ENDINGS | {"postcopy-active", "postcopy-paused"},
    "postcopy-active": _ENDINGS | {"completed", "pre-switchover", "device", "postcopy-paused"},
    "postcopy-paused": _ENDINGS | {"postcopy-recover-setup", "postcopy-recover"},
    "postcopy-recover-setup": _ENDINGS | {"postcopy-recover", "postcopy-paused"},
    "postcopy-recover": _ENDINGS | {"postcopy-active", "postcopy-paused"},
    "cancelling": frozenset({"cancelled"}),
    "failing": frozenset({"failed"}),
    "colo": _ENDINGS | {"completed"},
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
