"""Scores of the stall rules over the sets of `scenarios`, as the tables of docs/convergence.md."""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import Final

from tests.bakeoff.peers import PEERS
from tests.bakeoff.scenarios import Outcome, Part, modelled, outcome, recorded

OURS: Final = "this program"
_VEP: Final = "KubeVirt VEP 248"
_NONE: Final = "\N{EN DASH}"

#: The model runs once for all tests.
CASES: Final = (*recorded(), *modelled())


#: A verdict that came with the boundary before a change is reported with the window after it.
GRACE_S: Final = 0.5

#: The downtime's end is reported with the next line.
_ETA_SLACK_S: Final = 0.3


@cache
def outcomes() -> tuple[Outcome, ...]:
    """Play everything, once for all tests."""
    return tuple(outcome(case) for case in CASES)


def verdict_s(rule: str, of: Outcome) -> float | None:
    """Return when a rule calls a migration stalled, in s."""
    return of.ours() if rule == OURS else PEERS[rule](of.observed)


def is_false(rule: str, of: Outcome) -> bool:
    """Return whether a rule calls a fine migration stalled, or one whose guest has calmed down."""
    if of.case.label == "calms" and rule == OURS:
        return any(at_s > of.observed.until_s + GRACE_S for at_s in of.all_ours())
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
    name = f"**{rule}**" if rule == OURS else rule
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
            *(row(rule, part) for rule in [OURS, *PEERS]),
            "",
        ]
    lines += ["| time to the end | given | contains the end |", "|---|---|---|"]
    lines += [f"| {part} | {given:.0%} | {kept:.0%} |" for part in Part for given, kept in [eta_shares(part)]]
    lines += ["", "| ambiguous, not counted | this program | KubeVirt VEP 248 |", "|---|---|---|"]
    for of in outcomes():
        if of.case.label == "ambiguous":
            cells = [_NONE if at_s is None else f"{at_s:.0f} s" for at_s in (of.ours(), PEERS[_VEP](of.observed))]
            lines.append(f"| {of.case.what} | {cells[0]} | {cells[1]} |")
    return "".join(f"{line}\n" for line in lines)
