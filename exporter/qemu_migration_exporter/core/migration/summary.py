"""The numbers of a migration at one moment, computed from its machine when they are read.

The functions store no result. Metrics, reports and the API ask for `progress` or `migration`, and both are computed
from the machine at that moment, so that a number shown is a number of now. A downtime that begins outside the stream
is None.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from qemu_migration_exporter.core.measures.downtime import divide
from qemu_migration_exporter.core.measures.switchover import LOW_PENDING_RANK
from qemu_migration_exporter.core.migration.machine import Machine
from qemu_migration_exporter.core.model import (
    DowntimePart,
    Kind,
    Migration,
    Mode,
    OpenWait,
    Pause,
    PauseCause,
    Phase,
    PhaseName,
    Progress,
    Result,
    Side,
    StallReason,
)

#: Since 11.1 setup-time counts from the beginning of the migration thread.
_SINCE_THREAD_SETS_UP: Final = (11, 1)
#: Since 11.1 dirty-sync-count counts iterations.
_SINCE_ITERATIONS_COUNT: Final = (11, 1)
#: A stream of this release or a later one may count iterations, unless an event shows the exact release.
_FIRST_MODERN: Final = (10, 0)
_NOT_COMPLETED: Final = frozenset({Result.FAILED, Result.CANCELLED})
#: States in which memory is sent.
_UNDER_WAY: Final = frozenset({None, "none", "active", "postcopy-active"})
#: A smaller share of the bytes than this is not reported as missing.
_NOTABLE_SHARE: Final = 0.01
#: A connection within a host or a data centre takes less time.
_QUICK_CONNECTION_NS: Final = 50_000_000


def progress(machine: Machine) -> Progress:
    """Return the present numbers."""
    precopy, outcome = machine.precopy, machine.outcome
    paused_since_ns, pause_cause = _present_pause(machine)
    requests_unknown = machine.mode is Mode.POSTCOPY and machine.postcopy_requests == 0
    return Progress(
        phase=PhaseName.CLEANUP if outcome.at_ns is not None else machine.phase,
        state=outcome.state,
        mode=machine.mode,
        round=precopy.round,
        pending_bytes=precopy.pending,
        threshold_bytes=precopy.threshold,
        ram_bytes=precopy.ram,
        bandwidth_bytes_per_second=precopy.bandwidth,
        dirty_bytes_per_second=precopy.dirty_bytes_per_second,
        downtime_limit_seconds=precopy.downtime_limit_seconds,
        throttle_ratio=machine.throttle_ratio,
        transferred_bytes=precopy.transferred,
        bitmap_syncs=precopy.syncs,
        iterations=precopy.slices,
        throttles=machine.throttles,
        postcopy_requests=None if requests_unknown else machine.postcopy_requests,
        last_progress_ns=machine.detector.progress_ns,
        verdict=machine.detector.verdict(
            machine.last_ns,
            converged=machine.mode is Mode.PRECOPY and outcome.completing and machine.side is not Side.DESTINATION,
            is_over=outcome.at_ns is not None,
            numbers=precopy,
            parameters=machine.parameters,
        ),
        paused_since_ns=paused_since_ns,
        pause_cause=pause_cause,
    )


def _present_pause(machine: Machine) -> tuple[int | None, PauseCause | None]:
    """Return the beginning and the cause of the pause the guest is in."""
    if machine.side is Side.DESTINATION or machine.outcome.at_ns is not None:
        return None, None
    if machine.phase is PhaseName.POSTCOPY and machine.guest.by is PauseCause.DOWNTIME:
        return None, None  # it runs on the destination
    if machine.guest.by is not None:
        return machine.guest.since_ns, machine.guest.by
    if machine.phase is PhaseName.COMPLETE_PRECOPY and machine.switchover.start_ns is not None:
        return machine.switchover.start_ns, PauseCause.DOWNTIME
    return None, None


def migration(machine: Machine) -> Migration:
    """Return the summary of the migration; before the end, the summary so far."""
    outcome = machine.outcome
    result, inferred = outcome.result()
    downtime = _downtime(machine)
    pauses = _pauses(machine, downtime)
    return Migration(
        identity=machine.identity,
        result=result,
        result_inferred=inferred,
        partial=machine.partial or outcome.at_ns is None,
        error=outcome.error(),
        outcome_ns=outcome.at_ns,
        end_ns=max(machine.end_ns, outcome.at_ns or 0),
        setup_ns=_setup_ns(machine),
        downtime_ns=None if downtime is None else downtime[1] - downtime[0],
        downtime_start_ns=None if downtime is None else downtime[0],
        progress=progress(machine),
        rounds=tuple(machine.precopy.all_rounds()),
        phases=(*machine.phases, *_open_phase(machine)),
        devices=tuple(machine.switchover.devices),
        stalls=tuple(machine.detector.stalls),
        downtime_parts=_downtime_parts(machine, downtime),
        pauses=pauses,
        blackout_ns=_blackout(machine, pauses, downtime),
        dirty_sync_count=_dirty_sync_count(machine),
        transferred_is_partial=_misses_last_window(machine),
        open_wait=_open_wait(machine) if outcome.at_ns is None else None,
        is_guest_lost=_is_guest_lost(machine, result),
        downtime_is_partial=downtime is not None and machine.switchover.rank > LOW_PENDING_RANK,
    )


def _is_guest_lost(machine: Machine, result: Result) -> bool:
    """Return whether post-copy ended while the guest's memory was divided between both hosts.

    A source has such a guest in the phase post-copy, unless it runs here again because the switch failed. A
    destination has it once its run state is `running`.
    """
    if machine.mode is not Mode.POSTCOPY or result not in _NOT_COMPLETED or machine.outcome.is_all_sent:
        return False
    is_here = machine.guest.is_running
    if machine.side is Side.DESTINATION:
        return is_here
    return not is_here and any(phase.name is PhaseName.POSTCOPY for phase in machine.phases)


def _downtime(machine: Machine) -> tuple[int, int] | None:
    """Return the start and end of QEMU's own downtime, None unless both are known."""
    start_ns, end_ns = machine.switchover.start_ns, machine.switchover.end_ns
    is_by_outcome = machine.mode is Mode.PRECOPY and not machine.outcome.is_late
    if is_by_outcome and end_ns is None and machine.kind is not Kind.SNAPSHOT:
        end_ns = machine.outcome.at_ns  # the guest of a background snapshot runs again before the end
    if not machine.is_timed or start_ns is None or end_ns is None or start_ns > end_ns:
        return None
    return start_ns, end_ns


def _downtime_parts(machine: Machine, downtime: tuple[int, int] | None) -> tuple[DowntimePart, ...]:
    if machine.side is Side.DESTINATION:
        return tuple(machine.loads)
    return () if downtime is None else divide(machine.switchover, *downtime)


def _setup_ns(machine: Machine) -> int | None:
    """Return the length of setup: up to 11.0 QEMU begins it with the header, since then with the migration thread.

    The thread begins when the channel is set up, and waits there for its lock and sets up multifd's channels.
    """
    if machine.setup_ns is None or not machine.is_timed:
        return None
    return machine.setup_ns + _setup_begins_earlier_by_ns(machine)


def _setup_begins_earlier_by_ns(machine: Machine) -> int:
    header_ns = next((phase.start_ns for phase in machine.phases if phase.name is PhaseName.SETUP), None)
    if header_ns is None or not machine.header_seen or machine.releases[0] < _SINCE_THREAD_SETS_UP:
        return 0
    connected_ns = machine.connected_ns
    if connected_ns is None and machine.outgoing_ns is not None:
        is_quick = machine.outgoing_ns - machine.start_ns < _QUICK_CONNECTION_NS
        connected_ns = machine.start_ns if is_quick else machine.outgoing_ns
    return 0 if connected_ns is None or machine.kind is Kind.CPR else max(0, header_ns - connected_ns)


def _pauses(machine: Machine, downtime: tuple[int, int] | None) -> tuple[Pause, ...]:
    """Return the pauses of the guest up to the outcome; the downtime is one of them, by its own marks."""
    if not machine.is_timed or machine.side is Side.DESTINATION:
        return ()
    guest, outcome_ns = machine.guest, machine.outcome.at_ns
    pauses = list(guest.pauses)
    if guest.by is not None:
        pauses.append(Pause(start_ns=guest.since_ns, end_ns=None, by=guest.by))
    start_ns, end_ns = downtime or (machine.switchover.start_ns, None)
    is_stopped = outcome_ns is None and machine.phase is not PhaseName.POSTCOPY
    if start_ns is not None and (downtime is not None or is_stopped):
        pauses = [pause for pause in pauses if pause.by is not PauseCause.DOWNTIME and pause.start_ns < start_ns]
        pauses = [_cut(pause, start_ns) for pause in pauses]
        pauses.append(Pause(start_ns=start_ns, end_ns=end_ns, by=PauseCause.DOWNTIME))
    elif machine.mode is Mode.POSTCOPY:
        pauses = [pause for pause in pauses if pause.by is not PauseCause.DOWNTIME]
    if outcome_ns is None:
        return tuple(pauses)
    return tuple(_cut(pause, outcome_ns) for pause in pauses if pause.start_ns < outcome_ns)


def _cut(pause: Pause, at_ns: int) -> Pause:
    return replace(pause, end_ns=at_ns if pause.end_ns is None else min(pause.end_ns, at_ns))


def _blackout(machine: Machine, pauses: tuple[Pause, ...], downtime: tuple[int, int] | None) -> int | None:
    """Return the sum of the pauses, None if neither the run state nor the downtime is in the stream."""
    if not machine.is_timed or machine.side is Side.DESTINATION or not (machine.guest.is_known or downtime or pauses):
        return None
    if machine.kind is Kind.SAVE and not machine.guest.is_known:
        return None  # the guest of a save is paused before
    if machine.switchover.start_ns is None and (machine.mode is Mode.POSTCOPY or _has_completed(machine, pauses)):
        return None  # the guest was stopped for the switchover too, before the recording or without a mark
    if machine.guest.was_stopped or (machine.switchover.start_ns is None and machine.switchover.stopped_ns is not None):
        return None  # since when is not in the stream
    if downtime is None and machine.phase is PhaseName.POSTCOPY:
        return None  # and runs again, but since when is not in the stream
    now_ns = machine.outcome.at_ns or machine.last_ns
    return machine.guest.more_ns + sum((pause.end_ns or now_ns) - pause.start_ns for pause in pauses)


def _has_completed(machine: Machine, pauses: tuple[Pause, ...]) -> bool:
    return not pauses and machine.outcome.result()[0] is Result.COMPLETED


def _dirty_sync_count(machine: Machine) -> int | None:
    """Return QEMU's own number of syncs, None if the release is not known well enough.

    Since 11.1 it counts iterations, from 1, and no sync with the guest stopped.
    """
    since, until = machine.releases
    if machine.precopy.joined or machine.side is Side.DESTINATION:
        return None
    if since >= _SINCE_ITERATIONS_COUNT:
        return 1 + machine.precopy.round_syncs
    return machine.precopy.syncs if until < _SINCE_ITERATIONS_COUNT or since < _FIRST_MODERN else None


def _misses_last_window(machine: Machine) -> bool:
    """Return whether the bytes since the last bandwidth window matter, which QEMU does not print under 100 ms.

    They are the bytes by which pending fell since. What is sent with the guest stopped is not among QEMU's
    precopy-bytes; a post-copy has no such end.
    """
    precopy = machine.precopy
    if machine.outcome.result()[0] is not Result.COMPLETED or precopy.window_ns is None:
        return False
    missing = (precopy.unwindowed or 0) + (0 if machine.mode is Mode.PRECOPY else precopy.pending or 0)
    return missing > _NOTABLE_SHARE * (precopy.transferred or 0)


def _open_wait(machine: Machine) -> OpenWait | None:
    """Return the wait in which the stream ended; None if the migration was under way."""
    wait = machine.detector.waits.present if machine.side is Side.SOURCE else None
    if wait is not None and wait.reason is not StallReason.NO_THROUGHPUT:
        return OpenWait(state=machine.outcome.state, reason=wait.reason, since_ns=wait.since_ns)
    if machine.outcome.state in _UNDER_WAY:
        return None
    return OpenWait(state=machine.outcome.state, reason=None, since_ns=machine.state_since_ns)


def _open_phase(machine: Machine) -> list[Phase]:
    """Return the phase that has not ended; cleanup is none as long as nothing was cleaned up."""
    if machine.phase is None or machine.phase is PhaseName.CLEANUP:
        return []
    return [Phase(name=machine.phase, start_ns=machine.phase_ns, end_ns=None)]
