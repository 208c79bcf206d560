"""The numbers of pre-copy: pending bytes, bandwidth windows, bitmap syncs and the rounds they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isfinite
from typing import Any, Final, NamedTuple

from qemu_migration_exporter.core.changes import Change, RoundEnded, Surprised, SyncFinished
from qemu_migration_exporter.core.events import Pending, SyncEnded, Transferred
from qemu_migration_exporter.core.model import PhaseName, Round, SurpriseKind, Sync
from qemu_migration_exporter.core.tracking.dirty_counter import DirtyPageCounter
from qemu_migration_exporter.core.tracking.rounds import Rounds

_NS_PER_MS = 1_000_000

#: Rounds that are remembered, 3 MB of them: hours of a migration that is stuck, at a round a second. Of more, the first
#: and the last half are; what lies between them is told as it ends, and their numbers say that something is missing.
MAX_ROUNDS: Final = 10_000


class _OpenSync(NamedTuple):
    start_ns: int
    phase: PhaseName | None
    begins_round: bool
    stacktrace: tuple[str, ...]


class Precopy:
    """Follow the rounds of one migration and what they are judged by.

    Attributes:
        sends: Whether it was ever seen to send: a stream may have nothing but states.
        pending, threshold, ram: Bytes, as in `qemu_migration_exporter.core.model.Progress`.
        bandwidth: Bytes per second of the last window.
        transferred: Bytes of all windows, None before the first.
        downtime_limit_seconds: May be set from outside until a window tells it.
        dirty_bytes_per_second: How fast the guest dirtied memory in the last round of which that is known.
        may_postcopy: Whether memory was counted as what post-copy may send later, so that it is enabled.
        finished: The rounds that are over, as far as they are remembered.
    """

    def __init__(self, trace_id: str, emit: Callable[[Change], None], *, page_size: int, joined: bool) -> None:
        self.sends = False
        self.pending: int | None = None
        self.threshold: int | None = None
        self.ram: int | None = None
        self.bandwidth: float | None = None
        self.transferred: int | None = None
        self.downtime_limit_seconds: float | None = None
        self.syncs = 0
        self.slices = 0
        self.dirty_bytes_per_second: float | None = None
        self.may_postcopy = False
        self.finished: list[Round] = []
        self._trace_id = trace_id
        self._emit = emit
        self._page_size = page_size
        self._joined = joined
        self._rounds = Rounds()
        self._dirty = DirtyPageCounter()
        self._window_ns: int | None = None
        self._sync: _OpenSync | None = None
        self._opening_sync: Sync | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out whom to tell: that is no state."""
        return {name: value for name, value in self.__dict__.items() if name != "_emit"}

    def tell(self, emit: Callable[[Change], None]) -> None:
        """Tell changes to `emit` from now on."""
        self._emit = emit

    @property
    def round(self) -> int:
        """The round that is open, else the last one; 0 before the first."""
        return self._rounds.number

    def begin(self, at_ns: int) -> None:
        """Begin the bulk round: setup is complete."""
        self._rounds_ended(self._rounds.begin(at_ns, by_sync=False))

    def pending_seen(self, size: int, *, postcopy: int | None = None) -> bool:
        """Note pending bytes: the guest's memory at first, later what is left; say whether they are a boundary's.

        `postcopy` of them may be sent after the switchover.
        """
        self.sends = True
        self.pending = size
        self.may_postcopy |= bool(postcopy)
        if self.ram is None and not self._joined:
            self.ram = size
        return self._rounds.pending(size)

    def threshold_seen(self, event: Pending | Transferred) -> None:
        """Note the threshold; it is 0 before the first window, and means nothing then."""
        if event.threshold is not None and event.threshold > 0:
            self.threshold = event.threshold

    def slice_seen(self) -> None:
        """Note a `savevm_state_iterate`."""
        self.sends = True
        self.slices += 1
        self._rounds.iterate()
        self._release_opening_sync()

    def window_seen(self, at_ns: int, event: Transferred) -> None:
        """Note the end of a bandwidth window."""
        if event.transferred is None:
            return
        self.sends = True
        self.transferred = (self.transferred or 0) + event.transferred
        if event.bandwidth is not None and isfinite(event.bandwidth):
            self.bandwidth = float(event.bandwidth) * 1_000
        self.threshold_seen(event)
        self._learn_limit(event)
        spent_ns = (event.time_spent_ms or 0) * _NS_PER_MS
        start_ns = self._window_ns if self._window_ns is not None else at_ns - spent_ns
        self._window_ns = at_ns
        self._rounds_ended(self._rounds.window(start_ns, at_ns, event.transferred, self.bandwidth))

    def sync_started(
        self, at_ns: int, *, phase: PhaseName | None, begins_round: bool, stacktrace: tuple[str, ...] = ()
    ) -> None:
        """Note the start of a bitmap sync, which may end one round and begin the next."""
        self._open_sync(_OpenSync(at_ns, phase, begins_round, stacktrace))

    def sync_ended(self, at_ns: int, event: SyncEnded, *, phase: PhaseName | None) -> None:
        """Note the end of a bitmap sync; one whose start was lost counts, and begins no round."""
        sync = self._sync
        if sync is None:
            self._emit(Surprised(SurpriseKind.UNPAIRED, "migration_bitmap_sync_end without its start"))
            sync = self._open_sync(_OpenSync(at_ns, phase, begins_round=False, stacktrace=()))
        pages = self._dirty.newly_dirtied(event.dirty_pages, at_ns, cumulative=event.cumulative)
        self._sync_finished(sync, at_ns, None if pages is None else pages * self._page_size)

    def _open_sync(self, sync: _OpenSync) -> _OpenSync:
        if self._sync is not None:
            self._emit(Surprised(SurpriseKind.UNPAIRED, "migration_bitmap_sync_start without the end before it"))
            self._sync_finished(self._sync, None, None)
        self.syncs += 1
        if self.syncs == 1 and not self._joined:
            self._dirty.begin(sync.start_ns)
        self._sync = sync
        if sync.begins_round:
            self._release_opening_sync()
            self._rounds_ended(self._rounds.begin(sync.start_ns, by_sync=True))
        return sync

    def end(self, at_ns: int) -> None:
        """End the last round: what comes now is the switchover, or nothing."""
        self._release_opening_sync()
        self._rounds_ended(self._rounds.end(at_ns, by_sync=False))

    def close(self) -> None:
        """Give out what waits for lines that will not come."""
        if self._sync is not None:
            self._sync_finished(self._sync, None, None)
        self._release_opening_sync()
        self._rounds_ended(self._rounds.close())

    def rounds(self) -> list[Round]:
        """Return all rounds as far as they are known, the open one too."""
        return [*self.finished, *self._rounds.now()]

    def _learn_limit(self, event: Transferred) -> None:
        """Undo QEMU's `threshold = bandwidth * downtime_limit`, from before it rounded the bandwidth.

        The limit is whole milliseconds. Since 8.2 the bandwidth may be the operator's (avail-switchover-bandwidth).
        """
        if event.threshold is None or event.threshold <= 0:
            return
        if event.switchover_bandwidth:
            self.downtime_limit_seconds = round(event.threshold / event.switchover_bandwidth) / 1_000
        elif event.transferred and event.time_spent_ms:
            self.downtime_limit_seconds = round(event.threshold * event.time_spent_ms / event.transferred) / 1_000

    def _sync_finished(self, open_sync: _OpenSync, end_ns: int | None, dirtied: int | None) -> None:
        self._sync = None
        in_round = open_sync.phase is PhaseName.ITERATE and not open_sync.begins_round and self._rounds.open_is_row
        sync = Sync(
            number=self.syncs,
            start_ns=open_sync.start_ns,
            end_ns=end_ns,
            dirtied_bytes=dirtied,
            phase=open_sync.phase,
            round=self.round if in_round else None,
            stacktrace=open_sync.stacktrace,
        )
        if open_sync.begins_round:
            self._opening_sync = sync
            self._rounds_ended(self._rounds.sync_ended(dirtied))
        else:
            self._emit(SyncFinished(self._trace_id, sync))

    def _release_opening_sync(self) -> None:
        """Give out the sync that began the open round, now that it is known whether something is sent in that."""
        sync, self._opening_sync = self._opening_sync, None
        if sync is not None:
            number = self.round if self._rounds.open_is_row else None
            self._emit(SyncFinished(self._trace_id, replace(sync, round=number)))

    def _rounds_ended(self, rounds: list[Round]) -> None:
        self.finished += rounds
        if len(self.finished) > MAX_ROUNDS:
            del self.finished[MAX_ROUNDS // 4 : -MAX_ROUNDS // 2]
        for each in rounds:
            if each.dirty_bytes_per_second is not None:
                self.dirty_bytes_per_second = each.dirty_bytes_per_second
            self._emit(RoundEnded(self._trace_id, each))
