"""How long the events of a migration may follow its end, or one another."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.migration.outcome import Outcome
from qemu_migration_exporter.core.tracking.last_event import last_event_by_ns

from tests.support.core_helpers import EPOCH_NS, log_lines, new_stream

SECOND = 1_000_000_000
DAY = 24 * 3600 * SECOND


@pytest.mark.parametrize(
    ("outcome", "expected_s"),
    [
        (Outcome(), None),
        (Outcome(at_ns=5 * SECOND), 6),
        (Outcome(at_ns=5 * SECOND, qemu_ended="crashed"), 10),
        (Outcome(left_loop_ns=5 * SECOND), 35),
        (Outcome(at_ns=7 * SECOND, left_loop_ns=5 * SECOND), 8),
    ],
    ids=["it runs", "an outcome", "QEMU ended", "the loop ended", "both"],
)
def test_last_event_follows_end_within_seconds(outcome: Outcome, expected_s: int | None) -> None:
    """Lines of the cleanup follow an outcome, libvirt's line the end of QEMU, and the outcome that of the loop."""
    assert last_event_by_ns(outcome) == (None if expected_s is None else expected_s * SECOND)


@pytest.mark.parametrize(("passed_ns", "is_open"), [(DAY, True), (DAY + 1, False)])
def test_migration_is_gone_after_a_silent_day(passed_ns: int, *, is_open: bool) -> None:
    stream = new_stream()
    stream.feed(log_lines("migrate_pending pending size 9 max 0").encode())
    stream.tick(EPOCH_NS + passed_ns)
    assert is_open == bool(stream.running())
