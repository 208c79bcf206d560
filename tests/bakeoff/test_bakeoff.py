"""Comparison of stall rules over the same migrations; its result is the table in the documentation."""

from __future__ import annotations

from statistics import median
from typing import Final

import pytest

from tests.bakeoff.precopy import Guest, Precopy
from tests.bakeoff.scenarios import Outcome, Part
from tests.bakeoff.scores import CASES, GRACE_S, OURS, counted, eta_shares, found_s, is_false, outcomes, table
from tests.support.paths import ROOT

_DOCUMENT: Final = ROOT / "docs" / "convergence.md"
_BEGIN, _END = "<!-- table -->\n", "<!-- end -->\n"

#: Everything is played in the first test that asks for it.
pytestmark = pytest.mark.timeout(300)


def test_document_has_measured_table(request: pytest.FixtureRequest) -> None:
    """Renewed by the flag that renews the golden files."""
    before, _, rest = _DOCUMENT.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    renewed = f"{before}{_BEGIN}\n{table()}\n{_END}{after}"
    if request.config.getoption("--update-golden"):
        _DOCUMENT.write_text(renewed, encoding="utf-8")

    assert _DOCUMENT.read_text(encoding="utf-8") == renewed


def outcome_named(name: str) -> Outcome:
    """Return the result of one case."""
    (of,) = [of for of in outcomes() if of.case.name == name]
    return of


#: Busy for 3 s and calm for 5 s in turn, which rounds of 2.4 s do not show.
_FALSE_ALARMS: Final = {"blind: fine-bursts-3s"}


@pytest.mark.parametrize(
    "name",
    [
        case.name
        for case in CASES
        if case.label in {"fine", "calms"} and not case.is_starved and case.name not in _FALSE_ALARMS
    ],
)
def test_converging_is_not_stalled(name: str) -> None:
    assert not is_false(OURS, outcome_named(name))


@pytest.mark.parametrize("name", [case.name for case in CASES if case.label == "stuck"])
def test_stuck_is_found_before_change(name: str) -> None:
    assert found_s(OURS, outcome_named(name)) is not None


@pytest.mark.parametrize("part", Part)
def test_median_verdict_is_early(part: Part) -> None:
    """VEP 248 needs 40 s. Auto-converge, whose steps are waited for, and large guests are not in the reporting half."""
    ours, theirs = (
        median(at_s for of in counted(part, "stuck") if (at_s := found_s(rule, of)) is not None)
        for rule in (OURS, "KubeVirt VEP 248")
    )
    assert ours <= (5.1 if part is Part.REPORTING else 8)
    assert theirs >= 40


def test_latest_verdict_is_bounded() -> None:
    """Measured in the rounds after the first boundary."""
    for of in counted(Part.REPORTING, "stuck"):
        at_s, boundaries = found_s(OURS, of), of.observed.boundaries
        assert at_s is not None
        three_rounds = boundaries[min(3, len(boundaries) - 1)].at_s - of.first_boundary_s
        assert at_s <= max(20, three_rounds + GRACE_S), of.case.name


@pytest.mark.parametrize("part", Part)
def test_eta_is_given_and_contains_end(part: Part) -> None:
    """Moments after the third boundary."""
    given, kept = eta_shares(part)
    assert given >= 0.5
    assert kept >= 0.9


# The model itself


def outcome_of(**guest: object) -> tuple[bool, int]:
    """Run the model; say whether it converged and after how many syncs."""
    log = Precopy(Guest(**guest)).run()  # type: ignore[arg-type]
    return b"new state completed" in log, log.count(b"migration_bitmap_sync_start")


def test_model_follows_arithmetic() -> None:
    """Memory written slower than it is sent converges in a geometric series; memory written faster stays."""
    assert outcome_of(cold=100)[0]
    assert outcome_of(hot=400, hot_rate=25)[0]
    assert not outcome_of(hot=47, hot_rate=64)[0]
    assert outcome_of(hot=9, hot_rate=999)[0], "it fits into 300 ms at 32 MiB/s"
    assert outcome_of(hot=47, hot_rate=64, limit_ms=1_600)[0]


def test_model_levels_like_qemu() -> None:
    """47 MiB at 32 MiB/s: the same boundaries as in the recording, about as far apart."""
    (real,) = [of for of in outcomes() if of.case.name == "qemu-7.2-log-nonconverging"]
    (made,) = [of for of in outcomes() if of.case.name == "model: 47 MiB written without a pause, at 32 MiB/s"]
    real_gaps, made_gaps = (
        [
            after.at_s - before.at_s
            for before, after in zip(of.observed.boundaries, of.observed.boundaries[1:9], strict=False)
        ]
        for of in (real, made)
    )
    assert made.observed.boundaries[4].pending == pytest.approx(real.observed.boundaries[4].pending, rel=0.03)
    assert median(made_gaps) == pytest.approx(median(real_gaps), rel=0.1)


def test_model_throttles_like_qemu() -> None:
    """20 %, then 10 % more at every second period, up to 99 %."""
    log = Precopy(Guest(hot=96, hot_rate=20_000, auto_converge=True)).run()
    assert log.count(b"migration_throttle") >= 9
