"""Our rule and those of others over the same migrations; the table in the documentation is what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from statistics import median
from typing import Final

import pytest

from tests.bakeoff.peers import PEERS
from tests.bakeoff.precopy import Guest, Precopy
from tests.bakeoff.scenarios import Outcome, modelled, outcome, recorded
from tests.support.paths import ROOT

_DOCUMENT: Final = ROOT / "docs" / "convergence.md"
_BEGIN, _END = "<!-- table -->\n", "<!-- end -->\n"
_OURS: Final = "this program"
_NONE: Final = "\N{EN DASH}"

#: Everything is played in the first test that asks for it.
pytestmark = pytest.mark.timeout(300)


#: The model runs once for all tests.
CASES: Final = (*recorded(), *modelled())


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Play everything, once for all tests."""
    return tuple(outcome(case) for case in CASES)


def said(rule: str, of: Outcome) -> float | None:
    """Return when a rule would have said that a migration is stalled, in s; None if not before something changed."""
    at_s = of.ours() if rule == _OURS else PEERS[rule](of.observed)
    return at_s if at_s is not None and at_s <= of.observed.until_s else None


def those(label: str, *, real: bool | None = None) -> list[Outcome]:
    """Return the cases of a label."""
    return [each for each in outcomes() if each.case.label == label and real in {None, each.case.is_real}]


def row(rule: str) -> str:
    """Write a rule's row."""
    false = [each for each in those("converges") if said(rule, each) is not None]
    stuck = those("stuck")
    found = [(each, at_s) for each in stuck if (at_s := said(rule, each)) is not None]
    took = _median([at_s - each.first_boundary_s for each, at_s in found])
    name = f"**{rule}**" if rule == _OURS else rule
    return (
        f"| {name} | {len(false)} of {len(those('converges'))} | {len(stuck) - len(found)} of {len(stuck)} | {took} |"
    )


def table() -> str:
    """Write the table, and below it what everyone says of what cannot be decided."""
    rules = [_OURS, *PEERS]
    lines = [
        "| rule | false alarms | stuck and not found | median time to the verdict |",
        "|---|---|---|---|",
        *map(row, rules),
        "",
        "| undecided | " + " | ".join(rules) + " |",
        "|---|" + "---|" * len(rules),
    ]
    for each in those("undecided"):
        times = [said(rule, each) for rule in rules]
        lines.append(
            f"| {each.case.what} | " + " | ".join(_NONE if at_s is None else f"{at_s:.0f} s" for at_s in times) + " |"
        )
    return "".join(f"{line}\n" for line in lines)


def _median(times: Sequence[float]) -> str:
    return f"{median(times):.1f} s" if times else _NONE


def test_the_table_in_the_documentation_is_what_comes_out(request: pytest.FixtureRequest) -> None:
    """Renewed by the flag that renews the golden files."""
    before, _, rest = _DOCUMENT.read_text(encoding="utf-8").partition(_BEGIN)
    after = rest.partition(_END)[2]
    renewed = f"{before}{_BEGIN}\n{table()}\n{_END}{after}"
    if request.config.getoption("--update-golden"):
        _DOCUMENT.write_text(renewed, encoding="utf-8")

    assert _DOCUMENT.read_text(encoding="utf-8") == renewed


@pytest.mark.parametrize("each", [case.name for case in CASES if case.label == "converges"])
def test_what_converges_is_never_called_stalled(each: str) -> None:
    """Shrinking, hovering, saw-toothed, throttled, dipping, fast, idle: no false alarm in the whole set."""
    (of,) = [outcome for outcome in outcomes() if outcome.case.name == each]
    assert of.ours() is None


@pytest.mark.parametrize("each", [case.name for case in CASES if case.label == "stuck"])
def test_what_is_stuck_is_found(each: str) -> None:
    """Before somebody changed anything."""
    (of,) = [outcome for outcome in outcomes() if outcome.case.name == each]
    assert said(_OURS, of) is not None


@pytest.mark.parametrize("real", [True, None])
def test_the_verdict_comes_within_ten_seconds_of_the_first_boundary(*, real: bool | None) -> None:
    """In the median, over the recordings and over everything; VEP 248 needs 40 s."""
    ours, theirs = (
        median(
            at_s - each.first_boundary_s for each in those("stuck", real=real) if (at_s := said(rule, each)) is not None
        )
        for rule in (_OURS, "KubeVirt VEP 248")
    )
    assert ours <= 10
    assert theirs >= 40


def test_an_eta_is_kept_nine_times_of_ten() -> None:
    """What was promised of the migrations that converged, guests that changed their mind on the way included."""
    kept = [
        low - 0.3 <= each.duration_s - at_s <= high + 0.3
        for each in those("converges")
        for at_s, low, high in each.etas
    ]
    assert len(kept) > 1_000
    assert sum(kept) / len(kept) > 0.85


# The model itself


def outcome_of(**guest: object) -> tuple[bool, int]:
    """Run the model; say whether it converged and after how many syncs."""
    log = Precopy(Guest(**guest)).run()  # type: ignore[arg-type]
    return b"new state completed" in log, log.count(b"migration_bitmap_sync_start")


def test_the_model_is_what_the_arithmetic_says() -> None:
    """What is written slower than it is sent converges in a geometric series; what is written faster stays."""
    assert outcome_of(cold=100)[0]
    assert outcome_of(hot=400, hot_rate=25)[0]
    assert not outcome_of(hot=47, hot_rate=64)[0]
    assert outcome_of(hot=9, hot_rate=999)[0], "it fits into 300 ms at 32 MiB/s"
    assert outcome_of(hot=47, hot_rate=64, limit_ms=1_600)[0]


def test_the_model_stays_where_real_qemu_stays() -> None:
    """47 MiB at 32 MiB/s: the same boundaries as in the recording, about as far apart."""
    (real,) = [each for each in outcomes() if each.case.name == "qemu-7.2-log-nonconverging"]
    (made,) = [each for each in outcomes() if each.case.name == "model: 47 MiB written without a pause, at 32 MiB/s"]
    real_gaps, made_gaps = (
        [
            after.at_s - before.at_s
            for before, after in zip(of.observed.boundaries, of.observed.boundaries[1:9], strict=False)
        ]
        for of in (real, made)
    )
    assert made.observed.boundaries[4].pending == pytest.approx(real.observed.boundaries[4].pending, rel=0.03)
    assert median(made_gaps) == pytest.approx(median(real_gaps), rel=0.1)


def test_the_model_throttles_as_qemu_does() -> None:
    """20 %, then 10 % more at every second period, up to 99 %."""
    log = Precopy(Guest(hot=96, hot_rate=20_000, auto_converge=True)).run()
    assert log.count(b"migration_throttle") >= 9
