"""Comparison of stall rules over the same migrations; its result is the table in the documentation."""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import Final

import pytest

from tests.bakeoff.peers import PEERS
from tests.bakeoff.precopy import Guest, Precopy
from tests.bakeoff.scenarios import Outcome, Part, modelled, outcome, recorded
from tests.support.paths import ROOT

_DOCUMENT: Final = ROOT / "docs" / "convergence.md"
_BEGIN, _END = "<!-- table -->\n", "<!-- end -->\n"
_OURS: Final = "this program"
_NONE: Final = "\N{EN DASH}"

#: Everything is played in the first test that asks for it.
pytestmark = pytest.mark.timeout(300)


#: The model runs once for all tests.
CASES: Final = (*recorded(), *modelled())


#: A verdict that came with the boundary before a change is reported with the window after it.
_GRACE_S: Final = 0.5

#: The downtime's end is reported with the next line.
_ETA_SLACK_S: Final = 0.3


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Play everything, once for all tests."""
    return tuple(outcome(case) for case in CASES)


def verdict_s(rule: str, of: Outcome) -> float | None:
    """Return when a rule calls a migration stalled, in s."""
    return of.ours() if rule == _OURS else PEERS[rule](of.observed)


def is_false(rule: str, of: Outcome) -> bool:
    """Return whether a rule calls a fine migration stalled, or one whose guest has calmed down."""
    if of.case.label == "calms" and rule == _OURS:
        return any(at_s > of.observed.until_s + _GRACE_S for at_s in of.all_ours())
    return of.case.label == "fine" and verdict_s(rule, of) is not None


def found_s(rule: str, of: Outcome) -> float | None:
    """Return how long after the first boundary a rule found a stuck migration, in s; None if not before a change."""
    at_s = verdict_s(rule, of)
    return None if at_s is None or at_s > of.observed.until_s else at_s - of.first_boundary_s


def counted(part: Part, *labels: str) -> list[Outcome]:
    """Return the cases of a set that count."""
    return [of for of in outcomes() if of.case.part is part and of.case.label in labels and not of.case.is_starved]


def row(rule: str, part: Part) -> str:
    """Write a rule's row."""
    fine, stuck = counted(part, "fine", "calms"), counted(part, "stuck")
    false = sum(is_false(rule, of) for of in fine)
    times = [at_s for of in stuck if (at_s := found_s(rule, of)) is not None]
    name = f"**{rule}**" if rule == _OURS else rule
    timing = f"{median(times):.1f} s | {max(times):.0f} s" if times else f"{_NONE} | {_NONE}"
    return f"| {name} | {len(stuck) - len(times)} of {len(stuck)} | {false} of {len(fine)} | {timing} |"


def eta_shares(part: Part) -> tuple[float, float]:
    """Return the share of the moments in which an ETA was given, and the share of the given that contained the end."""
    moments = [(of.duration_s - at_s, eta) for of in counted(part, "fine") for at_s, eta in of.moments]
    kept = [eta[0] - _ETA_SLACK_S <= left <= eta[1] + _ETA_SLACK_S for left, eta in moments if eta is not None]
    return len(kept) / len(moments), sum(kept) / len(kept)


def table() -> str:
    """Write a table for each set, and one of the unforeseeable cases."""
    lines = []
    for part in Part:
        lines += [
            f"**{part.capitalize()}**",
            "",
            "| rule | missed | false alarms | median time to the verdict | longest |",
            "|---|---|---|---|---|",
            *(row(rule, part) for rule in [_OURS, *PEERS]),
            "",
        ]
    lines += ["| time to the end | given | contains the end |", "|---|---|---|"]
    lines += [f"| {part} | {given:.0%} | {kept:.0%} |" for part in Part for given, kept in [eta_shares(part)]]
    lines += ["", "| ambiguous, not counted | this program | KubeVirt VEP 248 |", "|---|---|---|"]
    for of in outcomes():
        if of.case.label == "ambiguous":
            cells = [
                _NONE if at_s is None else f"{at_s:.0f} s"
                for at_s in (of.ours(), PEERS["KubeVirt VEP 248"](of.observed))
            ]
            lines.append(f"| {of.case.what} | {cells[0]} | {cells[1]} |")
    return "".join(f"{line}\n" for line in lines)


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


@pytest.mark.parametrize(
    "name", [case.name for case in CASES if case.label in {"fine", "calms"} and not case.is_starved]
)
def test_converging_is_not_stalled(name: str) -> None:
    assert not is_false(_OURS, outcome_named(name))


@pytest.mark.parametrize("name", [case.name for case in CASES if case.label == "stuck"])
def test_stuck_is_found_before_change(name: str) -> None:
    assert found_s(_OURS, outcome_named(name)) is not None


@pytest.mark.parametrize("part", [Part.REPORTING, Part.CHOOSING, Part.MODEL])
def test_median_verdict_is_early(part: Part) -> None:
    """VEP 248 needs 40 s. Auto-converge, whose steps are waited for, and large guests are not in the reporting half."""
    ours, theirs = (
        median(at_s for of in counted(part, "stuck") if (at_s := found_s(rule, of)) is not None)
        for rule in (_OURS, "KubeVirt VEP 248")
    )
    assert ours <= (5.1 if part is Part.REPORTING else 8)
    assert theirs >= 40


def test_latest_verdict_is_bounded() -> None:
    """Measured in the rounds after the first boundary."""
    for of in counted(Part.REPORTING, "stuck"):
        at_s, boundaries = found_s(_OURS, of), of.observed.boundaries
        assert at_s is not None
        three_rounds = boundaries[min(3, len(boundaries) - 1)].at_s - of.first_boundary_s
        assert at_s <= max(20, three_rounds + _GRACE_S), of.case.name


@pytest.mark.parametrize("part", [Part.CHOOSING, Part.REPORTING])
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
