"""Parameters and capabilities set over QMP."""

from __future__ import annotations

import json
import re

import pytest
from qemu_migration_exporter.core.qmp_parameters import Parameters, read_object


@pytest.mark.parametrize(
    ("arguments", "limit", "bandwidth"),
    [
        ('{"downtime-limit": 500, "max-bandwidth": 33554432}', 0.5, 33_554_432),
        ('{"downtime-limit": 0, "max-bandwidth": 1}', 0, 1),
        ('{"downtime-limit": 2000000, "max-bandwidth": 18446744073709551616}', 2_000, 1 << 64),
        ('{"downtime-limit": -1, "max-bandwidth": 18446744073709551617}', None, None),
        ('{"max-bandwidth": 0}', None, None),
        ('{"downtime-limit": 2000001, "max-bandwidth": -1}', None, None),
        ('{"downtime-limit": true, "max-bandwidth": "1M"}', None, None),
        ('{"downtime-limit": 5', None, None),
        ("[]", None, None),
        ("[" * 9_999, None, None),
        ("", None, None),
    ],
)
def test_limits_follow_qemu_validation(arguments: str, limit: float | None, bandwidth: int | None) -> None:
    """QEMU accepts a limit of 0 to 2000 s and a bandwidth above 0; cut or strange values change nothing."""
    parameters = Parameters()
    parameters.note_parameters(arguments)
    assert (parameters.downtime_limit_seconds, parameters.max_bandwidth) == (limit, bandwidth)


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ("{}", 9),  # 20, 30, ... 90, 99
        ('{"cpu-throttle-initial": 50, "cpu-throttle-increment": 25}', 3),  # 50, 75, 99
        ('{"cpu-throttle-initial": 99}', 1),
        ('{"cpu-throttle-initial": 100, "cpu-throttle-increment": 0}', 9),
        ('{"max-cpu-throttle": 21}', 2),
        ('{"max-cpu-throttle": 20}', 1),
        ('{"max-cpu-throttle": 5}', 1),
    ],
)
def test_auto_converge_steps_are_counted(arguments: str, steps: int) -> None:
    """From the initial throttle to the greatest."""
    parameters = Parameters()
    parameters.note_parameters(arguments)
    assert parameters.throttle_steps() == steps


def test_unused_capabilities_are_forgotten() -> None:
    """A stream may name as many as it likes."""
    parameters = Parameters()
    parameters.note_capabilities('{"capabilities": [{"capability": "postcopy-ram", "state": true}]}')
    parameters.note_capabilities('{"capabilities": [{"capability": "made-up", "state": true}, {"capability": 7}]}')
    assert parameters.capabilities == {"postcopy-ram": True}
    assert not parameters.is_other_use


CAPABILITIES = json.dumps(
    {
        "capabilities": [
            {"capability": name, "state": name in {"postcopy-ram", "return-path"}}
            for name in ("xbzrle", "rdma-pin-all", "auto-converge", "zero-blocks", "compress", "postcopy-ram", "x-colo")
        ]
    }
)


@pytest.mark.parametrize("size", range(len(CAPABILITIES)))
def test_cut_capabilities_keep_whole_ones(size: int) -> None:
    """A capability whose state was cut off stays unknown; the others are as in the whole text."""
    whole, cut = Parameters(), Parameters()
    whole.note_capabilities(CAPABILITIES)
    cut.note_capabilities(CAPABILITIES[:size])
    states = re.findall(r'"capability": "([^"]+)", "state": (?:true|false)[,}]', CAPABILITIES[:size])
    assert cut.capabilities == {name: state for name, state in whole.capabilities.items() if name in states}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"downtime-limit": 300, "max-bandwidth": 1234', {"downtime-limit": 300}),
        ('{"downtime-limit": 300, "max-bandwidth": 1234}', {"downtime-limit": 300, "max-bandwidth": 1234}),
        ('{"uri": "tcp:dst:44', {}),
        ('{"a": "\\"}, ", "b": {"c": [1, 2, 3', {"a": '"}, ', "b": {"c": [1, 2]}}),
        ("{" * 1_000, {}),
        ("]" * 10, {}),
        ("", {}),
    ],
)
def test_cut_object_keeps_whole_members(text: str, expected: dict[str, object]) -> None:
    assert read_object(text) == expected


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [('{"mode": "cpr-reboot"}', "cpr-reboot"), ('{"mode": 3}', "normal"), ("{}", "normal")],
)
def test_mode_is_kept_if_it_is_a_word(arguments: str, mode: str) -> None:
    parameters = Parameters(mode="normal")
    parameters.note_parameters(arguments)
    assert parameters.mode == mode


@pytest.mark.parametrize(
    ("given", "expected"), [(1_000, 1_000), (1 << 64, 1 << 64), ((1 << 64) + 1, 5), (0, None), (-1, 5)]
)
def test_switchover_bandwidth_is_kept(given: int, expected: int | None) -> None:
    """0 leaves it to QEMU again; QEMU refuses a negative one."""
    parameters = Parameters(switchover_bandwidth=5)
    parameters.note_parameters(json.dumps({"avail-switchover-bandwidth": given}))
    assert parameters.switchover_bandwidth == expected


@pytest.mark.parametrize(
    ("bandwidth", "return_path", "expected"),
    [(1 << 62, False, True), ((1 << 62) - 1, False, False), (1 << 62, True, False), (None, False, False)],
    ids=["no limit", "a limit", "a return path", "unset"],
)
def test_save_of_libvirt_has_no_limit(bandwidth: int | None, *, return_path: bool, expected: bool) -> None:
    capabilities = {"return-path": return_path, "pause-before-switchover": False}
    parameters = Parameters(max_bandwidth=bandwidth, capabilities=capabilities)
    assert parameters.is_unbounded_without_return_path is expected


@pytest.mark.parametrize(("depth", "is_read"), [(15, True), (16, False)])
def test_nesting_of_a_cut_object_is_bounded(depth: int, *, is_read: bool) -> None:
    """Management nests its commands a few times at most."""
    assert is_read == bool(read_object('{"a": ' * depth + '{"b": 1}, "c'))
