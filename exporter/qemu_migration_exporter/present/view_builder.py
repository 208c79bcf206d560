"""Views made from the core's records: nanoseconds since the epoch become seconds after the migration's start.

The core's records are in nanoseconds and immutable; views are in seconds and belong to one rendering. A field that a
record and its view have by the same name is copied. All conversions are here, so that renderers contain no arithmetic.
A value that the stream does not give stays None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from qemu_migration_exporter.core.model import (
    Device,
    DowntimePart,
    Migration,
    OpenWait,
    Pause,
    Phase,
    PhaseName,
    Result,
    Round,
    Stall,
)
from qemu_migration_exporter.core.stalls.reasons import ROUND_REASONS
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.advice import advice_for
from qemu_migration_exporter.present.units import moment_of, seconds_of
from qemu_migration_exporter.present.view import (
    DeviceView,
    DowntimePartView,
    MigrationView,
    PauseView,
    PhaseView,
    RoundView,
    StallView,
    StreamView,
    VerdictView,
    WaitView,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

View = TypeVar("View", bound="DataclassInstance")


def migration_view(migration: Migration, *, now_ns: int | None = None) -> MigrationView:
    """Return the view of a migration.

    Args:
        migration: The core's record.
        now_ns: The present for a running migration; None if the migration or its stream ended.
    """
    identity, progress = migration.identity, migration.progress
    start_ns = identity.start_ns
    running = now_ns is not None
    last_ns = max(now_ns, start_ns) if now_ns is not None else migration.end_ns
    return _view(
        MigrationView,
        (identity, migration, progress),
        running=running,
        result=Result.UNKNOWN if running else migration.result,
        joined=migration.is_joined,
        start_time=moment_of(start_ns),
        elapsed_seconds=(last_ns - start_ns) / 1e9,
        duration_seconds=None if running else seconds_of(migration.duration_ns),
        setup_seconds=seconds_of(migration.setup_ns),
        downtime_seconds=seconds_of(migration.downtime_ns),
        downtime_is_partial=migration.downtime_is_partial,
        downtime_start_seconds=_after(migration.downtime_start_ns, start_ns),
        blackout_seconds=seconds_of(migration.blackout_ns),
        pauses=tuple(_pause(pause, start_ns) for pause in migration.pauses),
        downtime_parts=tuple(_downtime_part(part, start_ns) for part in migration.downtime_parts),
        bandwidth_bytes_per_second=_bandwidth(migration),
        paused_since_seconds=_after(progress.paused_since_ns, start_ns),
        wait=_wait(migration.open_wait, start_ns),
        guest_lost=migration.is_guest_lost,
        dirty_limit=progress.verdict.capabilities.dirty_limit,
        rounds=tuple(_round(round_, start_ns) for round_ in migration.rounds),
        phases=tuple(_phase(phase, migration) for phase in migration.phases),
        devices=tuple(_device(device) for device in migration.devices),
        stalls=tuple(_stall(stall, start_ns) for stall in migration.stalls),
        verdict=_verdict(migration, running=running),
    )


def stream_view(
    stream: Stream, *, is_up: bool = False, problem: str | None = None, remarks: Sequence[str] = ()
) -> StreamView:
    """Return the view of a stream."""
    counts = stream.counts
    return StreamView(
        name=stream.name,
        format=stream.format_name,
        clock=stream.clock_kind,
        lines=counts.lines,
        events=counts.events,
        noise=counts.noise,
        malformed=counts.malformed,
        surprises={str(kind): count for kind, count in sorted(counts.surprises.items())},
        is_up=is_up,
        problem=problem,
        last_event_time=None if stream.last_event_ns is None else moment_of(stream.last_event_ns),
        remarks=tuple(remarks),
    )


def _pause(pause: Pause, start_ns: int) -> PauseView:
    return PauseView(
        start_seconds=(pause.start_ns - start_ns) / 1e9, end_seconds=_after(pause.end_ns, start_ns), by=pause.by
    )


def _downtime_part(part: DowntimePart, start_ns: int) -> DowntimePartView:
    return DowntimePartView(
        name=part.name,
        device=part.device,
        start_seconds=(part.start_ns - start_ns) / 1e9,
        duration_seconds=(part.end_ns - part.start_ns) / 1e9,
    )


def _round(round_: Round, start_ns: int) -> RoundView:
    return _view(
        RoundView,
        (round_,),
        start_seconds=(round_.start_ns - start_ns) / 1e9,
        duration_seconds=None if round_.end_ns is None else (round_.end_ns - round_.start_ns) / 1e9,
    )


def _phase(phase: Phase, migration: Migration) -> PhaseView:
    # On a reconstructed clock only the iterate phase takes time.
    is_known = phase.end_ns is not None and (migration.timed or phase.name is PhaseName.ITERATE)
    return PhaseView(
        name=phase.name,
        start_seconds=(phase.start_ns - migration.identity.start_ns) / 1e9,
        duration_seconds=(phase.end_ns - phase.start_ns) / 1e9 if is_known and phase.end_ns is not None else None,
        is_open=phase.end_ns is None,
    )


def _device(device: Device) -> DeviceView:
    return _view(
        DeviceView,
        (device,),
        duration_seconds=seconds_of(device.duration_ns),
    )


def _stall(stall: Stall, start_ns: int) -> StallView:
    pending, required = stall.pending_bytes, stall.required_downtime_seconds
    return _view(
        StallView,
        (stall,),
        start_seconds=(stall.start_ns - start_ns) / 1e9,
        end_seconds=_after(stall.end_ns, start_ns),
        since_seconds=(stall.since_ns - start_ns) / 1e9,
        required_at_bytes_per_second=pending / required if pending and required else None,
    )


def _wait(wait: OpenWait | None, start_ns: int) -> WaitView | None:
    if wait is None:
        return None
    return WaitView(state=wait.state, reason=wait.reason, since_seconds=(wait.since_ns - start_ns) / 1e9)


def _verdict(migration: Migration, *, running: bool) -> VerdictView:
    verdict, identity = migration.progress.verdict, migration.identity
    advice = advice_for(identity, verdict, migration.progress.mode)
    is_over = migration.outcome_ns is not None and not running
    # A wait that is over needs no command.
    past_advice = advice if is_over and verdict.reason in ROUND_REASONS else ()
    return _view(
        VerdictView,
        (verdict,),
        stalled_since_seconds=_after(verdict.stalled_since_ns, identity.start_ns),
        advice=() if is_over else advice,
        past_advice=past_advice,
    )


def _bandwidth(migration: Migration) -> float | None:
    """Return the bandwidth used by the verdict; once the migration is over, that of the last window."""
    smoothed = migration.progress.verdict.bandwidth_bytes_per_second
    if migration.outcome_ns is not None or smoothed is None:
        return migration.progress.bandwidth_bytes_per_second
    return smoothed


def _view(view: type[View], records: Sequence[DataclassInstance], **given: object) -> View:
    """Make a view: fields that are not given are copied from records; of equal names, the last record's field."""
    values: dict[str, object] = {}
    for record in records:
        names, read = _shared(type(record), view)
        values.update(zip(names, read(record), strict=True))
    values.update(given)
    return view(**values)


@cache
def _shared(
    record: type[DataclassInstance], view: type[DataclassInstance]
) -> tuple[tuple[str, ...], Callable[[object], tuple[object, ...]]]:
    """Return the names that a record and a view have, and a function that reads them from a record."""
    names = tuple(field.name for field in fields(view) if hasattr(record, field.name))
    return names, attrgetter(*names)


def _after(at_ns: int | None, start_ns: int) -> float | None:
    return None if at_ns is None else (at_ns - start_ns) / 1e9
