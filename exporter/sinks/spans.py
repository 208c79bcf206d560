"""Migrations as OpenTelemetry spans with the times of the probe, each sent when it ends.

A trace is one migration: `migrate` with `migrate.start`, `setup`, an `iterate` a round, `complete_precopy`,
`postcopy` and `cleanup` under it. Ids follow from the recording, so the same one gives the same trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

import exporter
from exporter.core import ids
from exporter.core.changes import (
    Change,
    DeviceFinished,
    Ended,
    PhaseEnded,
    PreSwitchoverEnded,
    Resumed,
    RoundEnded,
    StallCleared,
    Stalled,
    Started,
    SyncFinished,
)
from exporter.core.model import ClockKind, Device, Identity, Migration, PhaseName, Result, Round, Stall, Sync
from exporter.sinks import attributes as names
from exporter.sinks.delivery import Delivery

SERVICE_NAME: Final = "qemu-migration"

Value = str | bool | int | float
Attributes = Mapping[str, Value | None]


class _GivenIds(IdGenerator):
    """Give the SDK the ids that were decided for the next span."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return False


class SpansSink:
    """Make spans of changes and hand each to a processor when it has ended.

    Args:
        deliveries: Take the finished spans; they decide whether to wait or to drop.
        resource: Who speaks, beside the service's name and version and what OTEL_RESOURCE_ATTRIBUTES says. Nothing
            of this machine is added: a replay's machine has nothing to do with the migration.
    """

    def __init__(self, deliveries: Sequence[Delivery], resource: Mapping[str, str] | None = None) -> None:
        self._deliveries = deliveries
        self._ids = _GivenIds()
        ours = {"service.name": SERVICE_NAME, "service.version": exporter.__version__, **(resource or {})}
        self._provider = TracerProvider(
            resource=Resource(ours).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attribute_length=4_096),
        )
        for delivery in deliveries:
            self._provider.add_span_processor(delivery)
        self._tracer: Tracer = self._provider.get_tracer("qemu-migration-exporter", exporter.__version__)
        self._traces: dict[str, Identity] = {}

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes, see `exporter.sinks.Sink`."""
        for change in changes:
            match change:
                case Started(identity=identity) if self._is_sampled(identity.trace_id):
                    self._traces[identity.trace_id] = identity
                    self._start(identity)
                case Resumed(identity=identity) if self._is_sampled(identity.trace_id):
                    self._traces[identity.trace_id] = identity
                case Ended(migration=migration):
                    if self._traces.pop(migration.identity.trace_id, None) is not None:
                        self._end(migration)
                case PhaseEnded() | RoundEnded() | SyncFinished() | DeviceFinished() | PreSwitchoverEnded():
                    known = self._traces.get(change.trace_id)
                    if known is not None:
                        self._part(known, change)
                case Stalled(stall=stall):
                    self._stall_marker(change.trace_id, "stalled", stall, stall.start_ns)
                case StallCleared(stall=stall):
                    self._stall_marker(change.trace_id, "stall_cleared", stall, stall.end_ns or stall.start_ns)
                case _:
                    pass

    def interrupt(self, at_ns: int) -> None:
        """Mark every open trace: this program stops and will go on with them, with the same ids, when it runs again."""
        for identity in self._traces.values():
            span_id = ids.span_id(identity.trace_id, "interrupted", at_ns)
            root = ids.root_span(identity.trace_id)
            self._span(identity, "interrupted", span_id, root, start_ns=at_ns, end_ns=at_ns, attributes={})

    def counts(self) -> dict[tuple[str, str], int]:
        """Return spans by (outcome, reason), every pair there can be."""
        counts: dict[tuple[str, str], int] = {}
        for delivery in self._deliveries:
            for fate, spans in delivery.counts().items():
                counts[fate] = counts.get(fate, 0) + spans
        return counts

    def close(self) -> None:
        """Let the deliveries finish."""
        self._provider.shutdown()

    def _is_sampled(self, trace_id: str) -> bool:
        """Ask the sampler (OTEL_TRACES_SAMPLER) once a trace: its root, which it would decide by, is made last."""
        decision = self._provider.sampler.should_sample(None, int(trace_id, 16), "migrate").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def _part(
        self, identity: Identity, change: PhaseEnded | RoundEnded | SyncFinished | DeviceFinished | PreSwitchoverEnded
    ) -> None:
        match change:
            case PhaseEnded(phase=phase):
                # The iterate phase is shown by its rounds.
                if phase.name is not PhaseName.ITERATE and phase.end_ns is not None:
                    self._phase(identity, phase.name, phase.start_ns, phase.end_ns)
            case RoundEnded(round=each):
                # The round that a stream ended in closes with the migration, whose end is known then.
                if each.end_ns is not None:
                    self._round(identity, each, each.end_ns)
            case SyncFinished(sync=sync):
                self._sync(identity, sync)
            case DeviceFinished(device=device):
                self._device(identity, device)
            case PreSwitchoverEnded(start_ns=start_ns, end_ns=end_ns):
                parent = ids.phase_span(identity.trace_id, PhaseName.COMPLETE_PRECOPY)
                span_id = ids.span_id(identity.trace_id, "pre_switchover")
                self._span(identity, "pre_switchover", span_id, parent, start_ns=start_ns, end_ns=end_ns, attributes={})

    def _start(self, identity: Identity) -> None:
        span_id = ids.span_id(identity.trace_id, "migrate.start")
        root = ids.root_span(identity.trace_id)
        self._span(
            identity,
            "migrate.start",
            span_id,
            root,
            start_ns=identity.start_ns,
            end_ns=identity.start_ns,
            attributes=_described(identity),
        )

    def _phase(self, identity: Identity, name: PhaseName, start_ns: int, end_ns: int, **more: Value) -> None:
        span_id = ids.phase_span(identity.trace_id, name)
        root = ids.root_span(identity.trace_id)
        self._span(identity, name, span_id, root, start_ns=start_ns, end_ns=end_ns, attributes=more)

    def _round(self, identity: Identity, each: Round, end_ns: int) -> None:
        self._span(
            identity,
            "iterate",
            ids.round_span(identity.trace_id, each.number),
            ids.root_span(identity.trace_id),
            start_ns=each.start_ns,
            end_ns=end_ns,
            attributes={
                names.ROUND: each.number,
                names.ITERATIONS: each.iterations,
                names.TRANSFERRED_BYTES: each.transferred_bytes,
                names.PENDING_AT_START_BYTES: each.pending_at_start_bytes,
                names.PENDING_AT_END_BYTES: each.pending_at_end_bytes,
                names.DIRTIED_BYTES: each.dirtied_bytes,
                names.DIRTY_BYTES_PER_SECOND: each.dirty_bytes_per_second,
                names.BANDWIDTH_BYTES_PER_SECOND: each.bandwidth_bytes_per_second,
                names.INCOMPLETE: True if each.end_ns is None else None,
            },
        )

    def _sync(self, identity: Identity, sync: Sync) -> None:
        trace_id = identity.trace_id
        if sync.round is not None:
            parent = ids.round_span(trace_id, sync.round)
        elif sync.phase in {PhaseName.SETUP, PhaseName.COMPLETE_PRECOPY, PhaseName.POSTCOPY}:
            parent = ids.phase_span(trace_id, sync.phase)
        else:
            parent = ids.root_span(trace_id)
        self._span(
            identity,
            "bitmap_sync",
            ids.sync_span(trace_id, sync.number),
            parent,
            start_ns=sync.start_ns,
            end_ns=sync.end_ns or sync.start_ns,
            attributes={
                names.BITMAP_SYNC: sync.number,
                names.DIRTIED_BYTES: sync.dirtied_bytes,
                names.INCOMPLETE: True if sync.end_ns is None else None,
                names.STACKTRACE: "\n".join(sync.stacktrace) or None,
            },
        )

    def _device(self, identity: Identity, device: Device) -> None:
        self._span(
            identity,
            "save" if device.vmsd_name is None else f"save {device.vmsd_name}",
            ids.span_id(identity.trace_id, "save", device.number),
            ids.phase_span(identity.trace_id, PhaseName.COMPLETE_PRECOPY),
            start_ns=device.start_ns,
            end_ns=device.start_ns + (device.duration_ns or 0),
            attributes={names.DEVICE_IDSTR: device.name, names.DEVICE_INSTANCE: device.instance},
        )

    def _stall_marker(self, trace_id: str, name: str, stall: Stall, at_ns: int) -> None:
        """Mark when a stall turned out or was over, with what it was judged by, while the migration still runs."""
        identity = self._traces.get(trace_id)
        if identity is None:
            return
        self._span(
            identity,
            name,
            ids.span_id(trace_id, name, stall.number),
            ids.root_span(trace_id),
            start_ns=at_ns,
            end_ns=at_ns,
            attributes={
                names.STALL_REASON: stall.reason,
                names.STALL_DURATION: _seconds(at_ns - stall.since_ns),
                names.ROUND: stall.round,
                names.PENDING_BYTES: stall.pending_bytes,
                names.BEST_PENDING_BYTES: stall.best_pending_bytes,
                names.BEST_ROUND: stall.best_round,
                names.DIRTY_BYTES_PER_SECOND: stall.dirty_bytes_per_second,
                names.BANDWIDTH_BYTES_PER_SECOND: stall.bandwidth_bytes_per_second,
                names.DOWNTIME_LIMIT: stall.downtime_limit_seconds,
                names.REQUIRED_DOWNTIME: stall.required_downtime_seconds,
                names.REQUIRED_BANDWIDTH: stall.required_bandwidth_bytes_per_second,
                names.ADVICE: "\n".join(map(str, stall.advice)) or None if stall.end_ns is None else None,
            },
        )

    def _end(self, migration: Migration) -> None:
        identity, progress = migration.identity, migration.progress
        # What the stream's end cut off ends there, and says so.
        for phase in migration.phases:
            if phase.end_ns is None and phase.name is not PhaseName.ITERATE:
                self._phase(identity, phase.name, phase.start_ns, migration.end_ns, **{names.INCOMPLETE: True})
        for each in migration.rounds:
            if each.end_ns is None:
                self._round(identity, each, migration.end_ns)
        failed = migration.result is Result.FAILED
        self._span(
            identity,
            "migrate",
            ids.root_span(identity.trace_id),
            None,
            start_ns=identity.start_ns,
            end_ns=migration.end_ns,
            attributes={
                **_described(identity),
                names.RESULT: migration.result,
                names.RESULT_INFERRED: migration.result_inferred,
                names.PARTIAL: migration.partial,
                names.MODE: progress.mode,
                names.DURATION: _seconds(migration.duration_ns),
                names.SETUP: _seconds(migration.setup_ns),
                names.DOWNTIME: _seconds(migration.downtime_ns),
                names.DOWNTIME_LIMIT: progress.downtime_limit_seconds,
                names.ROUNDS: len(migration.rounds),
                names.BITMAP_SYNCS: progress.bitmap_syncs,
                names.ITERATIONS: progress.iterations,
                names.TRANSFERRED_BYTES: progress.transferred_bytes,
                names.RAM_BYTES: progress.ram_bytes,
                names.THRESHOLD_BYTES: progress.threshold_bytes,
                names.BEST_PENDING_BYTES: progress.verdict.best_pending_bytes,
                names.BEST_ROUND: progress.verdict.best_round,
                names.REQUIRED_DOWNTIME: progress.verdict.required_downtime_seconds,
                names.STALLS: len(migration.stalls),
                names.THROTTLES: progress.throttles,
                names.POSTCOPY_REQUESTS: progress.postcopy_requests,
                names.STACKTRACE: "\n".join(identity.stacktrace) or None,
                names.ERROR_TYPE: error_type(migration) if failed else None,
            },
            status=Status(StatusCode.ERROR, migration.error) if failed else None,
        )

    def _span(
        self,
        identity: Identity,
        name: str,
        span_id: str,
        parent: str | None,
        *,
        start_ns: int,
        end_ns: int,
        attributes: Attributes,
        status: Status | None = None,
    ) -> None:
        """Begin and end a span at once, with the times of the probe."""
        trace_id = int(identity.trace_id, 16)
        self._ids.trace_id, self._ids.span_id = trace_id, int(span_id, 16)
        context = None
        if parent is not None:
            above = SpanContext(trace_id, int(parent, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
            context = set_span_in_context(NonRecordingSpan(above))
        given = {key: value for key, value in attributes.items() if value is not None}
        if identity.clock is not ClockKind.PROBE:
            given[names.CLOCK] = identity.clock.value
        span = self._tracer.start_span(name, context=context, start_time=start_ns, attributes=_plain(given))
        if status is not None:
            span.set_status(status)
        span.end(end_time=max(start_ns, end_ns))


def error_type(migration: Migration) -> str:
    """Class a failure by where it happened: a bounded set, as error.type has to be."""
    names_of_phases = [phase.name for phase in migration.phases if phase.name is not PhaseName.CLEANUP]
    return f"{names_of_phases[-1]}_failed" if names_of_phases else "failed"


def _described(identity: Identity) -> dict[str, Value | None]:
    return {
        names.VM_NAME: identity.vm,
        names.VM_UUID: identity.uuid,
        names.SIDE: identity.side,
    }


def _plain(attributes: Mapping[str, Value]) -> dict[str, Value]:
    """Make plain strings of enumerations: the encoder takes nothing else."""
    return {key: str(value) if isinstance(value, str) else value for key, value in attributes.items()}


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else duration_ns / 1e9
