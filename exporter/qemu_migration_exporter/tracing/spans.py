"""Migrations as OpenTelemetry spans with the times of the probe, each sent when it ends.

A trace is one migration: `migrate` with `migrate.start`, `setup`, an `iterate` a round, `complete_precopy`,
`postcopy` and `cleanup` under it. Ids follow from the recording, so the same one gives the same trace.
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
    SyncFinished,
)
from qemu_migration_exporter.core.model import Device, DowntimePart, Identity, Migration, PhaseName, Result, Round, Sync
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.tracing import attribute_table as names
from qemu_migration_exporter.tracing.emitter import Attributes, Emitter, Reference, Value
from qemu_migration_exporter.tracing.export.outcomes import SpanCounts, total
from qemu_migration_exporter.tracing.export.processor import CountingProcessor
from qemu_migration_exporter.tracing.links import CounterpartIndex
from qemu_migration_exporter.tracing.span_attributes import described, of_round, of_stall, summed_up
from qemu_migration_exporter.tracing.trace_limits import RoundBatch, TraceLimits, device_attributes, minute_of

_Part = (
    PhaseEnded
    | RoundEnded
    | SyncFinished
    | DeviceFinished
    | DowntimePartEnded
    | PreSwitchoverEnded
    | Stalled
    | StallCleared
)


@dataclass(slots=True)
class _Trace:
    """A migration that runs, and what of its trace waits.

    Attributes:
        rounds: Those that leave together when their minute is over.
        minute: The first one whose rounds have not left.
        spans: Children told one by one, as far as they are limited.
        omitted: Those over the limit.
    """

    identity: Identity
    rounds: RoundBatch | None = None
    minute: int = 0
    spans: int = 0
    omitted: int = 0


class SpansSink:
    """Make spans of changes and hand each to the deliveries when it has ended.

    Args:
        deliveries: Take the finished spans; they decide whether to wait or to drop.
        resource: Who speaks, see `qemu_migration_exporter.tracing.emitter.Emitter`.
        limits: How large a trace may become.
    """

    def __init__(
        self,
        deliveries: Sequence[CountingProcessor],
        resource: Mapping[str, str] | None = None,
        limits: TraceLimits | None = None,
    ) -> None:
        self._deliveries = deliveries
        self._emitter = Emitter(deliveries, resource or {})
        self._limits = limits or TraceLimits()
        self._traces: dict[str, _Trace] = {}
        self._peers = CounterpartIndex()

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changes, see `qemu_migration_exporter.tracing.Sink`."""
        for change in changes:
            match change:
                case Started(identity=identity) if self._emitter.is_sampled(identity.trace_id):
                    self._traces[identity.trace_id] = _Trace(identity)
                    self._start(identity)
                case Resumed(identity=identity, rounds=rounds) if self._emitter.is_sampled(identity.trace_id):
                    self._peers.began(identity)
                    self._traces[identity.trace_id] = _Trace(identity, self._waiting(identity, rounds))
                case MigrationEnded(migration=migration):
                    trace = self._traces.pop(migration.identity.trace_id, None)
                    if trace is not None:
                        self._end(trace, migration)
                case (
                    PhaseEnded()
                    | RoundEnded()
                    | SyncFinished()
                    | DeviceFinished()
                    | DowntimePartEnded()
                    | PreSwitchoverEnded()
                    | Stalled()
                    | StallCleared()
                ):
                    trace = self._traces.get(change.trace_id)
                    if trace is not None:
                        self._part(trace, change)
                case _:
                    pass

    def tick(self, now_ns: int) -> None:
        """Let time pass: send the batches that no round will be added to."""
        for trace in self._traces.values():
            if trace.rounds is not None and trace.rounds.is_over(trace.identity, now_ns):
                self._send_batch(trace)

    def interrupt(self, at_ns: int) -> None:
        """Mark every open trace: this program stops and will go on with them, with the same ids, when it runs again."""
        for trace in self._traces.values():
            self._marker(trace, "interrupted", at_ns, at_ns, {})

    def counts(self) -> SpanCounts:
        """Return the number of spans by outcome, every outcome included."""
        return total(delivery.counts() for delivery in self._deliveries)

    def close(self) -> None:
        """Let the deliveries finish."""
        self._emitter.close()

    def _part(self, trace: _Trace, change: _Part) -> None:
        match change:
            case PhaseEnded(phase=phase):
                # The iterate phase is shown by its rounds.
                if phase.name is not PhaseName.ITERATE and phase.end_ns is not None:
                    self._phase(trace.identity, phase.name, phase.start_ns, phase.end_ns)
            case RoundEnded(round=each):
                # The round that a stream ended in closes with the migration, whose end is known then.
                if each.end_ns is not None:
                    self._round_ended(trace, each, each.end_ns)
            case SyncFinished(sync=sync):
                self._sync(trace, sync)
            case DeviceFinished(device=device):
                self._device(trace, device)
            case DowntimePartEnded(part=part):
                self._downtime_part(trace.identity, part)
            case PreSwitchoverEnded(start_ns=start_ns, end_ns=end_ns):
                span_id = trace_ids.span_id(change.trace_id, "pre_switchover")
                self._in_switchover(trace.identity, "pre_switchover", span_id, (start_ns, end_ns))
            case Stalled(stall=stall):
                self._marker(
                    trace, "stalled", stall.number, stall.start_ns, of_stall(trace.identity, stall, stall.start_ns)
                )
            case StallCleared(stall=stall):
                at_ns = stall.end_ns or stall.start_ns
                self._marker(trace, "stall_cleared", stall.number, at_ns, of_stall(trace.identity, stall, at_ns))

    def _start(self, identity: Identity) -> None:
        self._peers.began(identity)
        self._emitter.emit(
            identity,
            "migrate.start",
            trace_ids.span_id(identity.trace_id, "migrate.start"),
            trace_ids.root_span(identity.trace_id),
            start_ns=identity.start_ns,
            end_ns=identity.start_ns,
            attributes=described(identity),
            links=self._links(identity, identity.start_ns),
        )

    def _marker(self, trace: _Trace, name: str, key: int, at_ns: int, attributes: Attributes) -> None:
        """Send a span without length under the root: something that was so at a moment, told at once.

        `key` tells it from others of its name.
        """
        if self._has_room(trace):
            trace_id = trace.identity.trace_id
            span_id, root = trace_ids.span_id(trace_id, name, key), trace_ids.root_span(trace_id)
            self._emitter.emit(trace.identity, name, span_id, root, start_ns=at_ns, end_ns=at_ns, attributes=attributes)

    def _phase(self, identity: Identity, name: PhaseName, start_ns: int, end_ns: int, **more: Value) -> None:
        span_id, root = trace_ids.phase_span(identity.trace_id, name), trace_ids.root_span(identity.trace_id)
        self._emitter.emit(identity, name, span_id, root, start_ns=start_ns, end_ns=end_ns, attributes=more)

    # Rounds and syncs

    def _round_ended(self, trace: _Trace, each: Round, end_ns: int) -> None:
        if each.number <= self._limits.max_rounds:
            self._round(trace.identity, each, end_ns)
            return
        # One that comes too late for its minute, from a source that lags, goes with the next.
        minute = max(minute_of(trace.identity, each), trace.minute)
        if trace.rounds is not None and trace.rounds.minute < minute:
            self._send_batch(trace)
        if trace.rounds is None:
            trace.rounds = RoundBatch(minute)
        trace.rounds.add(each)

    def _waiting(self, identity: Identity, rounds: Sequence[Round]) -> RoundBatch | None:
        """Make the batch again that waited when a snapshot was taken: the last minute's."""
        batched = [each for each in rounds if each.number > self._limits.max_rounds]
        if not batched:
            return None
        minute = minute_of(identity, batched[-1])
        return RoundBatch(minute, (each for each in batched if minute_of(identity, each) == minute))

    def _send_batch(self, trace: _Trace) -> None:
        batch, trace.rounds = trace.rounds, None
        if batch is not None:
            trace.minute = batch.minute + 1
            trace_id = trace.identity.trace_id
            self._emitter.emit(
                trace.identity,
                "iterate and more",
                trace_ids.span_id(trace_id, "iterate", "minute", batch.minute),
                trace_ids.root_span(trace_id),
                start_ns=batch.start_ns,
                end_ns=batch.end_ns,
                attributes=batch.attributes(),
            )

    def _round(self, identity: Identity, each: Round, end_ns: int) -> None:
        self._emitter.emit(
            identity,
            "iterate",
            trace_ids.round_span(identity.trace_id, each.number),
            trace_ids.root_span(identity.trace_id),
            start_ns=each.start_ns,
            end_ns=end_ns,
            attributes=of_round(each),
        )

    def _sync(self, trace: _Trace, sync: Sync) -> None:
        trace_id = trace.identity.trace_id
        if sync.round is not None and sync.round > self._limits.max_rounds:
            return  # its round is one of a batch
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
            start_ns=sync.start_ns,
            end_ns=sync.end_ns or sync.start_ns,
            attributes={
                names.BITMAP_SYNC: sync.number,
                names.DIRTIED_BYTES: sync.dirtied_bytes,
                names.INCOMPLETE: True if sync.end_ns is None else None,
                names.STACKTRACE: "\n".join(sync.stacktrace) or None,
            },
        )

    # The downtime

    def _device(self, trace: _Trace, device: Device) -> None:
        if device.number > self._limits.max_devices or not self._has_room(trace):
            return  # those over their limit are summed up at the end
        self._in_switchover(
            trace.identity,
            "save" if device.vmsd_name is None else f"save {device.vmsd_name}",
            trace_ids.span_id(trace.identity.trace_id, "save", device.number),
            (device.start_ns, _end_of(device)),
            {names.DEVICE_IDSTR: device.name, names.DEVICE_INSTANCE: device.instance},
        )

    def _more_devices(self, identity: Identity, devices: Sequence[Device]) -> None:
        if devices:
            span_id = trace_ids.span_id(identity.trace_id, "save", "more")
            times = devices[0].start_ns, max(map(_end_of, devices))
            self._in_switchover(identity, "save and more", span_id, times, device_attributes(devices))

    def _downtime_part(self, identity: Identity, part: DowntimePart) -> None:
        span_id = trace_ids.span_id(identity.trace_id, "downtime", part.name)
        self._in_switchover(identity, part.name, span_id, (part.start_ns, part.end_ns))

    def _in_switchover(
        self, identity: Identity, name: str, span_id: str, times: tuple[int, int], attributes: Attributes | None = None
    ) -> None:
        parent, (start_ns, end_ns) = trace_ids.phase_span(identity.trace_id, PhaseName.COMPLETE_PRECOPY), times
        self._emitter.emit(
            identity, name, span_id, parent, start_ns=start_ns, end_ns=end_ns, attributes=attributes or {}
        )

    # The end

    def _end(self, trace: _Trace, migration: Migration) -> None:
        identity = migration.identity
        self._send_batch(trace)
        # What the stream's end cut off ends there, and says so.
        for phase in migration.phases:
            if phase.end_ns is None and phase.name is not PhaseName.ITERATE:
                self._phase(identity, phase.name, phase.start_ns, migration.end_ns, **{names.INCOMPLETE: True})
        for each in migration.rounds:
            if each.end_ns is None:
                self._round(identity, each, migration.end_ns)
        self._more_devices(identity, migration.devices[self._limits.max_devices :])
        self._peers.ended(migration)
        self._emitter.emit(
            identity,
            "migrate",
            trace_ids.root_span(identity.trace_id),
            None,
            start_ns=identity.start_ns,
            end_ns=migration.end_ns,
            attributes={
                **described(identity),
                **summed_up(migration),
                names.OMITTED_SPANS: trace.omitted or None,
            },
            status=Status(StatusCode.ERROR, migration.error) if migration.result is Result.FAILED else None,
            links=self._links(identity, migration.end_ns),
        )

    def _links(self, identity: Identity, end_ns: int) -> list[Reference]:
        before = [] if identity.retry_of is None else [Reference(identity.retry_of, "retry_of")]
        return before + [Reference(each.trace_id, str(each.side)) for each in self._peers.of(identity, end_ns)]

    def _has_room(self, trace: _Trace) -> bool:
        """Count a child; say whether it is still one of those that are told."""
        trace.spans += 1
        if trace.spans <= self._limits.max_spans:
            return True
        trace.omitted += 1
        return False


def _end_of(device: Device) -> int:
    return device.start_ns + (device.duration_ns or 0)
