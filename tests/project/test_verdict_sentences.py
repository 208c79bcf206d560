"""The sentences of running migrations on Fleet, evaluated by Prometheus over written series."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dashboards import ALL, substituted
from tests.support.prometheus import check_answers

(_TABLE,) = (panel for panel in ALL if str(panel) == "fleet: Running migrations, stalled first")
(_NUMBERS,) = (panel for panel in ALL if str(panel) == "fleet: Numbers of the running migrations")

_VM = 'job="qemu", instance="hv-1:9871", vm="web-42"'
_IDENTITY = 'trace_id="a", side="source", mode="precopy"'
_MIB = 1 << 20
_NOW = 100
_ROUNDS = {
    "round": 7,
    "best_round": 3,
    "pending_bytes": 40 * _MIB,
    "best_pending_bytes": 47 * _MIB,
    "bandwidth_bytes_per_second": 32 * _MIB,
    "dirty_bytes_per_second": 40 * _MIB,
    "required_downtime_seconds": 1.5,
    "required_bandwidth_bytes_per_second": 157 * _MIB,
    "downtime_limit_seconds": 0.3,
}
_SENDS = "; sends 32 MiB/s, 40 MiB/s dirtied again; needs 1.5 s of downtime, limit 300 ms"


def _series(
    phase: str, reason: str = "", numbers: dict[str, float] | None = None, *, kind: str = "live"
) -> list[tuple[str, float]]:
    found = {"active": 1.0, "stalled_since_timestamp_seconds": _NOW - 60.0 if reason else 0.0, **(numbers or {})}
    return [
        (f'qemu_migration_info{{{_VM}, {_IDENTITY}, kind="{kind}"}}', 1),
        (f'qemu_migration_phase{{{_VM}, phase="{phase}"}}', 1),
        *([(f'qemu_migration_stall_reason{{{_VM}, reason="{reason}"}}', 1)] if reason else []),
        *((f"qemu_migration_{name}{{{_VM}}}", value) for name, value in found.items()),
    ]


@pytest.mark.parametrize(
    ("series", "sentence", "command", "sends"),
    [
        (
            _series("iterate", "dirty_rate", {**_ROUNDS, "best_case_seconds": 480.25}),
            (
                "the guest dirties memory again before it is sent; round 7, at best 47 MiB pending (round 3)"
                f"{_SENDS}; would take at best another 480.3 s"
            ),
            "virsh migrate-setmaxdowntime web-42 1700",
            32 * _MIB,
        ),
        (
            _series("iterate", "bandwidth_cap", {**_ROUNDS, "best_case_seconds": 7_200.0}),
            (
                "QEMU's bandwidth cap is too low for what the guest dirties; round 7, at best 47 MiB pending (round 3)"
                f"{_SENDS}; would take at best more than another hour"
            ),
            "virsh migrate-setspeed web-42 173",
            32 * _MIB,
        ),
        # The last window's bandwidth is that of a time when something was sent.
        (
            _series("iterate", "no_throughput", _ROUNDS),
            "nothing goes over the network; round 7, at best 47 MiB pending (round 3)",
            "see runbook QemuMigrationNoProgress",
            0,
        ),
        (
            _series("postcopy", "postcopy_paused", _ROUNDS),
            "post-copy lost its connection, the guest waits for its memory",
            "see runbook QemuMigrationPostcopyPaused",
            0,
        ),
        (
            _series("iterate", "", {**_ROUNDS, "throttle_ratio": 0.2}),
            f"round 7, at best 47 MiB pending (round 3){_SENDS}; guest throttled by 20 %",
            "-",
            32 * _MIB,
        ),
        (
            _series(
                "iterate",
                "",
                {"round": 1, "pending_bytes": 3 << 30, "ram_bytes": 4 << 30, "bandwidth_bytes_per_second": 32 * _MIB},
            ),
            "first pass over memory, 3 GiB left of 4 GiB; sends 32 MiB/s",
            "-",
            32 * _MIB,
        ),
        (_series("setup", kind="save"), "save, no live migration: in setup", "-", -1),
        (_series("iterate"), "no numbers yet", "-", -1),
    ],
    ids=["dirty", "capped", "no-throughput", "postcopy-paused", "throttled", "bulk", "save", "no-numbers"],
)
def test_sentence_has_numbers_of_now(
    series: list[tuple[str, float]], sentence: str, command: str, sends: float, tmp_path: Path
) -> None:
    row = f'{{{_VM}, trace_id="a", sentence="{sentence}", with_command="{command}"}}'
    stalled_for = 60 if any("stall_reason" in name for name, _ in series) else -1
    (sending,) = (target for target in _NUMBERS.targets if "qemu_migration_bandwidth" in target["expr"])

    check_answers(
        series,
        [
            (substituted(_TABLE.targets[0]["expr"]), [{"labels": row, "value": stalled_for}]),
            (substituted(sending["expr"]), [{"labels": f"{{{_VM}}}", "value": sends}]),
        ],
        tmp_path,
        at_seconds=_NOW,
    )
