"""Planned migrations, recorded from real QEMUs."""

from __future__ import annotations

import gzip
import re
import shutil
import tomllib
from statistics import mean
from typing import Final

import pytest

from tests.bakeoff.draws import drawn, modelled, unlabelled
from tests.bakeoff.plans import PLANS
from tests.bakeoff.precopy import Precopy
from tests.bakeoff.record import Pages, Plan, boot_sector, record
from tests.support.paths import DATA

MIB: Final = 1 << 20
BOUNDARY: Final = re.compile(rb"sync_end .*\n.* pending size (\d+)")


def test_blind_labels_are_those_of_plans() -> None:
    labels = tomllib.loads((DATA / "bakeoff" / "blind" / "labels.toml").read_text(encoding="utf-8"))
    assert {name: (row["what"], row["label"]) for name, row in labels.items()} == {
        name: (plan.what, plan.label) for name, plan in PLANS.items()
    }


@pytest.mark.parametrize(("name", "seed"), [("first-drawn", 1931), ("second-drawn", 1932)])
def test_drawn_recordings_are_those_of_seed(name: str, seed: int) -> None:
    labels = tomllib.loads((DATA / "bakeoff" / name / "labels.toml").read_text(encoding="utf-8"))
    drawn = [unlabelled(number, seed)[:2] for number in range(len(labels))]
    assert {name: row["what"] for name, row in labels.items()} == {name: plan.what for name, plan in drawn}
    assert {row["label"] for row in labels.values()} == {"fine", "stuck", "calms", "ambiguous"}


@pytest.mark.parametrize(
    ("family", "seed", "label", "calms"),
    [(0, 1932, "stuck", None), (2, 1932, "fine", None), (21, 1931, "calms", True), (38, 1931, "ambiguous", None)],
)
def test_model_labels_drawn_plan(family: int, seed: int, label: str, calms: bool | None) -> None:
    """A level guest, a guest that shrinks, a guest that calms down, and a guest whose low points still get lower."""
    _, plan = drawn(family, seed)
    assert (plan.label, plan.calms is not None) == (label, calms is True)


def test_model_levels_like_hot_and_cold_guest() -> None:
    """A round continues behind the last page sent, which decides how much of the cold pages stays pending."""
    log = gzip.decompress((DATA / "bakeoff" / "blind" / "stuck-hot-cold.log.gz").read_bytes())
    real = [int(size) / MIB for size in BOUNDARY.findall(log)]
    made = [int(size) / MIB for size in BOUNDARY.findall(Precopy(modelled(PLANS["stuck-hot-cold"]), seconds=60).run())]
    assert mean(made[9:40]) == pytest.approx(mean(real[9:40]), rel=0.05)


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
    boundaries = [int(size) for size in BOUNDARY.findall(done.log)]
    assert boundaries[1] == pytest.approx(6 * 1_048_576, rel=0.01)
    assert boundaries[-1] < 6 * 1_048_576 / 2
    assert 'label = "fine"' in done.row("guest", plan)
