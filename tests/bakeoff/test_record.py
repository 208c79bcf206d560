"""Planned migrations, recorded from real QEMUs."""

from __future__ import annotations

import re
import shutil
import tomllib

import pytest

from tests.bakeoff.plans import PLANS
from tests.bakeoff.record import Pages, Plan, boot_sector, record
from tests.support.paths import DATA


def test_blind_labels_are_those_of_plans() -> None:
    labels = tomllib.loads((DATA / "bakeoff" / "blind" / "labels.toml").read_text(encoding="utf-8"))
    assert {name: (row["what"], row["label"]) for name, row in labels.items()} == {
        name: (plan.what, plan.label) for name, plan in PLANS.items()
    }


@pytest.mark.skipif(not all(map(shutil.which, ["as", "ld", "qemu-system-x86_64"])), reason="needs binutils and QEMU")
@pytest.mark.timeout(120)
def test_planned_guest_and_network_are_real() -> None:
    """A guest that dirties 6 MiB without a pause cannot end on 4 MiB/s, and ends when it calms down after 6 s."""
    plan = Plan(
        what="6 MiB without a pause, then calm",
        label="fine",
        guest={0: (Pages(4, 6, 300),), 6: (Pages(4, 6, 0.1),)},
        memory=12,
        network=lambda _: 4,
        bandwidth=2_048,
    )
    done = record(plan, boot_sector())

    assert done.state == "completed"
    assert done.helped_at is None
    boundaries = [int(size) for size in re.findall(rb"sync_end .*\n.* pending size (\d+)", done.log)]
    assert boundaries[1] == pytest.approx(6 * 1_048_576, rel=0.01)
    assert boundaries[-1] < 6 * 1_048_576 / 2
    assert 'label = "fine"' in done.row("guest", plan)
