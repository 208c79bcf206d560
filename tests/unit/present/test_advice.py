"""Advice by evidence, and its commands."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from qemu_migration_exporter.core.model import Capabilities, Kind, Mode, StallReason
from qemu_migration_exporter.present.advice import advise

MIB = 1 << 20


def advised(reason: StallReason, vm: str = "web-42", /, **evidence: object) -> list[str]:
    """Return the virsh commands for 47 MiB at 32 MiB/s against 0.3 s, or other evidence."""
    known: dict[str, Any] = {
        "required_downtime_seconds": 1.47,
        "required_bandwidth_bytes_per_second": 157.0 * MIB,
        "capabilities": Capabilities(auto_converge=True),
    }
    return [advice.virsh for advice in advise(vm, reason, **{**known, **evidence})]


@pytest.mark.parametrize(
    ("reason", "evidence", "expected"),
    [
        (
            StallReason.BANDWIDTH_CAP,
            {},
            ["virsh migrate-setspeed web-42 173", "virsh migrate-setmaxdowntime web-42 1700"],
        ),
        (StallReason.DIRTY_RATE, {}, ["virsh migrate-setmaxdowntime web-42 1700"]),
        (
            StallReason.THROTTLED_MAX,
            {"capabilities": Capabilities(postcopy=True, auto_converge=True)},
            ["virsh migrate-setmaxdowntime web-42 1700", "virsh migrate-postcopy web-42"],
        ),
        (
            StallReason.DIRTY_RATE,
            {"required_downtime_seconds": None, "capabilities": Capabilities()},
            ["virsh domjobabort web-42 && virsh migrate --live --auto-converge web-42 DESTINATION_URI"],
        ),
        (
            StallReason.DIRTY_RATE,
            {"required_downtime_seconds": None, "capabilities": Capabilities(dirty_limit=True)},
            [],  # QEMU refuses auto-converge beside the dirty limit
        ),
        (StallReason.DIRTY_RATE, {"required_downtime_seconds": 1_900.0}, []),  # QEMU takes 2000 s at most
        (
            StallReason.BANDWIDTH_CAP,
            {"required_bandwidth_bytes_per_second": None, "required_downtime_seconds": 0.0},
            [],
        ),
        (StallReason.NO_THROUGHPUT, {"mode": Mode.PRECOPY}, ["virsh domjobabort web-42"]),
        (StallReason.NO_THROUGHPUT, {"mode": Mode.POSTCOPY}, ["virsh domjobabort --postcopy web-42"]),
        (StallReason.NO_THROUGHPUT, {"mode": None}, []),
        (StallReason.NO_THROUGHPUT, {"kind": Kind.DUMP}, ["virsh domjobabort web-42"]),
        (
            StallReason.DEVICE_STATE,
            {"required_downtime_seconds": 10.0, "pending_bytes": 6_400 * MIB},
            [
                (
                    "virsh qemu-monitor-command --hmp web-42 migrate_set_parameter avail-switchover-bandwidth 671088640B"
                    " && virsh migrate-setmaxdowntime web-42 11000"
                )
            ],
        ),
        (StallReason.DEVICE_STATE, {}, []),
        (StallReason.BLOCKED_SETUP, {}, ["virsh domjobabort web-42"]),
        (StallReason.BLOCKED_WAIT_UNPLUG, {}, ["virsh domjobabort web-42"]),
        (StallReason.BLOCKED_PRE_SWITCHOVER, {}, ["virsh domjobinfo web-42", "virsh domjobabort web-42"]),
        (
            StallReason.POSTCOPY_PAUSED,
            {},
            ["virsh migrate --live --postcopy --postcopy-resume web-42 DESTINATION_URI"],
        ),
    ],
)
def test_advice_follows_evidence(reason: StallReason, evidence: dict[str, object], expected: list[str]) -> None:
    """Numbers with a tenth to spare; post-copy only where it was enabled; to give up only where nothing else helps."""
    assert advised(reason, **evidence) == expected


@pytest.mark.parametrize("reason", StallReason)
def test_qmp_is_valid_json(reason: StallReason) -> None:
    """JSON, with the same numbers; and the whole is a line for a shell."""
    options = advise(
        "web-42",
        reason,
        required_downtime_seconds=1.47,
        required_bandwidth_bytes_per_second=157.0 * MIB,
        capabilities=Capabilities(postcopy=True),
    )
    for advice in options:
        commands = json.loads(f"[{advice.qmp}]")
        assert all(command["execute"] for command in commands)
        assert shlex.split(str(advice), comments=True) == shlex.split(advice.virsh)
        assert advice.price


@given(vm=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_name_is_one_word_of_shell(vm: str) -> None:
    """Quotes, blanks, line breaks and escape sequences are the tenant's; the command is one printable line."""
    (command,) = advised(StallReason.DIRTY_RATE, vm)
    words = command.removeprefix("virsh migrate-setmaxdowntime ").removesuffix(" 1700").removeprefix("--domain ")

    assert command.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {words}"], capture_output=True, check=True).stdout
    assert said.decode() == vm


def test_option_like_name_is_a_value() -> None:
    """It is given as the value of one."""
    assert advised(StallReason.BLOCKED_SETUP, "--help") == ["virsh domjobabort --domain --help"]
