"""Two minutes of chaos: nothing is lost, nothing is counted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.driver import Chaos
from tests.chaos.receiver import moody


@pytest.mark.timeout(400)
def test_chaos_loses_nothing(tmp_path: Path) -> None:
    """See `tests.chaos.driver` for the invariants."""
    with moody() as receiver:
        chaos = Chaos(tmp_path, receiver, seed=20, seconds=120)
        try:
            outcome = chaos.run()
        finally:
            chaos.close()

    assert outcome.violations == []
    assert (outcome.lost, outcome.counted_twice, outcome.left_active) == (0, 0, 0)
    assert outcome.migrations > 20
    assert outcome.kills > 0
