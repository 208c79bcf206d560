"""Spans through OpenTelemetry's SDK, with given ids and times and bounded values.

A span is made after its end: `emit` starts and ends it at once, with the probe's times. The SDK takes ids from an id
generator, so `_GivenIds` holds the ids of the next span.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    Status,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

import qemu_migration_exporter
from qemu_migration_exporter.core.model import ClockKind, Identity
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.tracing import attribute_table
from qemu_migration_exporter.tracing.span_attributes import Value

SERVICE_NAME: Final = "qemu-migration"

#: Maximum attribute length: fits a 60-frame backtrace, truncates garbage.
_MAX_TEXT: Final = 4_096
#: Maximum name length: a name may end with a device's name, which is untrusted.
_MAX_NAME: Final = 128
#: Services with a tracer that is kept; one is cheap to make again.
_MAX_SERVICES: Final = 1_000
#: Room for "… and N more" in a text that was cut.
_TAIL: Final = 24
#: OTLP's integers and times have 64 bits.
_MAX_INTEGER: Final = 2**63 - 1


class Reference(NamedTuple):
    """A link to another migration: its trace and its relation to this one."""

    trace_id: str
    relation: str


class _GivenIds(IdGenerator):
    """Ids of the next span."""

    trace_id = 0
    span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id

    def is_trace_id_random(self) -> bool:
        return False


class Emitter:
    """Source of ended spans for span processors.

    Args:
        processors: Receivers of the spans.
        resource: Attributes of the resource, in addition to the service's name and version and to OTEL_ variables.
            Attributes of this host are not added, because the host of a replay has no relation to the migration.
    """

    def __init__(self, processors: Sequence[SpanProcessor], resource: Mapping[str, str]) -> None:
        self._ids = _GivenIds()
        self._processors = processors
        self._limits = SpanLimits()  # from OTEL_ variables
        self._max_text = min(self._limits.max_span_attribute_length or _MAX_TEXT, _MAX_TEXT)
        ours = {"service.name": SERVICE_NAME, "service.version": qemu_migration_exporter.__version__, **resource}
        self._resource = Resource(ours).merge(OTELResourceDetector().detect())
        self._provider = self._provider_of(self._resource)
        self._tracer = _tracer_of(self._provider)
        #: By the service's name.
        self._other_tracers: dict[str, Tracer] = {}

    def is_sampled(self, trace_id: str) -> bool:
        """Return the sampler's decision (OTEL_TRACES_SAMPLER) on a trace; the root span comes too late for that."""
        decision = self._provider.sampler.should_sample(None, int(trace_id, 16), "migrate").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def emit(
        self,
        identity: Identity,
        name: str,
        span_id: str,
        parent: str | None,
        times: tuple[int, int],
        *,
        attributes: Mapping[str, Value | None],
        status: Status | None = None,
        links: Sequence[Reference] = (),
        event: str | None = None,
        service: str | None = None,
    ) -> None:
        """Make a span; attributes without a value are left out.

        The `times` are start and end. An `event` happens at the start. A `service` replaces the usual one.
        """
        start_ns, end_ns = times
        self._ids.trace_id, self._ids.span_id = int(identity.trace_id, 16), int(span_id, 16)
        context = None if parent is None else set_span_in_context(NonRecordingSpan(_context(identity.trace_id, parent)))
        given = {key: value for key, value in attributes.items() if value is not None}
        if identity.clock is not ClockKind.PROBE:
            given[attribute_table.CLOCK] = identity.clock.value
        tracer = self._tracer if service is None else self._tracer_for(truncate(service, _MAX_NAME))
        span = tracer.start_span(
            truncate(name, _MAX_NAME),
            context=context,
            start_time=_clamp_time(start_ns),
            attributes={key: self._encodable(value) for key, value in given.items()},
            links=[Link(_root(link.trace_id), {attribute_table.LINK: link.relation}) for link in links],
        )
        if event is not None:
            span.add_event(event, timestamp=_clamp_time(start_ns))
        if status is not None:
            text = status.description
            span.set_status(Status(status.status_code, text and truncate(text, self._max_text)))
        span.end(end_time=_clamp_time(max(start_ns, end_ns)))

    def close(self) -> None:
        """Shut the processors down."""
        self._provider.shutdown()

    def _tracer_for(self, service: str) -> Tracer:
        """Return the tracer of another service, which differs in nothing but its name."""
        tracer = self._other_tracers.get(service)
        if tracer is None:
            if len(self._other_tracers) >= _MAX_SERVICES:
                self._other_tracers.clear()
            named = self._resource.merge(Resource({"service.name": service}))
            tracer = self._other_tracers[service] = _tracer_of(self._provider_of(named))
        return tracer

    def _provider_of(self, resource: Resource) -> TracerProvider:
        provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False, span_limits=self._limits
        )
        for processor in self._processors:
            provider.add_span_processor(processor)
        return provider

    def _encodable(self, value: Value) -> Value:
        """Return a value that OTLP can encode: plain strings, 64-bit integers."""
        if isinstance(value, str):
            return truncate(value, self._max_text)
        return value if isinstance(value, bool | float) or abs(value) <= _MAX_INTEGER else float(value)


def _tracer_of(provider: TracerProvider) -> Tracer:
    return provider.get_tracer("qemu-migration-exporter", qemu_migration_exporter.__version__)


def truncate(text: str, limit: int) -> str:
    """Return a text cut to a length, with the number of characters cut off; invalid Unicode is replaced."""
    text = str(text).encode(errors="replace").decode()
    if len(text) <= limit:
        return text
    kept = max(0, limit - _TAIL)
    return f"{text[:kept]}… and {len(text) - kept} more"


def _clamp_time(at_ns: int) -> int:
    """Return a time within the range of OTLP; a damaged line may have any time."""
    return min(max(at_ns, 0), _MAX_INTEGER)


def _context(trace_id: str, span_id: str) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)


def _root(trace_id: str) -> SpanContext:
    return _context(trace_id, trace_ids.root_span(trace_id))
