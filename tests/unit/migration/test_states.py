"""QEMU's migration states as evidence: of a migration joined in its middle, and of its side."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.migration.states import STATES
from qemu_migration_exporter.core.model import Side

from tests.support.core_helpers import log_lines, read

SOURCE, DESTINATION = Side.SOURCE, Side.DESTINATION

#: State that a stream begins with, and the sides of the migrations that this begins.
FIRST = {
    "none": [],
    "setup": [None],
    "wait-unplug": [SOURCE],
    "active": [DESTINATION],  # to 8.1 a destination has no `setup`
    "pre-switchover": [SOURCE],
    "device": [SOURCE],
    "postcopy-device": [],
    "postcopy-active": [None],
    "postcopy-paused": [None],
    "postcopy-recover-setup": [],
    "postcopy-recover": [],
    "cancelling": [SOURCE],
    "failing": [SOURCE],
    "colo": [],
    "completed": [],
    "failed": [],
    "cancelled": [],
}

#: State after `active`, and the side it shows.
LATER = {"pre-switchover": SOURCE, "device": SOURCE, "cancelling": SOURCE, "cancelled": SOURCE, "failing": SOURCE}


@pytest.mark.parametrize("state", STATES)
def test_first_state_may_join_a_migration(state: str) -> None:
    migrations = read(log_lines(f"M migrate_set_state new state {state}")).migrations
    assert FIRST[state] == [migration.identity.side for migration in migrations]


@pytest.mark.parametrize("state", [state for state in STATES if state not in {"setup", "wait-unplug"}])
def test_later_state_shows_the_side(state: str) -> None:
    """Both sides are in the states of a migration that succeeds."""
    before = "M migrate_set_state new state setup\nM migrate_set_state new state active\n"
    migration = read(log_lines(f"{before}M migrate_set_state new state {state}")).migration
    assert LATER.get(state) is migration.identity.side
