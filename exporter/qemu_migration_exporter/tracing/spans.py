"""Span sink: it makes spans from the changes of a migration.

A trace is one migration. The root span `migrate` comes last and its children come when they end, so the trace of a
migration that is stuck for an hour shows the rounds during that hour:

    migrate
    ├── migrate.start                     zero length, at once
    ├── setup, complete_precopy, postcopy, cleanup
    ├── iterate                           one per round; beyond the limit iterate.batch, one per minute
    ├── stalled, stall_cleared            zero length, at once; `stalled` is an error, so that the trace is marked
    ├── paused                            the guest did not run, and not because of the downtime
    └── exporter.stopped                  zero length; the next run continues the trace

Ids follow from the recording, so the same recording makes the same trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry.trace import Status, StatusCode

from qemu_migration_exporter.core.changes import (
    Change,
    DeviceFinished,
    DowntimePartEnded,
    MigrationEnded,
    PhaseEnded,
    PreSwitchoverEnded,
    Resumed,
    RoundEnded,
    StallCleared,
    Stalled,
    Started,
    Surprised,
    SyncFinished,
)
from qemu_migration_exporter.core.model import Identity, Migration, PauseCause, Phase, PhaseName, Result, Stall, Sync
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.tracing import attribute_table as names
from qemu_migration_exporter.tracing.emitter import Emitter, Reference
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, total
from qemu_migration_exporter.tracing.export.processor import CountingProcessor
from qemu_migration_exporter.tracing.links import CounterpartIndex
from qemu_migration_exporter.tracing.round_spans import RoundSpans
from qemu_migration_exporter.tracing.span_attributes import (
    Attributes,
    identity_attributes,
    migration_attributes,
    stall_attributes,
)
from qemu_migration_exporter.tracing.switchover import SwitchoverSpans
from qemu_migration_exporter.tracing.trace_limits import TraceLimits

#: Pauses of one migration that have a span of their own.
_MAX_PAUSES = 256


@dataclass(slots=True)
class _Trace:
    """A running migration.

    Attributes:
        rounds: Rounds that are not sent.
        spans: Limited children so far.
        omitted: Children beyond the limit.
        has_phases: A phase has ended.
    """

    identity: Identity
    rounds: RoundSpans
    spans: int = 0
    omitted: int = 0
    has_phases: bool = False


class SpansSink:
    """Sink that makes spans of changes.

    Args:
        processors: Receivers of the ended spans.
        resource: Attributes of the resource, see `qemu_migration_exporter.tracing.emitter.Emitter`.
        limits: Maximum size of a trace.
        vm_services: True if `migrate.start` belongs to a service with the virtual machine's name. Jaeger's lists show
            services and no attributes.
    """

    def __init__(
        self,
        processors: Sequence[CountingProcessor],
        resource: Mapping[str, str] | None = None,
        limits: TraceLimits | None = None,
        *,
        vm_services: bool = False,
    ) -> None:
        self._processors = processors
        self._emitter = Emitter(processors, resource or {})
        self._vm_services = vm_services
        self._limits = limits or TraceLimits()
        self._switchover = SwitchoverSpans(self._emitter, self._limits)
        self._traces: dict[str, _Trace] = {}
        self._counterparts = CounterpartIndex()

    def apply(self, changes: Iterable[Change]) -> None:
        """Apply changes, see `qemu_migration_exporter.tracing.Sink`."""
        for change in changes:
            match change:
                case Started(identity=identity):
                    self._start(identity)
                case Resumed(identity=identity, progress=progress, rounds=rounds):
                    trace = self._open(identity)
                    if trace is not None:
                        trace.has_phases = progress.phase not in {None, PhaseName.SETUP}
                        trace.rounds.resume(rounds, is_last=progress.phase in {None, PhaseName.CLEANUP})
                case Surprised():
                    pass
                case MigrationEnded(migration=migration):
                    trace = self._traces.pop(change.trace_id, None)
                    if trace is not None:
                        self._end(trace, migration)
                case _:
                    trace = self._traces.get(change.trace_id)
                    if trace is not None:
                        self._apply_to(trace, change)

    def tick(self, now_ns: int) -> None:
        """Send rounds that are complete; called every second."""
        for trace in self._traces.values():
            trace.rounds.tick(now_ns)

    def interrupt(self, at_ns: int) -> None:
        """Mark every open trace: this run stops, and the next continues the traces with the same ids."""
        for trace in self._traces.values():
            trace.rounds.interrupt()
            self._mark(trace, "exporter.stopped", at_ns, at_ns)

    def counts(self) -> SpanCounts:
        """Return the number of spans by outcome, every outcome included."""
        return total(processor.counts() for processor in self._processors)

    def close(self) -> None:
        """Shut the processors down."""
        self._emitter.close()

    def _apply_to(self, trace: _Trace, change: Change) -> None:
        match change:
            case PhaseEnded(phase=phase):
                trace.has_phases = True
                self._phase_ended(trace, phase)
            case RoundEnded(round=round_):
                # A round cut off by the end of its stream ends with the migration.
                if round_.end_ns is not None:
                    trace.rounds.add(round_)
            case SyncFinished(sync=sync):
                self._sync(trace, sync)
            case Stalled(stall=stall):
                trace.rounds.switchover_seen()
                status = Status(StatusCode.ERROR, f"stalled: {stall.reason}")
                self._stall(trace, "stalled", stall, stall.start_ns, status)
            case StallCleared(stall=stall):
                self._stall(trace, "stall_cleared", stall, stall.end_ns or stall.start_ns)
            case DeviceFinished(device=device):
                if device.number <= self._limits.max_devices and self._has_room(trace):
                    self._switchover.device(trace.identity, device)
            case DowntimePartEnded(part=part):
                trace.rounds.switchover_seen()
                if trace.has_phases or trace.identity.partial:  # else it is outside of the switchover, see `end`
                    self._switchover.part(trace.identity, part)
            case PreSwitchoverEnded(start_ns=start_ns, end_ns=end_ns):
                trace.rounds.switchover_seen()
                self._switchover.pre_switchover(trace.identity, start_ns, end_ns)
            case _:
                pass

    # The beginning

    def _open(self, identity: Identity) -> _Trace | None:
        if not self._emitter.is_sampled(identity.trace_id):
            return None
        self._counterparts.add(identity)
        trace = _Trace(identity, RoundSpans(self._emitter, self._limits, identity))
        self._traces[identity.trace_id] = trace
        return trace

    def _start(self, identity: Identity) -> None:
        if self._open(identity) is not None:
            # Without links: Jaeger lists a trace under its first span that refers to no other.
            span_id, times = trace_ids.span_id(identity.trace_id, "migrate.start"), (identity.start_ns,) * 2
            service = identity.vm if self._vm_services and identity.vm else None
            self._emit(identity, "migrate.start", span_id, times, identity_attributes(identity), service=service)

    # Children of the root

    def _phase_ended(self, trace: _Trace, phase: Phase) -> None:
        # The rounds are the spans of the iterate phase.
        if phase.name is PhaseName.ITERATE:
            trace.rounds.iterate_ended()
        elif phase.end_ns is not None:
            if phase.name is not PhaseName.CLEANUP:
                trace.rounds.send_newest()
            self._phase(trace.identity, phase.name, (phase.start_ns, phase.end_ns), {})

    def _phase(self, identity: Identity, name: PhaseName, times: tuple[int, int], attributes: Attributes) -> None:
        self._emit(identity, name, trace_ids.phase_span(identity.trace_id, name), times, attributes)

    def _stall(self, trace: _Trace, name: str, stall: Stall, at_ns: int, status: Status | None = None) -> None:
        if self._has_room(trace):
            span_id = trace_ids.span_id(trace.identity.trace_id, name, stall.number)
            evidence = stall_attributes(trace.identity, stall, at_ns)
            self._emit(trace.identity, name, span_id, (at_ns, at_ns), evidence, status=status)

    def _mark(self, trace: _Trace, name: str, key: int, at_ns: int) -> None:
        """Send a span without length; `key` distinguishes it from others of its name."""
        if self._has_room(trace):
            span_id = trace_ids.span_id(trace.identity.trace_id, name, key)
            self._emit(trace.identity, name, span_id, (at_ns, at_ns), {})

    def _sync(self, trace: _Trace, sync: Sync) -> None:
        trace_id = trace.identity.trace_id
        if sync.round is not None and sync.round > self._limits.max_rounds:
            return  # its round has no span of its own
        if not self._has_room(trace):
            return
        if sync.round is not None:
            parent = trace_ids.round_span(trace_id, sync.round)
        elif sync.phase in {PhaseName.SETUP, PhaseName.COMPLETE_PRECOPY, PhaseName.POSTCOPY}:
            parent = trace_ids.phase_span(trace_id, sync.phase)
        else:
            parent = trace_ids.root_span(trace_id)
        self._emitter.emit(
            trace.identity,
            "bitmap_sync",
            trace_ids.sync_span(trace_id, sync.number),
            parent,
            (sync.start_ns, sync.end_ns or sync.start_ns),
            attributes={
                names.BITMAP_SYNC: sync.number,
                names.attribute_of("dirtied_bytes"): sync.dirtied_bytes,
                names.INCOMPLETE: True if sync.end_ns is None else None,
                names.STACKTRACE: "\n".join(sync.stacktrace) or None,
            },
        )

    # The end

    def _end(self, trace: _Trace, migration: Migration) -> None:
        identity = migration.identity
        # Open spans end with the stream.
        for phase in migration.phases:
            if phase.end_ns is None and phase.name is not PhaseName.ITERATE:
                self._phase(identity, phase.name, (phase.start_ns, migration.end_ns), {names.INCOMPLETE: True})
        trace.rounds.end(migration)
        self._switchover.end(migration)
        self._pauses(migration)
        self._counterparts.end(migration)
        failed = migration.result is Result.FAILED
        self._emitter.emit(
            identity,
            "migrate",
            trace_ids.root_span(identity.trace_id),
            None,
            (identity.start_ns, migration.end_ns),
            attributes={
                **identity_attributes(identity),
                **migration_attributes(migration),
                names.OMITTED_SPANS: trace.omitted or None,
            },
            status=Status(StatusCode.ERROR, migration.error) if failed else None,
            links=self._links(identity, migration.end_ns),
        )

    def _pauses(self, migration: Migration) -> None:
        pauses = [pause for pause in migration.pauses if pause.by is not PauseCause.DOWNTIME]
        for number, pause in enumerate(pauses[:_MAX_PAUSES], 1):
            span_id = trace_ids.span_id(migration.identity.trace_id, "paused", number)
            times = pause.start_ns, migration.end_ns if pause.end_ns is None else pause.end_ns
            incomplete = True if pause.end_ns is None else None
            attributes: Attributes = {names.PAUSE_CAUSE: pause.by, names.INCOMPLETE: incomplete}
            self._emit(migration.identity, "paused", span_id, times, attributes)

    def _links(self, identity: Identity, end_ns: int) -> list[Reference]:
        before = [] if identity.retry_of is None else [Reference(identity.retry_of, "retry_of")]
        ends = self._counterparts.find(identity, end_ns)
        return before + [Reference(other.trace_id, str(other.side)) for other in ends]

    def _emit(
        self,
        identity: Identity,
        name: str,
        span_id: str,
        times: tuple[int, int],
        attributes: Attributes,
        *,
        status: Status | None = None,
        service: str | None = None,
    ) -> None:
        """Send a child of the root."""
        root = trace_ids.root_span(identity.trace_id)
        self._emitter.emit(identity, name, span_id, root, times, attributes=attributes, status=status, service=service)

    def _has_room(self, trace: _Trace) -> bool:
        """Count a limited child; return whether it is within the limit."""
        trace.spans += 1
        if trace.spans <= self._limits.max_spans:
            return True
        trace.omitted += 1
        return False
