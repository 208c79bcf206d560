"""The rounds of a migration, and the bytes of each bandwidth window shared among them by time.

A round is one pass over the dirty bitmap. It begins when setup is complete, or at a sync of the migration thread,
and ends at the next such sync or when pending is low. Two numbers of a round arrive after its end: the bytes sent,
with the bandwidth window that reaches past the end (up to 100 ms later), and the bytes dirtied, at the end of the
sync that ended the round. A `RoundDraft` waits for both.

QEMU syncs once more before the switchover, and nothing is sent after that sync: a round needs a slice, counted by
`savevm_state_iterate`. In a stream without that event, pending bytes have to fall in a round; after the bulk round,
a sync at its end is enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from qemu_migration_exporter.core.model import Round

#: A window is 100 ms and a round takes 1 ms or more, so the numbers of an older draft are lost.
_MAX_WAITING = 1_000


@dataclass(slots=True)
class RoundDraft:
    """A round that waits for its last numbers."""

    number: int
    start_ns: int
    end_ns: int | None = None
    iterations: int = 0
    #: Bytes with a fraction, rounded once, when the round is returned.
    transferred: float | None = None
    pending_at_start: int | None = None
    pending_at_end: int | None = None
    dirtied: int | None = None
    bandwidth: float | None = None
    threshold: int | None = None
    #: True until the sync that ended the round has ended.
    awaits_sync: bool = False

    def finished(self) -> Round:
        return Round(
            number=self.number,
            start_ns=self.start_ns,
            end_ns=self.end_ns,
            iterations=self.iterations,
            transferred_bytes=None if self.transferred is None else round(self.transferred),
            pending_at_start_bytes=self.pending_at_start,
            pending_at_end_bytes=self.pending_at_end,
            dirtied_bytes=self.dirtied,
            bandwidth_bytes_per_second=self.bandwidth,
            threshold_bytes=self.threshold,
        )


@dataclass(slots=True)
class Rounds:
    """The rounds of one migration that still wait for numbers."""

    count: int = 0
    current: RoundDraft | None = None
    waiting: list[RoundDraft] = field(default_factory=list)
    last_end_ns: int | None = None
    window_end_ns: int | None = None
    last_threshold: int | None = None
    #: True once the stream had `savevm_state_iterate`.
    has_slices: bool = False

    @property
    def number(self) -> int:
        """The number of the open round, else of the last round; 0 before the first."""
        return self.current.number if self.current else self.count

    @property
    def open_is_row(self) -> bool:
        """True if a round is open in which memory was sent."""
        return self.current is not None and self._is_row(self.current)

    def begin(self, at_ns: int, *, by_sync: bool) -> list[Round]:
        """End the open round, if there is one, and begin the next; return the rounds that are complete."""
        ended = self.end(at_ns, by_sync=by_sync)
        self.current = RoundDraft(self.count + 1, at_ns, threshold=self.last_threshold)
        self.last_end_ns = None
        return ended

    def pending(self, size: int) -> bool:
        """Record pending bytes; return whether they are the open round's first, which is a boundary."""
        draft = self.current
        if draft is None:
            return False
        if draft.pending_at_start is None:
            draft.pending_at_start = size
            return True
        draft.pending_at_end = size
        return False

    def threshold(self, size: int) -> None:
        """Record the threshold that QEMU printed, for the open round and those after it."""
        self.last_threshold = size
        if self.current is not None:
            self.current.threshold = size

    def iterate(self) -> None:
        """Count a slice of the open round."""
        draft, self.has_slices = self.current, True
        if draft is not None:
            draft.iterations += 1
            self.count = draft.number

    def end(self, at_ns: int, *, by_sync: bool) -> list[Round]:
        """End the open round, or drop it if nothing was sent; return the rounds that are complete."""
        draft, self.current = self.current, None
        if draft is not None:
            self.last_end_ns = at_ns
        if draft is not None and (self._is_row(draft) or (by_sync and self._is_short_row(draft))):
            self.count = draft.number
            draft.end_ns = at_ns
            draft.awaits_sync = by_sync
            self.waiting.append(draft)
        return self._complete()

    def sync_ended(self, dirtied_bytes: int | None) -> list[Round]:
        """Record the bytes found dirty by the sync that ended the last round; return the rounds that are complete."""
        if self.waiting and self.waiting[-1].awaits_sync:
            draft = self.waiting[-1]
            draft.awaits_sync = False
            draft.dirtied = dirtied_bytes
        return self._complete()

    def window(
        self, start_ns: int, end_ns: int, transferred: int, bandwidth_bytes_per_second: float | None
    ) -> list[Round]:
        """Share a bandwidth window's bytes among the rounds it spans; return the rounds that are complete.

        Bytes sent in setup, which are a few headers, belong to the first round. Bytes sent after the last round, with
        the guest stopped or in post-copy, belong to no round.
        """
        self.window_end_ns = end_ns
        if self.current is not None and not self.waiting:  # nearly always
            self.current.transferred = (self.current.transferred or 0.0) + transferred
            self.current.bandwidth = bandwidth_bytes_per_second
            return []
        drafts = [*self.waiting, *([self.current] if self.current else [])]
        spans = [max(0, (draft.end_ns or end_ns) - max(draft.start_ns, start_ns)) for draft in drafts]
        after = 0 if self.last_end_ns is None else end_ns - self.last_end_ns
        total = sum(spans) + after
        if drafts and total == 0:
            spans[-1] = total = 1
        for draft, span in zip(drafts, spans, strict=True):
            if span:
                draft.transferred = (draft.transferred or 0.0) + transferred * span / total
                ended_inside = draft.end_ns is None or draft.end_ns >= end_ns
                if ended_inside or draft.bandwidth is None:
                    draft.bandwidth = bandwidth_bytes_per_second
        return self._complete()

    def now(self) -> list[Round]:
        """Return the rounds that still wait, with the numbers known so far; the open round has no end."""
        current = [self.current] if self.current is not None and self.open_is_row else []
        return [draft.finished() for draft in (*self.waiting, *current)]

    def close(self) -> list[Round]:
        """Return the rounds that still wait and forget them; their last numbers are lost."""
        rounds = self.now()
        self.current, self.waiting = None, []
        return rounds

    def _is_row(self, draft: RoundDraft) -> bool:
        if self.has_slices:
            return draft.iterations > 0
        first, last = draft.pending_at_start, draft.pending_at_end
        return first is not None and last is not None and last < first

    def _is_short_row(self, draft: RoundDraft) -> bool:
        return not self.has_slices and draft.number > 1 and draft.pending_at_start is not None

    def _complete(self) -> list[Round]:
        complete = []
        while self.waiting and (len(self.waiting) > _MAX_WAITING or self._is_complete(self.waiting[0])):
            complete.append(self.waiting.pop(0).finished())
        return complete

    def _is_complete(self, draft: RoundDraft) -> bool:
        window_in = self.window_end_ns is not None and draft.end_ns is not None and self.window_end_ns >= draft.end_ns
        return window_in and not draft.awaits_sync
