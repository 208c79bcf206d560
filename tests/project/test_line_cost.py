"""The cost of one line of a stall, which a daemon reads for hours: calls do not depend on the machine."""

from __future__ import annotations

import pytest

from tests.bench.calls import Cost, costs

#: The most calls and files of the usual line with this event; they only go down.
_LIMITS = {
    "migrate_pending": Cost(28, 16),
    "migrate_transferred": Cost(43, 20),
    "savevm_state_iterate": Cost(24, 13),
    "savevm_section_start": Cost(20, 10),
    "savevm_section_end": Cost(20, 10),
}


@pytest.mark.parametrize("event", _LIMITS)
def test_line_makes_few_calls(event: str) -> None:
    found = sorted(costs()[event])
    usual, limit = found[len(found) // 2], _LIMITS[event]

    assert (usual.calls, usual.files) <= (limit.calls, limit.files)
    assert usual.files <= limit.files
