"""What a migration waits for, and when that is too long."""

from __future__ import annotations

import pytest

from exporter.core.model import PhaseName, StallReason
from exporter.core.waits import Limits, Wait, Waits

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("state", "phase", "reason", "limit"),
    [
        ("setup", PhaseName.SETUP, StallReason.BLOCKED_SETUP, 60),
        (None, PhaseName.SETUP, StallReason.BLOCKED_SETUP, 60),
        ("wait-unplug", PhaseName.SETUP, StallReason.BLOCKED_WAIT_UNPLUG, 60),
        ("pre-switchover", PhaseName.COMPLETE_PRECOPY, StallReason.BLOCKED_PRE_SWITCHOVER, 10),
        ("postcopy-paused", PhaseName.POSTCOPY, StallReason.POSTCOPY_PAUSED, 0),
        ("postcopy-recover-setup", PhaseName.POSTCOPY, StallReason.POSTCOPY_PAUSED, 0),
        ("postcopy-recover", PhaseName.POSTCOPY, StallReason.POSTCOPY_PAUSED, 0),
        ("active", PhaseName.ITERATE, StallReason.NO_THROUGHPUT, 30),
        ("device", PhaseName.COMPLETE_PRECOPY, StallReason.NO_THROUGHPUT, 30),
        ("postcopy-active", PhaseName.POSTCOPY, StallReason.NO_THROUGHPUT, 30),
    ],
)
def test_each_wait_has_its_limit(state: str | None, phase: PhaseName, reason: StallReason, limit: float) -> None:
    """Whenever somebody looks, it became too long at the same time."""
    waits = Waits(Limits(), 0)
    waits.see(5 * SECOND, state=state, phase=phase, sends=True, moved=True)
    deadline_ns = round((5 + limit) * SECOND)
    if limit:
        assert waits.due(deadline_ns - 1) is None
    assert waits.due(deadline_ns) == waits.due(deadline_ns + 99) == Wait(reason, 5 * SECOND, deadline_ns)


@pytest.mark.parametrize(
    ("state", "phase", "sends"),
    [
        ("active", PhaseName.ITERATE, False),  # the stream has nothing but states
        ("active", PhaseName.SETUP, False),  # and no mark of setup's end
        ("cancelling", PhaseName.ITERATE, True),
        ("failing", PhaseName.COMPLETE_PRECOPY, True),
        ("active", PhaseName.CLEANUP, True),
        (None, None, True),
    ],
)
def test_what_is_no_wait(state: str | None, phase: PhaseName | None, *, sends: bool) -> None:
    """An end that was asked for, and a silence that means nothing."""
    waits = Waits(Limits(), 0)
    waits.see(0, state=state, phase=phase, sends=sends, moved=True)
    assert waits.due(9_999 * SECOND) is None


def test_whatever_moves_starts_the_silence_again() -> None:
    """But not the wait for somebody: QEMU may say what it likes meanwhile."""
    waits = Waits(Limits(), 0)
    for second in (0, 20, 40):
        waits.see(second * SECOND, state="active", phase=PhaseName.ITERATE, sends=True, moved=second != 20)
    assert waits.due(69 * SECOND) is None
    assert waits.due(70 * SECOND) is not None

    for second in (70, 79):
        waits.see(second * SECOND, state="pre-switchover", phase=PhaseName.COMPLETE_PRECOPY, sends=True, moved=True)
    assert waits.due(80 * SECOND) == Wait(StallReason.BLOCKED_PRE_SWITCHOVER, 70 * SECOND, 80 * SECOND)
