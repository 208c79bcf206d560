"""Log lines about migrations, which show stalls to an operator without Prometheus.

There is a line for the start of a migration, for a stall with its reason and advice, for the end of the stall, and for
the end of the migration. Every variable part is a field: `journalctl -u qemu-migration-exporter | grep 'vm=web-42'` is
the history of a machine.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from qemu_migration_exporter.core.changes import Change, MigrationEnded, Resumed, StallCleared, Stalled, Started
from qemu_migration_exporter.core.model import Identity, Kind, Migration, Result, Stall

logger = logging.getLogger(__name__)


class Journal:
    """A sink that logs migrations."""

    def __init__(self) -> None:
        self._identities: dict[str, Identity] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Log starts, stalls and ends of migrations."""
        for change in changes:
            match change:
                case Started(identity=identity):
                    self._identities[identity.trace_id] = identity
                    logger.info("migration started", extra=_fields(identity))
                case Resumed(identity=identity):
                    self._identities[identity.trace_id] = identity
                    logger.info("migration resumed after a restart", extra=_fields(identity))
                case Stalled(trace_id=trace_id, stall=stall):
                    self._log_stall(trace_id, stall)
                case StallCleared(trace_id=trace_id, stall=stall):
                    self._log_end_of_stall(trace_id, stall)
                case MigrationEnded(migration=migration):
                    self._identities.pop(migration.identity.trace_id, None)
                    _log_end(migration)
                case _:
                    pass

    def _log_stall(self, trace_id: str, stall: Stall) -> None:
        identity = self._identities.get(trace_id)
        if identity is None:
            return
        from qemu_migration_exporter.present.advice import advice_for  # noqa: PLC0415 - see app

        advice = advice_for(identity, stall)
        numbers: dict[str, Any] = {
            "reason": stall.reason.value,
            "round": stall.round,
            "since_seconds": (stall.start_ns - stall.since_ns) / 1e9,
            "best_pending_bytes": stall.best_pending_bytes,
            "bandwidth_bytes_per_second": stall.bandwidth_bytes_per_second,
            "dirty_bytes_per_second": stall.dirty_bytes_per_second,
            "downtime_limit_seconds": stall.downtime_limit_seconds,
            "required_downtime_seconds": stall.required_downtime_seconds,
            "best_case_seconds": stall.best_case_seconds,
            "advice": advice[0].virsh if advice else None,
        }
        logger.warning("migration stalled", extra=_fields(identity) | numbers)

    def _log_end_of_stall(self, trace_id: str, stall: Stall) -> None:
        identity = self._identities.get(trace_id)
        if identity is not None and stall.end_ns is not None:
            numbers = {"reason": stall.reason.value, "stalled_seconds": (stall.end_ns - stall.start_ns) / 1e9}
            logger.info("migration stall ended", extra=_fields(identity) | numbers)


def _log_end(migration: Migration) -> None:
    from qemu_migration_exporter.present.view_builder import migration_view  # noqa: PLC0415 - see app
    from qemu_migration_exporter.present.wording.sentences import headline_text  # noqa: PLC0415

    level = logging.WARNING if migration.result is Result.FAILED else logging.INFO
    numbers = {
        "result": migration.result.value,
        "inferred": migration.result_inferred or None,
        "duration_seconds": _seconds(migration.duration_ns),
        "downtime_seconds": _seconds(migration.downtime_ns),
        "blackout_seconds": _seconds(migration.blackout_ns),
        "error": migration.error,
        "guest_lost": migration.is_guest_lost or None,
        "summary": headline_text(migration_view(migration)),
    }
    logger.log(level, "migration ended", extra=_fields(migration.identity) | numbers)


def _fields(identity: Identity) -> dict[str, Any]:
    return {
        "vm": identity.vm,
        "trace_id": identity.trace_id,
        "side": None if identity.side is None else identity.side.value,
        "kind": None if identity.kind is Kind.LIVE else identity.kind.value,
    }


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / 1e9
