"""What management set."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.qmp_parameters import Parameters


@pytest.mark.parametrize(
    ("arguments", "limit", "bandwidth"),
    [
        ('{"downtime-limit": 500, "max-bandwidth": 33554432}', 0.5, 33_554_432),
        ('{"max-bandwidth": 0}', None, None),
        ('{"downtime-limit": 2000001, "max-bandwidth": -1}', None, None),
        ('{"downtime-limit": true, "max-bandwidth": "1M"}', None, None),
        ('{"downtime-limit": 5', None, None),
        ("[]", None, None),
        ("[" * 9_999, None, None),
        ("", None, None),
    ],
)
def test_limits_are_taken_if_qemu_would_take_them(arguments: str, limit: float | None, bandwidth: int | None) -> None:
    """A limit of 0 to 2000 s, a bandwidth of more than nothing; what is cut or strange changes nothing."""
    parameters = Parameters()
    parameters.note_parameters(arguments)
    assert (parameters.downtime_limit_seconds, parameters.max_bandwidth) == (limit, bandwidth)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ("{}", 9),  # 20, 30, ... 90, 99
        ('{"cpu-throttle-initial": 50, "cpu-throttle-increment": 25}', 3),  # 50, 75, 99
        ('{"max-cpu-throttle": 20}', 1),
        ('{"max-cpu-throttle": 5}', 1),
    ],
)
def test_auto_converge_has_so_many_steps(arguments: str, steps: int) -> None:
    """From the initial throttle to the greatest."""
    parameters = Parameters()
    parameters.note_parameters(arguments)
    assert parameters.throttle_steps() == steps


def test_capabilities_nobody_asks_for_are_forgotten() -> None:
    """A stream may name as many as it likes."""
    parameters = Parameters()
    parameters.note_capabilities('{"capabilities": [{"capability": "postcopy-ram", "state": true}]}')
    parameters.note_capabilities('{"capabilities": [{"capability": "made-up", "state": true}, {"capability": 7}]}')
    assert parameters.capabilities == {"postcopy-ram": True}
    assert not parameters.is_other_use
