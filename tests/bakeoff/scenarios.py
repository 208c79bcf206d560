"""Migrations that the rules are judged on: recordings with their labels, and runs of the model.

The older recordings are split in halves by a hash of their names, in which QEMU's version does not count, so that twins
stay together. Rules and constants were chosen on one half and the model, with a look at the other half. The blind set
was recorded later, from the plans of `plans`, and the drawn sets after it, from the seeds of `draws`.
"""

from __future__ import annotations

import gzip
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from qemu_migration_exporter.core.changes import Change, MigrationEnded, Stalled
from qemu_migration_exporter.core.model import Migration, PhaseName, Progress, Stall
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.bakeoff.peers import Boundary, Observed
from tests.bakeoff.precopy import Guest, Precopy
from tests.support.core_helpers import recording
from tests.support.paths import DATA

_NS: Final = 1e9
_DIRECTORY: Final = DATA / "bakeoff"

#: As many lines at a time make some 100 ms of a stream.
_LINES: Final = 8

#: Three boundaries are the beginnings of rounds 2 to 4.
_BOUNDARIES_BEFORE_ETA: Final = 3


class Part(StrEnum):
    """The set a case belongs to."""

    CHOOSING = "choosing half"
    REPORTING = "reporting half"
    BLIND = "blind set"
    DRAWN = "first drawn set"
    DRAWN_AGAIN = "second drawn set"
    MODEL = "model"


#: Beginnings of the names of the cases outside the older recordings.
_PREFIXES: Final[Mapping[str, Part]] = {
    "model: ": Part.MODEL, "blind: ": Part.BLIND, "first drawn: ": Part.DRAWN, "second drawn: ": Part.DRAWN_AGAIN,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One migration with what it did.

    Attributes:
        label: fine, stuck, calms or ambiguous; labels.toml explains them.
        changed_at_s: When a parameter or the guest changed; None if nothing did.
        is_starved: The host did not let the guest run; such a case is not counted.
    """

    name: str
    what: str
    label: str
    changed_at_s: float | None
    log: Callable[[], bytes]
    host: str = "calm"
    is_starved: bool = False

    @property
    def part(self) -> Part:
        """The set it belongs to."""
        for prefix, part in _PREFIXES.items():
            if self.name.startswith(prefix):
                return part
        twins = re.sub(r"-(7\.2|10\.0)(?=-|$)", "", self.name)
        return Part.CHOOSING if sha256(twins.encode()).digest()[0] % 2 else Part.REPORTING


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a case: the view from outside, and the verdict of this program.

    Attributes:
        stalls: All of it.
        moments: Times after the third boundary at which an ETA was asked for, in s, and its bounds from then on.
    """

    case: Case
    observed: Observed
    stalls: tuple[Stall, ...]
    moments: tuple[tuple[float, tuple[float, float] | None], ...]
    duration_s: float
    start_ns: int

    @property
    def first_boundary_s(self) -> float:
        """When the first round after the bulk round began; its end, where there was none."""
        return self.observed.boundaries[0].at_s if self.observed.boundaries else self.duration_s

    def all_ours(self) -> list[float]:
        """Return when this program calls it stalled by its rounds, each time, in s."""
        return [(stall.start_ns - self.start_ns) / _NS for stall in self.stalls if stall.reason in ROUND_REASONS]

    def ours(self) -> float | None:
        """Return when this program calls it stalled first."""
        return next(iter(self.all_ours()), None)


def _unpacked(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


def _labelled(directory: Path, prefix: str = "") -> Iterator[Case]:
    labels: Mapping[str, Mapping[str, Any]] = tomllib.loads((directory / "labels.toml").read_text(encoding="utf-8"))
    for name, known in labels.items():
        yield Case(
            name=prefix + name,
            what=known["what"],
            label=known["label"],
            changed_at_s=known.get("changed_at"),
            log=partial(_unpacked, directory / f"{name}.log.gz"),
            host=known["host"],
            is_starved=known.get("starved", False),
        )


def recorded() -> Iterator[Case]:
    """Return the real migrations: those for this comparison, and the others of the tests that went through rounds."""
    yield from _labelled(_DIRECTORY)
    for name in ("blind", "first drawn", "second drawn"):
        yield from _labelled(_DIRECTORY / name.replace(" ", "-"), f"{name}: ")
    for name, changed_at_s in [("qemu-7.2-log-nonconverging", 12.0), ("qemu-10.0-log-nonconverging", 8.0)]:
        yield Case(
            name=name,
            what=f"47 MiB unpaced at 32 MiB/s; lifted after {changed_at_s:.0f} s",
            label="stuck",
            changed_at_s=changed_at_s,
            log=partial(recording, name),
        )
    for name, what in [
        ("qemu-7.2-log-idle", "an idle guest"),
        ("qemu-7.2-log-cancelled", "cancelled in the bulk round"),
        ("qemu-7.2-log-destination-killed", "the destination killed in the bulk round"),
        ("qemu-7.2-log-postcopy", "post-copy after 5 s"),
        ("qemu-kvm-2.6-systemtap", "a mostly idle guest"),
    ]:
        yield Case(
            name=name,
            what=what,
            label="fine",
            changed_at_s=None,
            log=partial(recording, name),
        )


def _steady(bandwidth: float) -> Callable[[float], float]:
    return lambda _second: bandwidth


def _dip(at: float, seconds: float, to: float, usual: float = 32) -> Callable[[float], float]:
    return lambda second: to if at <= second < at + seconds else usual


def _busy_until(at: float, then: float = 0.05) -> Callable[[float], float]:
    return lambda second: 1 if second < at else then


def _tides(busy_s: float, calm_s: float, calm: float) -> Callable[[float], float]:
    return lambda second: 1 if second % (busy_s + calm_s) < busy_s else calm


#: Guests of the model, by what they are. Which of them converge the model itself tells.
GUESTS: Final[Mapping[str, Guest]] = {
    **{
        f"{size} MiB written without a pause, at {bandwidth} MiB/s": Guest(
            hot=size, hot_rate=10 * bandwidth, bandwidth=_steady(bandwidth)
        )
        for size, bandwidth in [(16, 16), (24, 32), (32, 32), (47, 32), (47, 64), (64, 16), (96, 32), (96, 64)]
    },
    **{
        f"{size} MiB written at {part:.0%} of {bandwidth} MiB/s": Guest(
            hot=size, hot_rate=part * bandwidth, bandwidth=_steady(bandwidth)
        )
        for size, part, bandwidth in [
            (400, 0.8, 32), (400, 0.9, 64), (200, 0.95, 16), (120, 0.6, 32), (900, 0.85, 32), (400, 1.5, 32), (400, 4, 64),
        ]
    },
    **{
        f"{hot} MiB hot and {cold} MiB cold at {rate} MiB/s, at 32 MiB/s": Guest(
            hot=hot, hot_rate=300, cold=cold, cold_rate=rate
        )
        for hot, cold, rate in [(4, 200, 10), (6, 300, 18), (8, 400, 6), (20, 200, 10), (12, 300, 28)]
    },
    "4 GiB guest, 600 MiB written at 90 MiB/s, at 100 MiB/s": Guest(
        hot=600, hot_rate=90, cold=2_400, zero=1_000, bandwidth=lambda _: 100
    ),
    "4 GiB guest, 600 MiB written at 300 MiB/s, at 100 MiB/s": Guest(
        hot=600, hot_rate=300, cold=2_400, zero=1_000, bandwidth=lambda _: 100
    ),
    "mostly zero pages": Guest(hot=8, hot_rate=20, zero=2_000),
    "idle": Guest(cold=60),
    "47 MiB without a pause, network varies by a tenth": Guest(hot=47, hot_rate=400, noise=0.1),
    "400 MiB at 80 % of a network that varies by a fifth": Guest(hot=400, hot_rate=25.6, noise=0.2),
    "120 MiB at 60 %, a dip to a tenth for 10 s": Guest(hot=120, hot_rate=19, bandwidth=_dip(6, 10, 3.2)),
    "8 MiB that fit, a dip to a tenth for 10 s": Guest(hot=8, hot_rate=300, cold=120, bandwidth=_dip(3, 10, 3.2)),
    "400 MiB at 85 %, a dip to a twentieth for 15 s": Guest(hot=400, hot_rate=27, bandwidth=_dip(25, 15, 1.6)),
    "47 MiB, busy for 8 s and calm for 6 s in turn": Guest(hot=47, hot_rate=400, busy=_tides(8, 6, 0.02)),
    "300 MiB, busy for 3 s and calm for 7 s in turn": Guest(hot=300, hot_rate=50, busy=_tides(3, 7, 0.3)),
    "20 MiB without a pause for 12 s, then calm": Guest(hot=20, hot_rate=300, busy=_busy_until(12)),
    "10.4 MiB, hovering at 1.08 times the threshold for 40 s, then calm": Guest(
        hot=10.4, hot_rate=5_000, busy=_busy_until(40)
    ),
    "20.4 MiB at 64 MiB/s, hovering at 1.06 times for 40 s, then calm": Guest(
        hot=20.4, hot_rate=9_000, busy=_busy_until(40), bandwidth=lambda _: 64, noise=0.03
    ),
    "47 MiB at 100 MiB/s, auto-converge": Guest(hot=47, hot_rate=100, auto_converge=True),
    "96 MiB without a pause, auto-converge": Guest(hot=96, hot_rate=20_000, auto_converge=True),
    "47 MiB without a pause, limit of 2 s": Guest(hot=47, hot_rate=400, limit_ms=2_000),
}  # fmt: skip


#: Guests that calm down by themselves, with when; the tides calm down every few seconds.
_CALMS: Final[Mapping[str, float]] = {"20 MiB without a pause for 12 s, then calm": 12.0}
_AMBIGUOUS: Final = {"47 MiB, busy for 8 s and calm for 6 s in turn"}


def modelled() -> Iterator[Case]:
    """Run the model; a migration that has not ended after two minutes is stuck."""
    for what, guest in GUESTS.items():
        log = Precopy(guest).run()
        label = "fine" if b"low_pending" in log else "stuck"
        if what in _CALMS or what in _AMBIGUOUS:
            label = "calms" if what in _CALMS else "ambiguous"
        yield Case(
            name=f"model: {what}", what=what, label=label, changed_at_s=_CALMS.get(what), log=partial(bytes, log)
        )


def outcome(case: Case) -> Outcome:
    """Play a case through the whole core, a few lines at a time."""
    stream = Stream("guest.log", vm="guest", start_ns=10**18)
    lines = case.log().splitlines(keepends=True)
    changes: list[Change] = []
    told: list[tuple[int, Progress]] = []
    for start in range(0, len(lines), _LINES):
        changes += stream.feed(b"".join(lines[start : start + _LINES]))
        told += [(stream.last_event_ns or 0, running.progress) for running in stream.running()]
    changes += stream.close()
    (migration,) = [change.migration for change in changes if isinstance(change, MigrationEnded)]
    start_ns = migration.identity.start_ns
    until_s = (migration.end_ns - start_ns) / _NS if case.changed_at_s is None else case.changed_at_s
    seen = [((at_ns - start_ns) / _NS, progress) for at_ns, progress in told]
    return Outcome(
        case=case,
        observed=Observed(
            boundaries=tuple(_boundaries(migration, until_s)),
            remaining=tuple(
                (at_s, progress.pending_bytes) for at_s, progress in seen if progress.pending_bytes is not None
            ),
            until_s=until_s,
        ),
        stalls=tuple(change.stall for change in changes if isinstance(change, Stalled)),
        moments=tuple(
            (at_s, progress.verdict.eta_seconds)
            for at_s, progress in seen
            if progress.round > _BOUNDARIES_BEFORE_ETA and progress.phase is PhaseName.ITERATE
        ),
        duration_s=(migration.end_ns - start_ns) / _NS,
        start_ns=start_ns,
    )


def _boundaries(migration: Migration, until_s: float) -> Iterator[Boundary]:
    for before, row in pairwise(migration.rounds):
        at_s = (row.start_ns - migration.identity.start_ns) / _NS
        if row.pending_at_start_bytes is not None and at_s <= until_s:
            yield Boundary(
                at_s=at_s,
                pending=row.pending_at_start_bytes,
                bandwidth=before.bandwidth_bytes_per_second,
                dirty_rate=before.dirty_bytes_per_second,
            )
