"""Both ends of a migration on One migration, evaluated by Prometheus over written series."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.dashboards import ALL
from tests.support.prometheus import check_answers

(_PANEL,) = (panel for panel in ALL if str(panel) == "one-migration: Both ends")

_SOURCE = 'job="qemu", instance="hv-1:9871", vm="web-42"'
_DESTINATION = 'job="qemu", instance="hv-2:9871", vm="web-42-in"'


def _info(labels: str, side: str, trace_id: str, uuid: str = "u-1", kind: str = "live") -> tuple[str, float]:
    own = f'uuid="{uuid}", trace_id="{trace_id}", side="{side}", mode="precopy", kind="{kind}"'
    return f"qemu_migration_info{{{labels}, {own}}}", 1


def _numbers(labels: str, **values: float) -> list[tuple[str, float]]:
    return [(f"qemu_migration_{name}{{{labels}}}", value) for name, value in values.items()]


def _ended(result: str = "completed", **values: float) -> list[tuple[str, float]]:
    return [
        *_numbers(_SOURCE, active=0, start_timestamp_seconds=-18, **values),
        (f'qemu_migration_last_result{{{_SOURCE}, result="{result}"}}', 1),
        (f'qemu_migration_phase{{{_SOURCE}, phase="cleanup"}}', 1),
    ]


def _arrived(result: str = "completed", **values: float) -> list[tuple[str, float]]:
    return [
        *_numbers(_DESTINATION, incoming_active=0, incoming_start_timestamp_seconds=-17, **values),
        (f'qemu_migration_incoming_last_result{{{_DESTINATION}, result="{result}"}}', 1),
    ]


_BOTH = [_info(_SOURCE, "source", "a"), _info(_DESTINATION, "destination", "b")]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (
            [
                *_BOTH,
                *_ended(last_duration_seconds=18, last_downtime_seconds=0.043, last_blackout_seconds=2),
                *_arrived(incoming_last_duration_seconds=18, incoming_last_load_seconds=0.0571),
            ],
            {
                "a": ("completed, took 18 s; the guest was stopped for 43 ms", 18, 0.043, 2),
                "b": (
                    "completed, took 18 s; loaded the last memory and the devices in 57 ms of the downtime",
                    17,
                    0.0571,
                    -1,
                ),
            },
        ),
        (
            [*_BOTH, *_ended("unknown"), *_arrived("failed", incoming_last_duration_seconds=7.1)],
            {"a": ("outcome unknown", 18, -1, -1), "b": ("failed, took 7.1 s", 17, -1, -1)},
        ),
        # Another attempt runs: the numbers of the one before are not its own.
        (
            [
                *_BOTH,
                *_numbers(_SOURCE, active=1, start_timestamp_seconds=-5, last_downtime_seconds=9),
                (f'qemu_migration_last_result{{{_SOURCE}, result="failed"}}', 1),
                (f'qemu_migration_phase{{{_SOURCE}, phase="iterate"}}', 1),
                (f'qemu_migration_stall_reason{{{_SOURCE}, reason="dirty_rate"}}', 1),
                *_numbers(_DESTINATION, incoming_active=1, incoming_start_timestamp_seconds=-4),
                (f'qemu_migration_incoming_last_result{{{_DESTINATION}, result="failed"}}', 1),
            ],
            {
                "a": ("stalled: the guest dirties memory again before it is sent", 5, -1, -1),
                "b": ("receives the guest's memory", 4, -1, -1),
            },
        ),
        (
            [
                *_BOTH,
                *_numbers(_SOURCE, active=1, start_timestamp_seconds=-5),
                (f'qemu_migration_phase{{{_SOURCE}, phase="iterate"}}', 1),
            ],
            {"a": ("sends memory in rounds", 5, -1, -1), "b": ("no numbers yet", -1, -1, -1)},
        ),
        # A job of another kind, and a guest without a uuid beside another without one.
        (
            [
                _info(_SOURCE, "source", "a", uuid="", kind="save"),
                _info(_DESTINATION, "destination", "b", uuid=""),
                *_ended(last_duration_seconds=3),
            ],
            {"a": ("save, no live migration: completed, took 3 s", 18, -1, -1)},
        ),
    ],
    ids=["ended", "unknown-and-failed", "second-attempt", "iterates", "without-uuid"],
)
def test_both_ends_have_sentence_and_numbers(
    series: list[tuple[str, float]], expected: dict[str, tuple[str, float, float, float]], tmp_path: Path
) -> None:
    """The chosen machine is the source; the destination has another name on another host."""
    ends = {
        "a": f'{{{_SOURCE}, side="source"}}',
        "b": f'{{{_DESTINATION}, side="destination"}}',
    }
    samples: list[list[dict[str, object]]] = [[] for _ in _PANEL.targets]
    for trace_id, (sentence, *numbers) in expected.items():
        row = ends[trace_id].replace("}", f', sentence="{sentence}", trace_id="{trace_id}"}}')
        samples[0].append({"labels": row, "value": 1})
        for number, value in enumerate(numbers, 1):
            samples[number].append({"labels": ends[trace_id], "value": value})
    answers = [(_chosen(target["expr"]), found) for target, found in zip(_PANEL.targets, samples, strict=True)]
    check_answers(series, answers, tmp_path)


def _chosen(expr: str) -> str:
    """Return an expression with the source chosen in the dashboard's variables."""
    chosen = {"$job": "qemu", "$instance": "hv-1:9871", "$vm": "web-42"}
    for variable, value in chosen.items():
        expr = expr.replace(variable, value)
    return expr
