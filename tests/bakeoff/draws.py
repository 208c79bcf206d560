"""Plans of the drawn set: guests, networks and limits drawn at random from a seed, with labels by the model of pre-copy.

A drawn migration that the model ends is expected to end; another is expected to be stuck. A guest or a network that
changes once is stuck until then if the model does not end without the change, and then calms. The recording decides:
a migration that completes by itself is fine. One that does not, after its patience, is stuck if the patience was twice
the time of the model and 30 s, or if the model does not end and gets no nearer; otherwise it is ambiguous. If the
model does not end and the recording did, the host starved the guest, or the model is wrong; it is not counted.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import NamedTuple

from tests.bakeoff.families import FAMILIES, UNCAPPED, Network, Numbers, between
from tests.bakeoff.precopy import Guest, Precopy, Region, Stage
from tests.bakeoff.record import CANCEL, Plan

#: The model's patience in s, and the patience with real migrations.
_MODEL_SECONDS, _LEAST_SECONDS, _MOST_SECONDS = 300, 65, 150


def drawn(number: int, seed: int) -> tuple[str, Plan]:
    """Draw one plan, with its name and the label that the model expects."""
    name, plan, bandwidth = unlabelled(number, seed)
    return name, labelled(plan, bandwidth)


def unlabelled(number: int, seed: int) -> tuple[str, Plan, float]:
    """Draw one plan; return its name and its bandwidth too."""
    family = FAMILIES[number % len(FAMILIES)]
    of = Numbers(Random(f"{seed} {number}"))  # noqa: S311 - a draw that can be repeated
    known = family(of)
    has_network = "network" in known
    at = "" if has_network else f" at {of.bandwidth:.0f} MiB/s"
    limit = "" if of.limit == 300 else f", limit {of.limit} ms"
    end = max(pages.first + pages.size for sets in known["guest"].values() for pages in sets)
    memory = round(end + of.random.uniform(0, min(160, 8 * of.bandwidth)))
    plan = Plan(
        **{
            "label": "stuck",
            "memory": memory,
            "zero": round(between(of.random, 16, 600)),
            "limit": of.limit,
            "bandwidth": UNCAPPED if has_network else of.bandwidth,
            **known,
            "what": f"{known['what']}{at}{limit}",
        }
    )
    return f"{number:03}-{family.__name__.strip('_').replace('_', '-')}", plan, of.bandwidth


def modelled(plan: Plan, until: float = math.inf) -> Guest:
    """Return the guest of the model for a plan, without the changes after `until`."""
    stages = {at_s: sets for at_s, sets in plan.guest.items() if at_s < until}
    cuts = sorted(
        {edge for sets in stages.values() for pages in sets for edge in (pages.first, pages.first + pages.size)}
    )
    network = plan.network
    bandwidth: Network = (
        (lambda _second: plan.bandwidth) if network is None else lambda s: network(min(s, until - 1e-6))
    )
    regions = []
    for low, high in pairwise(cuts):
        rows = []
        for at_s, sets in stages.items():
            over = [pages for pages in sets if pages.first <= low and high <= pages.first + pages.size]
            rate = sum(pages.rate * (high - low) / pages.size for pages in over)
            rows.append(
                Stage(at_s, rate, any(pages.is_random for pages in over), any(pages.is_elastic for pages in over))
            )
        kept = [row for index, row in enumerate(rows) if not index or row[1:] != rows[index - 1][1:]]
        regions.append(Region(high - low, tuple(kept)))
    rest = max(0.0, plan.memory - sum(region.size for region in regions))
    parameters = plan.parameters
    return Guest(
        cold=rest,
        zero=plan.zero,
        bandwidth=bandwidth,
        limit_ms=plan.limit,
        auto_converge="auto-converge" in plan.capabilities,
        throttle_initial=parameters.get("cpu-throttle-initial", 20) / 100,
        throttle_increment=parameters.get("cpu-throttle-increment", 10) / 100,
        regions=tuple(regions),
    )


class Expected(NamedTuple):
    """Result of the model: when a migration ends, in s, and whether one that does not still gets nearer."""

    end_s: float | None
    gets_nearer: bool


def expected(guest: Guest) -> Expected:
    """Run the model; the last third of a migration that gets nearer has boundaries 4 % below all before."""
    log = Precopy(guest, seconds=_MODEL_SECONDS).run().decode()
    begin, end = (float(log[place:].split("@")[1].split(":")[0]) for place in (0, log.rindex("\n", 0, -1)))
    if log.endswith("after_loop \n"):
        return Expected(end - begin, gets_nearer=True)
    found = re.findall(r"@(\S+?):migration_bitmap_sync_end.*\n.* pending size (\d+)", log)
    points = [(float(at) - begin, int(size)) for at, size in found[:-1]]  # the end cuts the last round off
    before, last = (
        [size for at_s, size in points if (at_s > 2 / 3 * _MODEL_SECONDS) is is_last] for is_last in (False, True)
    )
    return Expected(None, gets_nearer=bool(last) and min(last) < 0.96 * min(before))


def labelled(plan: Plan, bandwidth: float) -> Plan:
    """Label a plan by the model, and set its patience, which begins when the first round could have ended."""
    least = _LEAST_SECONDS + plan.memory / bandwidth
    if plan.end is not CANCEL:
        return replace(plan, label="stuck", seconds=least - 20)
    if "xbzrle" in plan.capabilities:  # the model does not know how well pages compress
        return replace(plan, label="fine", seconds=least)
    end_s, gets_nearer = expected(modelled(plan))
    if plan.calms is not None and end_s is not None and expected(modelled(plan, plan.calms)).end_s is None:
        return replace(plan, label="calms", seconds=least + plan.calms)
    if end_s is None:
        return replace(plan, label="ambiguous" if gets_nearer else "stuck", calms=None, seconds=least)
    patience = max(least, 30 + 2 * end_s)
    return replace(
        plan,
        label="fine",
        calms=None,
        seconds=min(_MOST_SECONDS, patience),
        unended="stuck" if patience <= _MOST_SECONDS else "ambiguous",
    )
