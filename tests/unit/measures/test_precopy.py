"""The numbers of pre-copy."""

from __future__ import annotations

from typing import Any

import pytest
from qemu_migration_exporter.core.changes import Change, RoundEnded, Surprised, SyncFinished
from qemu_migration_exporter.core.events import Pending, SyncEnded, Transferred
from qemu_migration_exporter.core.measures.precopy import Precopy
from qemu_migration_exporter.core.model import PhaseName, SurpriseKind

MS = 1_000_000
ITERATE = PhaseName.ITERATE


class Recorded:
    """An iteration whose returned changes are collected."""

    def __init__(self, iteration: Precopy, changes: list[Change]) -> None:
        self._iteration, self._changes = iteration, changes

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of any member
        member = getattr(self._iteration, name)
        if not callable(member):
            return member

        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - of any method
            returned = member(*args, **kwargs)
            if isinstance(returned, (list, tuple)):
                self._changes += returned
            return returned

        return call


class Follower:
    """An iteration and its reports."""

    def __init__(self, *, joined: bool = False) -> None:
        self.changes: list[Change] = []
        self.iteration = Recorded(Precopy("trace", page_size=4096, joined=joined), self.changes)

    def sync(
        self, at_ms: int, pages: int | None, *, begins_round: bool = True, phase: PhaseName | None = ITERATE
    ) -> None:
        """Start and end a sync of a millisecond."""
        self.iteration.sync_started(at_ms * MS, phase=phase, begins_round=begins_round)
        self.iteration.sync_ended((at_ms + 1) * MS, SyncEnded(None, None, pages), phase=phase)

    @property
    def syncs(self) -> list[tuple[int, int | None, int | None]]:
        """Number, round and newly dirtied bytes of each reported sync."""
        syncs = [change.sync for change in self.changes if isinstance(change, SyncFinished)]
        return [(sync.number, sync.round, sync.dirtied_bytes) for sync in syncs]

    @property
    def surprises(self) -> list[SurpriseKind]:
        """Kinds of the reported surprises."""
        return [change.kind for change in self.changes if isinstance(change, Surprised)]


def window(
    transferred: int | None,
    time_spent_ms: int | None,
    threshold: int | None,
    *,
    switchover: int | None = None,
) -> Transferred:
    """Make the end of a bandwidth window."""
    return Transferred(None, None, transferred, time_spent_ms, switchover, threshold)


@pytest.mark.parametrize(
    ("event", "limit"),
    [
        (window(3_357_090, 100, 10_071_270), 0.3),
        (window(3_357_090, 102, 9_873_794), 0.3),
        (window(12_751_480, 144, 26_565_583), 0.3),
        (window(3_357_090, 100, 12_500_000, switchover=125_000), 0.1),
        (window(3_357_090, 100, 0), None),
        (window(3_357_090, 100, -5), None),
        (window(3_357_090, 100, None), None),
        (window(0, 100, 10), None),
        (window(3_357_090, None, 10), None),
        (window(None, 100, 10_071_270), None),
    ],
)
def test_window_gives_downtime_limit(event: Transferred, limit: float | None) -> None:
    """The threshold is bandwidth times limit, rounded; since 8.2 the operator may have stated another bandwidth."""
    follower = Follower()
    follower.iteration.window_seen(100 * MS, event)
    assert limit == follower.iteration.downtime_limit_seconds


def test_windows_add_up() -> None:
    """The bandwidth is that of the last window with a length; its printed field has other units from 11.1 on."""
    follower = Follower()
    for event in (window(1_000, 100, 3_000), window(None, 100, 99), window(500, None, None)):
        follower.iteration.window_seen(100 * MS, event)
    totals: tuple[int | None, float | None, int | None] = (
        follower.iteration.transferred,
        follower.iteration.bandwidth,
        follower.iteration.threshold,
    )
    assert (1_500, 10_000, 3_000) == totals


def test_no_window_means_unknown_transfer() -> None:
    """A migration of less than 100 ms prints none: None, and not 0."""
    assert None is Follower().iteration.transferred


def test_zero_threshold_is_unknown() -> None:
    """QEMU prints 0 before the first window."""
    iteration = Follower().iteration
    thresholds = []
    for threshold in (0, 1, 5, None, 0):
        iteration.threshold_seen(Pending(None, None, 1, threshold, None))
        thresholds.append(iteration.threshold)
    assert [None, 1, 5, 5, 5] == thresholds


def test_first_pending_is_guest_memory() -> None:
    """Unless the stream was joined later."""
    for joined, ram in [(False, 700), (True, None)]:
        iteration = Follower(joined=joined).iteration
        iteration.begin(0)
        for pending in (700, 300):
            iteration.pending_seen(pending)
        assert (300, ram) == (iteration.pending, iteration.ram)


def test_boundary_is_first_pending_of_round() -> None:
    """Pending always falls inside a round, which proves nothing."""
    follower = Follower()
    iteration = follower.iteration
    iteration.begin(0)
    boundaries = []
    for at_ms, pending in [(1, 900), (2, 500), (10, 600), (11, 10), (20, 700), (30, 500)]:
        if at_ms % 10 == 0:
            follower.sync(at_ms, 7)
        iteration.slice_seen()
        boundaries.append(iteration.pending_seen(pending))
    assert [True, False, True, False, True, True] == boundaries


def test_postponable_memory_reveals_postcopy() -> None:
    """QEMU counts it so in no other case; once is enough."""
    iteration = Follower().iteration
    told = []
    for postcopy in (None, 0, 7, 0):
        iteration.pending_seen(9, postcopy=postcopy)
        told.append(iteration.may_postcopy)
    assert [False, False, True, True] == told


def test_sync_belongs_to_its_round() -> None:
    """It is reported once it is known whether data is sent in the round that it begins."""
    follower = Follower()
    follower.sync(0, 0, begins_round=False, phase=PhaseName.SETUP)
    follower.iteration.begin(2 * MS)
    follower.iteration.slice_seen()
    follower.sync(10, 1)  # begins round 2
    assert [(1, None, 0)] == follower.syncs
    follower.iteration.slice_seen()
    follower.sync(20, 3, begins_round=False)  # the throttle's, in the middle of round 2
    follower.sync(30, 6)  # begins nothing: the switchover comes next
    follower.iteration.end(32 * MS)
    follower.sync(40, 6, begins_round=False, phase=PhaseName.COMPLETE_PRECOPY)
    assert [(1, None, 0), (2, 2, 4_096), (3, 2, 8_192), (4, None, 12_288), (5, None, 0)] == follower.syncs
    assert [] == follower.surprises


def test_end_without_start_is_sync() -> None:
    """QEMU counted it; it begins no round, because its start is unknown."""
    follower = Follower()
    follower.iteration.begin(0)
    follower.iteration.sync_ended(5 * MS, SyncEnded(None, None, 3), phase=ITERATE)
    assert ([(1, None, 12_288)], [SurpriseKind.UNPAIRED], 1) == (
        follower.syncs,
        follower.surprises,
        follower.iteration.syncs,
    )


def test_start_without_end_is_sync() -> None:
    """It is reported when the next one starts, or at the end of the stream."""
    follower = Follower()
    for at_ms in (1, 2):
        follower.iteration.sync_started(at_ms * MS, phase=ITERATE, begins_round=False)
    assert ([(1, None, None)], [SurpriseKind.UNPAIRED]) == (follower.syncs, follower.surprises)
    follower.iteration.close()
    assert [(1, None, None), (2, None, None)] == follower.syncs


def test_rounds_are_reported_when_complete() -> None:
    """And kept for the record."""
    follower = Follower()
    follower.iteration.begin(0)
    follower.iteration.slice_seen()
    follower.iteration.end(50 * MS)
    assert [] == follower.iteration.finished
    follower.iteration.window_seen(100 * MS, window(1_000, 100, 3_000))
    assert [RoundEnded("trace", each) for each in follower.iteration.finished] == follower.changes
    assert [500] == [each.transferred_bytes for each in follower.iteration.finished]


def test_first_quarter_and_last_half_of_rounds_are_kept() -> None:
    follower = Follower()
    iteration = follower.iteration
    iteration.begin(0)
    for number in range(1, 10_002):
        iteration.slice_seen()
        iteration.sync_started(number * MS, phase=ITERATE, begins_round=True)
        iteration.sync_ended(number * MS, SyncEnded(None, None, 1), phase=ITERATE)
        iteration.window_seen(number * MS, window(1_000, 1, 3_000))
    assert [*range(1, 2_501), *range(5_002, 10_002)] == [each.number for each in iteration.finished]
