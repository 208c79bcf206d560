"""Waits of a migration, and their limits."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.model import PhaseName, StallReason
from qemu_migration_exporter.core.stalls.wait_timer import Wait, WaitTimeouts, WaitTimer

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
def test_each_wait_has_limit(state: str | None, phase: PhaseName, reason: StallReason, limit: float) -> None:
    """The wait counts from the event that begins it."""
    waits = WaitTimer(WaitTimeouts(), 0)
    waits.state_is(5 * SECOND, state=state, phase=phase, sends=True)
    assert waits.present == Wait(reason, 5 * SECOND, round((5 + limit) * SECOND))


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
def test_other_states_are_no_wait(state: str | None, phase: PhaseName | None, *, sends: bool) -> None:
    """An end that was asked for, and a silence that means nothing."""
    waits = WaitTimer(WaitTimeouts(), 0)
    waits.state_is(0, state=state, phase=phase, sends=sends)
    assert waits.present is None


def test_any_movement_restarts_silence() -> None:
    """But no event restarts the wait for an operator's command."""
    waits = WaitTimer(WaitTimeouts(), 0)
    waits.state_is(0, state="active", phase=PhaseName.ITERATE, sends=True)
    waits.moved_ns = 40 * SECOND
    assert waits.present == Wait(StallReason.NO_THROUGHPUT, 40 * SECOND, 70 * SECOND)

    waits.state_is(70 * SECOND, state="pre-switchover", phase=PhaseName.COMPLETE_PRECOPY, sends=True)
    waits.moved_ns = 79 * SECOND
    assert waits.present == Wait(StallReason.BLOCKED_PRE_SWITCHOVER, 70 * SECOND, 80 * SECOND)


def test_same_reason_continues_wait() -> None:
    """Another state or another phase that waits for the same has waited since the first."""
    waits = WaitTimer(WaitTimeouts(), 0)
    for second, state in ((3, "postcopy-paused"), (5, "postcopy-recover-setup"), (9, "postcopy-recover")):
        waits.state_is(second * SECOND, state=state, phase=PhaseName.POSTCOPY, sends=True)
        assert waits.present == Wait(StallReason.POSTCOPY_PAUSED, 3 * SECOND, 3 * SECOND)
