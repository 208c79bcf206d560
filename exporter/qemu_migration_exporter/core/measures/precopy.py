"""The numbers of pre-copy: pending bytes, bandwidth windows, bitmap syncs and rounds.

QEMU's lines give the numbers of one round in pieces:

    sync end ──> pending bytes ──> slices ──> bandwidth window ──> … ──> sync start ──> sync end
    dirtied      the boundary                 bytes, threshold           the round ends

`rounds` puts the pieces together. A sync belongs to the round that it begins, and is returned when that round is known
to send anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from qemu_migration_exporter.core.changes import Change, RoundEnded, Surprised, SyncFinished
from qemu_migration_exporter.core.events import Pending, SyncEnded, Transferred
from qemu_migration_exporter.core.measures.dirty_counter import DirtyPageCounter
from qemu_migration_exporter.core.measures.rounds import Rounds
from qemu_migration_exporter.core.model import PhaseName, Round, SurpriseKind, Sync

_NS_PER_MS = 1_000_000

#: Rounds kept for the summary, at most 3 MB: hours of a stuck migration with a round a second. Of more rounds the first
#: quarter and the last half are kept. The others are reported when they end, and the gap in the numbers shows them.
MAX_ROUNDS: Final = 10_000


@dataclass(slots=True)
class OpenSync:
    """A bitmap sync that has not ended."""

    start_ns: int
    phase: PhaseName | None
    begins_round: bool
    stacktrace: tuple[str, ...] = ()


@dataclass(slots=True)
class Precopy:
    """The numbers of one migration's pre-copy, as plain data.

    Every method that completes a round or a sync returns the changes.

    Attributes:
        joined: The stream was joined after the migration's beginning.
        sends: An event proved that memory is sent; a stream may have nothing but states.
        pending, threshold, ram: Bytes, as in `qemu_migration_exporter.core.model.Progress`.
        bandwidth: Bytes per second of the last window.
        transferred: Bytes of all windows, None before the first.
        downtime_limit_seconds: From QMP, until a bandwidth window shows it.
        dirty_bytes_per_second: The dirty rate of the last round that has one.
        may_postcopy: Pending memory may be sent after the switchover, so post-copy is enabled.
        finished: The rounds that are over and kept.
        unwindowed: Bytes by which pending fell since it was printed first after the last window; None before that.
        dirtied_since_pending: Bytes that syncs added since pending was printed.
    """

    trace_id: str
    page_size: int
    joined: bool
    sends: bool = False
    pending: int | None = None
    threshold: int | None = None
    ram: int | None = None
    bandwidth: float | None = None
    transferred: int | None = None
    downtime_limit_seconds: float | None = None
    syncs: int = 0
    round_syncs: int = 0
    slices: int = 0
    dirty_bytes_per_second: float | None = None
    may_postcopy: bool = False
    finished: list[Round] = field(default_factory=list)
    rounds: Rounds = field(default_factory=Rounds)
    dirty: DirtyPageCounter = field(default_factory=DirtyPageCounter)
    window_ns: int | None = None
    unwindowed: int | None = None
    dirtied_since_pending: int = 0
    open_sync: OpenSync | None = None
    opening_sync: Sync | None = None

    @property
    def round(self) -> int:
        """The number of the open round, else of the last round; 0 before the first."""
        return self.rounds.number

    @property
    def is_bulk(self) -> bool:
        """True in the bulk round and before it."""
        return self.rounds.number <= 1

    @property
    def last_dirtied_bytes(self) -> int | None:
        """Bytes newly dirtied in the last round that ended."""
        return self.finished[-1].dirtied_bytes if self.finished else None

    @property
    def last_transferred_bytes(self) -> int | None:
        """Bytes sent in the last round that ended."""
        return self.finished[-1].transferred_bytes if self.finished else None

    def begin(self, at_ns: int) -> Sequence[Change]:
        """Begin the bulk round: setup is complete."""
        return self._rounds_ended(self.rounds.begin(at_ns, by_sync=False))

    def pending_seen(self, size: int, *, postcopy: int | None = None) -> bool:
        """Set the pending bytes, of which post-copy may send `postcopy`; return whether this is a boundary.

        The first pending bytes of a migration are the guest's memory.
        """
        self.sends = True
        if self.unwindowed is None or self.pending is None:
            self.unwindowed = 0
        else:
            self.unwindowed += max(0, self.pending + self.dirtied_since_pending - size)
        self.dirtied_since_pending = 0
        self.pending = size
        self.may_postcopy |= bool(postcopy)
        if self.ram is None and not self.joined:
            self.ram = size
        return self.rounds.pending(size)

    def threshold_seen(self, event: Pending) -> None:
        """Set the threshold; QEMU prints a meaningless 0 before the first window."""
        if event.threshold is not None and event.threshold > 0:
            self.threshold = event.threshold
            self.rounds.threshold(event.threshold)

    def slice_seen(self) -> Sequence[Change]:
        """Count a `savevm_state_iterate`."""
        self.sends = True
        self.slices += 1
        self.rounds.iterate()
        return self._release_opening_sync()

    def window_seen(self, at_ns: int, event: Transferred) -> Sequence[Change]:
        """Add a bandwidth window that ended."""
        _, _, transferred, spent_ms, _, threshold = event
        if transferred is None:
            return ()
        self.sends = True
        self.transferred = (self.transferred or 0) + transferred
        if spent_ms:
            # The printed bandwidth is in bytes a millisecond up to 11.0, and in Mbit/s from 11.1 on.
            self.bandwidth = transferred * 1_000 / spent_ms
        if threshold is not None and threshold > 0:
            self.threshold = threshold
            self.rounds.threshold(threshold)
            self._learn_limit(event, threshold)
        start_ns = self.window_ns if self.window_ns is not None else at_ns - (spent_ms or 0) * _NS_PER_MS
        self.window_ns = at_ns
        self.unwindowed = None
        ended = self.rounds.window(start_ns, at_ns, transferred, self.bandwidth)
        return self._rounds_ended(ended) if ended else ()

    def sync_started(
        self, at_ns: int, *, phase: PhaseName | None, begins_round: bool, stacktrace: tuple[str, ...] = ()
    ) -> Sequence[Change]:
        """Begin a bitmap sync, which may end one round and begin the next."""
        return self._begin_sync(OpenSync(at_ns, phase, begins_round, stacktrace))

    def sync_ended(self, at_ns: int, event: SyncEnded, *, phase: PhaseName | None) -> Sequence[Change]:
        """End a bitmap sync; a sync whose start was lost counts, but begins no round."""
        changes: list[Change] = []
        sync = self.open_sync
        if sync is None:
            changes.append(Surprised(SurpriseKind.UNPAIRED, "migration_bitmap_sync_end without its start"))
            sync = OpenSync(at_ns, phase, begins_round=False)
            changes += self._begin_sync(sync)
        pages = self.dirty.newly_dirtied(event.dirty_pages, at_ns, cumulative=event.cumulative)
        self.dirtied_since_pending += (pages or 0) * self.page_size
        changes += self._sync_finished(sync, at_ns, None if pages is None else pages * self.page_size)
        return changes

    def _begin_sync(self, sync: OpenSync) -> Sequence[Change]:
        changes: list[Change] = []
        if self.open_sync is not None:
            changes.append(Surprised(SurpriseKind.UNPAIRED, "migration_bitmap_sync_start without the end before it"))
            changes += self._sync_finished(self.open_sync, None, None)
        self.syncs += 1
        if self.syncs == 1 and not self.joined:
            self.dirty.begin(sync.start_ns)
        self.open_sync = sync
        if sync.begins_round:
            self.round_syncs += 1
            changes += self._release_opening_sync()
            changes += self._rounds_ended(self.rounds.begin(sync.start_ns, by_sync=True))
        return changes

    def end(self, at_ns: int) -> Sequence[Change]:
        """End the last round, before the switchover or the end."""
        return [*self._release_opening_sync(), *self._rounds_ended(self.rounds.end(at_ns, by_sync=False))]

    def forget_rounds(self) -> None:
        """Drop the rounds: the stream was joined in post-copy, which has none."""
        self.rounds, self.finished, self.dirty_bytes_per_second = Rounds(), [], None

    def close(self) -> Sequence[Change]:
        """Return the changes of syncs and rounds whose last lines will not come."""
        changes: list[Change] = []
        if self.open_sync is not None:
            changes += self._sync_finished(self.open_sync, None, None)
        changes += self._release_opening_sync()
        changes += self._rounds_ended(self.rounds.close())
        return changes

    def all_rounds(self) -> list[Round]:
        """Return the known rounds, including the open round."""
        return [*self.finished, *self.rounds.now()]

    def _learn_limit(self, event: Transferred, threshold: int) -> None:
        """Compute the downtime limit from QEMU's `threshold = bandwidth * downtime_limit`.

        The limit is whole milliseconds. Since 8.2 the bandwidth may be the operator's (avail-switchover-bandwidth).
        """
        if event.switchover_bandwidth:
            self.downtime_limit_seconds = round(threshold / event.switchover_bandwidth) / 1_000
        elif event.transferred and event.time_spent_ms:
            self.downtime_limit_seconds = round(threshold * event.time_spent_ms / event.transferred) / 1_000

    def _sync_finished(self, open_sync: OpenSync, end_ns: int | None, dirtied: int | None) -> Sequence[Change]:
        self.open_sync = None
        in_round = open_sync.phase is PhaseName.ITERATE and not open_sync.begins_round and self.rounds.open_is_row
        sync = Sync(
            number=self.syncs,
            start_ns=open_sync.start_ns,
            end_ns=end_ns,
            dirtied_bytes=dirtied,
            phase=open_sync.phase,
            round=self.round if in_round else None,
            stacktrace=open_sync.stacktrace,
        )
        if not open_sync.begins_round:
            return [SyncFinished(self.trace_id, sync)]
        self.opening_sync = sync
        return self._rounds_ended(self.rounds.sync_ended(dirtied))

    def _release_opening_sync(self) -> Sequence[Change]:
        """Return the sync that began the open round, as soon as it is known whether the round sends anything."""
        sync = self.opening_sync
        if sync is None:
            return ()
        self.opening_sync = None
        number = self.round if self.rounds.open_is_row else None
        return [SyncFinished(self.trace_id, replace(sync, round=number))]

    def _rounds_ended(self, rounds: list[Round]) -> Sequence[Change]:
        if not rounds:
            return ()
        self.finished += rounds
        if len(self.finished) > MAX_ROUNDS:
            del self.finished[MAX_ROUNDS // 4 : -MAX_ROUNDS // 2]
        for ended in rounds:
            if ended.dirty_bytes_per_second is not None:
                self.dirty_bytes_per_second = ended.dirty_bytes_per_second
        return [RoundEnded(self.trace_id, ended) for ended in rounds]
