"""A small model of pre-copy, that prints what QEMU 7.2 would: a pure function of a guest, a network and a limit.

Memory is sets of pages, hot, cold and further regions, with a rate for each, and zero pages, which cost next to nothing
in the bulk round. Pages written at random grow a set's dirty part by `rate * (1 - dirty / size)`, pages written in turn
by `rate` until all are dirty. A round sends what is pending down to the threshold, as QEMU does, and then looks again:
what was not sent, and what was dirtied since. The next round continues in the set and at the page at which the last round ended.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, NamedTuple

_MIB: Final = 1 << 20
_STEP_MS: Final = 10
_WINDOW_MS: Final = 100
_START_SECONDS: Final = 1_700_000_000
_PAGE: Final = 4_096

#: Auto-converge: 20 % at first, 10 % more each time, when two periods of a second were dirtied faster than half of what
#: was sent (migration_trigger_throttle() in migration/ram.c).
_THROTTLE_INITIAL, _THROTTLE_INCREMENT, _THROTTLE_MAX = 0.2, 0.1, 0.99


def _always(value: float) -> Callable[[float], float]:
    return lambda _second: value


class Stage(NamedTuple):
    """Rate of a region from a time on; a guest that is not elastic catches up when it is throttled."""

    at: float
    rate: float
    is_random: bool = True
    is_elastic: bool = True


@dataclass(frozen=True, slots=True)
class Region:
    """Pages of one region, with the rates at which they are dirtied by time; the first stage begins at 0."""

    size: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest:
    """A guest and its network; sizes in MiB, rates in MiB/s, time in s since the migration began.

    Attributes:
        busy: How much of its rates the guest dirties with, by time.
        bandwidth: Of the network or of QEMU's cap, by time.
        noise: How much the bandwidth of a window varies; none is a cap of QEMU's.
        regions: Further pages, not subject to `busy`.
    """

    hot: float = 0.0
    hot_rate: float = 0.0
    cold: float = 0.0
    cold_rate: float = 0.0
    zero: float = 100.0
    busy: Callable[[float], float] = field(default_factory=lambda: _always(1))
    bandwidth: Callable[[float], float] = field(default_factory=lambda: _always(32))
    limit_ms: int = 300
    noise: float = 0.0
    auto_converge: bool = False
    throttle_initial: float = _THROTTLE_INITIAL
    throttle_increment: float = _THROTTLE_INCREMENT
    regions: tuple[Region, ...] = ()


@dataclass(slots=True)
class _Pages:
    """Set of pages: the pending ones, and those dirtied since the last sync.

    Attributes:
        passed, ahead: Share of the set that this pass has scanned, and what is pending beyond it.
    """

    size: float
    stages: tuple[Stage, ...]
    pending: float = 0.0
    dirty: float = 0.0
    next_stage: int = 1
    passed: float = 0.0
    ahead: float = 0.0

    def begin_pass(self) -> None:
        self.passed, self.ahead = 0.0, self.pending

    def send(self, room: float) -> float:
        """Send what is pending ahead; return how much was sent."""
        sent = min(self.ahead, room)
        if sent > 0:
            self.passed += (1 - self.passed) * sent / self.ahead
            self.ahead -= sent
            self.pending = max(0.0, self.pending - sent)
        return sent

    def live(self, second: float, seconds: float, busy: float, throttle: float) -> None:
        if not self.size:
            return
        while self.next_stage < len(self.stages) and self.stages[self.next_stage].at <= second:
            self.next_stage += 1
        stage = self.stages[self.next_stage - 1]
        written = stage.rate * busy * seconds * (1 - throttle if stage.is_elastic else 1)
        if stage.is_random:
            written *= 1 - self.dirty / self.size
        self.dirty += min(self.size - self.dirty, written)

    def sync(self) -> float:
        """Merge the bitmap; return the newly dirtied bytes."""
        dirtied, self.dirty = self.dirty, 0.0
        beyond, rest = dirtied * (1 - self.passed), self.size * (1 - self.passed)
        self.ahead = min(rest, self.ahead + beyond - beyond * self.ahead / rest) if rest > 0 else 0.0
        overlap = dirtied * self.pending / self.size if self.size else 0.0
        self.pending = min(self.size, self.pending + dirtied - overlap)
        return dirtied


class Precopy:
    """One run of the model, as the lines of a log."""

    def __init__(self, guest: Guest, *, seed: int = 1, seconds: float = 120) -> None:
        self.lines: list[str] = []
        self._guest = guest
        self._random = Random(seed)  # noqa: S311 - a model's noise
        pairs = [(guest.hot, guest.hot_rate), (guest.cold, guest.cold_rate)]
        self._busy_sets = [_Pages(size, (Stage(0, rate),)) for size, rate in pairs]
        self._steady_sets = [_Pages(region.size, region.stages) for region in guest.regions]
        self._sets = self._busy_sets + self._steady_sets
        self._place = 0
        self._zero = guest.zero
        self._now_ms = 0
        self._end_ms = round(seconds * 1_000)
        self._threshold = 0.0
        self._window_sent = self._period_sent = 0.0
        self._period_dirtied = self._throttle = 0.0
        self._period_ms = self._hits = 0

    def run(self) -> bytes:
        """Migrate until it fits or the time is over."""
        self._print("M", "migrate_set_state new state setup")
        self._print("M", "migration_socket_outgoing_connected hostname=")
        self._print("T", "savevm_state_header ")
        for pages in self._sets:
            pages.pending = pages.size
            pages.begin_pass()
        self._say_sync(0)
        self._print("T", "migrate_set_state new state active")
        self._print("T", "migration_thread_setup_complete ")
        self._say_pending()
        while self._now_ms < self._end_ms:
            self._round()
            self._say_sync(self._sync())
            self._say_pending()
            if self._pending() < self._threshold:
                self._print("T", f"migration_thread_low_pending {round(self._pending() * _MIB)}")
                self._print("T", "migration_completion_vm_stop ret 0")
                self._now_ms += round(1_000 * self._pending() / self._guest.bandwidth(self._now_ms / 1_000))
                self._print("T", "migrate_set_state new state completed")
                self._print("T", "migration_thread_after_loop ")
                break
        return "".join(self.lines).encode()

    def _pending(self) -> float:
        return sum(pages.pending for pages in self._sets) + self._zero

    def _round(self) -> None:
        """Send the pending pages down to the threshold, or until the time is over."""
        while self._pending() > 0 and self._now_ms < self._end_ms:
            self._step()
            if self._pending() < self._threshold:
                return

    def _step(self) -> None:
        second = self._now_ms / 1_000
        room = max(0.0, self._guest.bandwidth(second) * self._random.gauss(1, self._guest.noise)) * _STEP_MS / 1_000
        zeroes = min(self._zero, 1_000 * _STEP_MS / 1_000)  # a header each: a thousandth of a page
        self._zero -= zeroes
        self._window_sent += zeroes / 1_000
        for _ in range(len(self._sets) + 1):
            sent = self._sets[self._place].send(room)
            room -= sent
            self._window_sent += sent
            if room <= 0:
                break
            self._place = (self._place + 1) % len(self._sets)
            self._sets[self._place].begin_pass()
        for sets, busy in [(self._busy_sets, self._guest.busy(second)), (self._steady_sets, 1.0)]:
            for pages in sets:
                pages.live(second, _STEP_MS / 1_000, busy, self._throttle)
        self._now_ms += _STEP_MS
        if self._now_ms % _WINDOW_MS == 0:
            self._window()

    def _window(self) -> None:
        sent, self._window_sent = self._window_sent, 0.0
        self._period_sent += sent
        self._threshold = sent * self._guest.limit_ms / _WINDOW_MS
        self._print("T", "savevm_state_iterate ")
        self._print(
            "T",
            f"migrate_transferred transferred {round(sent * _MIB)} time_spent {_WINDOW_MS} bandwidth"
            f" {round(sent * _MIB / _WINDOW_MS)} max_size {round(self._threshold * _MIB)}",
        )
        self._say_pending()

    def _sync(self) -> float:
        """Sync the dirty bitmap; return the newly dirtied bytes, and throttle if it is time to."""
        dirtied = sum(pages.sync() for pages in self._sets)
        self._period_dirtied += dirtied
        if self._now_ms - self._period_ms > 1_000:
            if self._guest.auto_converge and self._period_dirtied > self._period_sent / 2:
                self._hits += 1
            if self._hits >= 2:
                self._hits = 0
                guest = self._guest
                step = self._throttle + guest.throttle_increment if self._throttle else guest.throttle_initial
                self._throttle = min(step, _THROTTLE_MAX)
                self._print("T", "migration_throttle ")
            self._period_ms, self._period_sent, self._period_dirtied = self._now_ms, 0.0, 0.0
        return dirtied

    def _say_sync(self, dirtied: float) -> None:
        self._print("T", "migration_bitmap_sync_start ")
        self._print("T", f"migration_bitmap_sync_end dirty_pages {round(dirtied * _MIB / _PAGE)}")

    def _say_pending(self) -> None:
        pending, threshold = round(self._pending() * _MIB), round(self._threshold * _MIB)
        self._print("T", f"migrate_pending pending size {pending} max {threshold} (pre = {pending} compat=0 post=0)")

    def _print(self, thread: str, event: str) -> None:
        seconds, milliseconds = divmod(self._now_ms, 1_000)
        number = {"M": 4_000, "T": 4_100}[thread]
        self.lines.append(
            f"{number}@{_START_SECONDS + seconds}.{milliseconds * 1_000 + len(self.lines) % 1_000:06d}:{event}\n"
        )
