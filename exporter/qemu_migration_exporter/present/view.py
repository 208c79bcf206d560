"""The view: one migration, one stream or one page as a frontend shows it.

    core records (nanoseconds) --view_builder--> views (seconds, relative) --> text, HTML, JSON, terminal

A view has numbers and no text. Times are seconds after the migration's start, and a value that the stream does not
give is None. The fields of `MigrationView` are the keys of the report's JSON object, so a program can rebuild and
render the views of another process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from qemu_migration_exporter.core.model import (
    ClockKind,
    DowntimePartName,
    Kind,
    Mode,
    PauseCause,
    PhaseName,
    Result,
    Side,
    StallReason,
)
from qemu_migration_exporter.present.advice import Advice


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseView:
    """A time in which the guest did not run; `end_seconds` is None while it lasts."""

    start_seconds: float
    end_seconds: float | None
    by: PauseCause


@dataclass(frozen=True, slots=True, kw_only=True)
class DowntimePartView:
    """A part of the downtime; the parts add up to it."""

    name: DowntimePartName
    device: str | None
    start_seconds: float
    duration_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundView:
    """A pass over the dirty bitmap; `duration_seconds` is None for the round that is not over."""

    number: int
    start_seconds: float
    duration_seconds: float | None
    iterations: int
    transferred_bytes: int | None
    pending_at_start_bytes: int | None
    pending_at_end_bytes: int | None
    dirtied_bytes: int | None
    dirty_bytes_per_second: float | None
    bandwidth_bytes_per_second: float | None
    threshold_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseView:
    """A phase; `duration_seconds` is None while the phase lasts, and if the clock does not measure it."""

    name: PhaseName
    start_seconds: float
    duration_seconds: float | None
    is_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceView:
    """A device's saved state."""

    name: str | None
    instance: int | None
    duration_seconds: float | None
    vmsd_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StallView:
    """A stall, with the numbers of its last judgement; `end_seconds` is None if nothing cleared it.

    Attributes:
        required_at_bytes_per_second: The bandwidth that the required downtime is reckoned with.
    """

    start_seconds: float
    end_seconds: float | None
    reason: StallReason
    since_seconds: float
    round: int
    best_pending_bytes: int | None
    best_round: int | None
    bandwidth_bytes_per_second: float | None
    dirty_bytes_per_second: float | None
    downtime_limit_seconds: float | None
    required_downtime_seconds: float | None
    required_at_bytes_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitView:
    """The present wait of a migration."""

    state: str | None
    reason: StallReason | None
    since_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictView:
    """The verdict on convergence as of now, or as of the end.

    Attributes:
        best_case_seconds: Least remaining time of a stalled migration, at the most favourable rate.
        advice: Commands that would end the stall in force; empty once the migration is over.
        past_advice: Commands that would have ended the last stall; empty until the migration is over.
    """

    converging: bool | None
    stalled_since_seconds: float | None
    reason: StallReason | None
    best_pending_bytes: int | None
    best_round: int | None
    eta_seconds: tuple[float, float] | None
    best_case_seconds: float | None
    required_downtime_seconds: float | None
    required_bandwidth_bytes_per_second: float | None
    advice: tuple[Advice, ...]
    past_advice: tuple[Advice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationView:
    """A migration as of one moment.

    Attributes:
        running: The stream is still being read and has no outcome yet.
        result: `unknown` while the migration runs, and if its stream ended first.
        joined: The beginning is missing, so times and counts start later than the migration.
        partial: Lines are missing, at the beginning or elsewhere.
        elapsed_seconds: From the start to the present of a running migration, else to the last mark.
        duration_seconds: From the start to the outcome; None without an outcome.
        downtime_is_partial: Only marks from after the stop of the guest are enabled, so `downtime_seconds` is too low.
        transferred_is_partial: QEMU printed no bandwidth window at the end, so `transferred_bytes` is too low.
        state: QEMU's migration state.
        bandwidth_bytes_per_second, dirty_bytes_per_second: As of now, or as of the end.
        paused_since_seconds, pause_cause: Start and cause of the guest's present pause; None while the guest runs.
        wait: The present wait, or the wait in which the stream ended.
        guest_lost: Post-copy ended while part of the guest's memory was only on the source.
        dirty_limit: QEMU limits the guest's dirty rate (capability dirty-limit).
    """

    vm: str
    uuid: str | None
    trace_id: str
    side: Side | None
    kind: Kind
    stream: str
    running: bool
    result: Result
    result_inferred: bool
    partial: bool
    joined: bool
    error: str | None
    mode: Mode
    clock: ClockKind
    start_time: datetime
    elapsed_seconds: float
    duration_seconds: float | None
    setup_seconds: float | None
    downtime_seconds: float | None
    downtime_is_partial: bool
    downtime_start_seconds: float | None
    blackout_seconds: float | None
    pauses: tuple[PauseView, ...]
    downtime_parts: tuple[DowntimePartView, ...]
    bitmap_syncs: int
    dirty_sync_count: int | None
    iterations: int
    transferred_bytes: int | None
    transferred_is_partial: bool
    ram_bytes: int | None
    downtime_limit_seconds: float | None
    throttles: int
    throttle_ratio: float | None
    postcopy_requests: int | None
    state: str | None
    pending_bytes: int | None
    threshold_bytes: int | None
    bandwidth_bytes_per_second: float | None
    dirty_bytes_per_second: float | None
    paused_since_seconds: float | None
    pause_cause: PauseCause | None
    wait: WaitView | None
    guest_lost: bool
    dirty_limit: bool
    rounds: tuple[RoundView, ...]
    phases: tuple[PhaseView, ...]
    devices: tuple[DeviceView, ...]
    stalls: tuple[StallView, ...]
    verdict: VerdictView

    @property
    def is_over(self) -> bool:
        """True if the outcome is known."""
        return self.duration_seconds is not None

    @property
    def is_timed(self) -> bool:
        """True if the clock measures durations; a reconstructed clock only measures the iterate phase."""
        return self.clock is not ClockKind.RECONSTRUCTED

    @property
    def stall(self) -> StallView | None:
        """The stall in force, or in force until the migration's end."""
        last = self.stalls[-1] if self.stalls else None
        return last if last is not None and last.end_seconds is None else None

    @property
    def last_phase(self) -> PhaseName | None:
        """The present phase, or the phase in which the migration ended."""
        names = [phase.name for phase in self.phases if phase.name is not PhaseName.CLEANUP]
        return names[-1] if names else None

    def is_bulk(self, round_: RoundView) -> bool:
        """Return whether a round sent all memory once; the first round of a joined stream did not."""
        return round_.number == 1 and not self.joined

    def end_of(self, stall: StallView) -> float:
        """Return the end of a stall, or the last moment at which it was in force."""
        if stall.end_seconds is not None:
            return stall.end_seconds
        return (
            self.elapsed_seconds if self.duration_seconds is None else max(self.duration_seconds, stall.start_seconds)
        )


#: In place of a problem: a recording that was read to its end.
READ_WHOLE: Final = "read to its end"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """A stream, and the counts of its lines.

    Attributes:
        format: The format's name, None until a line is recognised.
        surprises: Number of surprises by kind.
        is_up: True while the stream is read.
        problem: Short reason why the stream is not read, or `READ_WHOLE`.
        last_event_time: Time of the newest event.
        remarks: Reasons why lines of a recording are not understood, and the next steps.
    """

    name: str
    format: str | None
    clock: ClockKind
    lines: int
    events: int
    noise: int
    malformed: int
    surprises: Mapping[str, int] = field(default_factory=dict)
    is_up: bool = False
    problem: str | None = None
    last_event_time: datetime | None = None
    remarks: tuple[str, ...] = ()

    @property
    def is_down(self) -> bool:
        """True if the stream should be read and is not."""
        return not self.is_up and self.problem != READ_WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results of a replay."""

    streams: tuple[StreamView, ...]
    migrations: tuple[MigrationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The content of the landing page.

    Attributes:
        now: Time of the content.
        running: Running migrations, the longest running first.
        recent: Ended migrations, the most recent end first.
        notice: Reason why migrations may be missing; empty if there is none.
        trace_url: Template of a trace's address with `{trace_id}`; see `config.addresses.check_template`.
    """

    now: datetime
    running: tuple[MigrationView, ...] = ()
    recent: tuple[MigrationView, ...] = ()
    streams: tuple[StreamView, ...] = ()
    notice: str = ""
    trace_url: str | None = None
