"""The last event of a migration: how long events may follow its outcome, or the end of its loop."""

from __future__ import annotations

from typing import Final

from qemu_migration_exporter.core.migration.outcome import Outcome

#: after_loop, cleanup and error_report lines this soon after the outcome still belong to it.
LINGER_NS: Final = 1_000_000_000

#: After after_loop, QEMU joins its threads, closes its channels, and prints a terminal state. A state later than this
#: is lost.
LOST_OUTCOME_NS: Final = 30_000_000_000

#: A running migration prints a line every 100 ms. A migration that waits for its operator (in pre-switchover, or in a
#: post-copy that lost its network) prints nothing. After a day of silence its QEMU is gone.
SILENCE_NS: Final = 24 * 3600 * 1_000_000_000

#: libvirt's own line about the end comes soon after QEMU's.
_ENDING_NS: Final = 5_000_000_000


def last_event_by_ns(outcome: Outcome) -> int | None:
    """Return the time by which the last event has come; None if the migration goes on."""
    if outcome.at_ns is not None:
        return outcome.at_ns + (LINGER_NS if outcome.qemu_ended is None else _ENDING_NS)
    return None if outcome.left_loop_ns is None else outcome.left_loop_ns + LOST_OUTCOME_NS
