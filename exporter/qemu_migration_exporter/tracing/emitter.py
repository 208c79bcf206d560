"""One span at a time through OpenTelemetry's SDK, with ids and times that are given and values that are bounded."""

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
from qemu_migration_exporter.tracing import attribute_table as names

SERVICE_NAME: Final = "qemu-migration"

#: Of a text: a backtrace of sixty frames fits, a line of a stream that goes mad does not.
_MAX_TEXT: Final = 4_096
#: Of a span's name, which ends with the name a device gave itself.
_MAX_NAME: Final = 128
#: What "… and N more" takes of that.
_TAIL: Final = 24
#: Of OTLP's integers and times.
_MAX_INTEGER: Final = 2**63 - 1

Value = str | bool | int | float
Attributes = Mapping[str, Value | None]


class Reference(NamedTuple):
    """A link to another migration: its trace, and what that is to this one."""

    trace_id: str
    relation: str


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


class Emitter:
    """Make spans that have ended, and hand each to the processors.

    Args:
        processors: Take the spans; they decide whether to wait or to drop.
        resource: Who speaks, beside the service's name and version and what OTEL_ variables say. Nothing of this
            machine is added: a replay's machine has nothing to do with the migration.
    """

    def __init__(self, processors: Sequence[SpanProcessor], resource: Mapping[str, str]) -> None:
        self._ids = _GivenIds()
        ours = {"service.name": SERVICE_NAME, "service.version": qemu_migration_exporter.__version__, **resource}
        limits = SpanLimits()  # what OTEL_ variables say
        self._max_text = min(limits.max_span_attribute_length or _MAX_TEXT, _MAX_TEXT)
        self._provider = TracerProvider(
            resource=Resource(ours).merge(OTELResourceDetector().detect()),
            id_generator=self._ids,
            shutdown_on_exit=False,
            span_limits=limits,
        )
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer: Tracer = self._provider.get_tracer("qemu-migration-exporter", qemu_migration_exporter.__version__)

    def is_sampled(self, trace_id: str) -> bool:
        """Ask the sampler (OTEL_TRACES_SAMPLER) once a trace: its root, which it would decide by, is made last."""
        decision = self._provider.sampler.should_sample(None, int(trace_id, 16), "migrate").decision
        return decision is Decision.RECORD_AND_SAMPLE

    def emit(
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
        links: Sequence[Reference] = (),
    ) -> None:
        """Begin and end a span at once, with the times of the probe."""
        trace_id = int(identity.trace_id, 16)
        self._ids.trace_id, self._ids.span_id = trace_id, int(span_id, 16)
        context = None if parent is None else set_span_in_context(NonRecordingSpan(_context(identity.trace_id, parent)))
        given = {key: value for key, value in attributes.items() if value is not None}
        if identity.clock is not ClockKind.PROBE:
            given[names.CLOCK] = identity.clock.value
        span = self._tracer.start_span(
            cut(name, _MAX_NAME),
            context=context,
            start_time=_time(start_ns),
            attributes={key: self._plain(value) for key, value in given.items()},
            links=[Link(_root(each.trace_id), {names.LINK: each.relation}) for each in links],
        )
        if status is not None:
            text = status.description
            span.set_status(Status(status.status_code, text and cut(text, self._max_text)))
        span.end(end_time=_time(max(start_ns, end_ns)))

    def close(self) -> None:
        """Let the processors finish."""
        self._provider.shutdown()

    def _plain(self, value: Value) -> Value:
        """Make of a value what OTLP can carry: enumerations are no strings to it, and its integers have 64 bits."""
        if isinstance(value, str):
            return cut(value, self._max_text)
        return value if isinstance(value, bool | float) or abs(value) <= _MAX_INTEGER else float(value)


def cut(text: str, most: int) -> str:
    """Shorten a text to so many characters, and let it say how many are missing; what is no Unicode is replaced."""
    text = str(text).encode(errors="replace").decode()
    if len(text) <= most:
        return text
    kept = max(0, most - _TAIL)
    return f"{text[:kept]}… and {len(text) - kept} more"


def _time(at_ns: int) -> int:
    """Keep a time that a damaged line made up within what OTLP can carry."""
    return min(max(at_ns, 0), _MAX_INTEGER)


def _context(trace_id: str, span_id: str) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)


def _root(trace_id: str) -> SpanContext:
    return _context(trace_id, trace_ids.root_span(trace_id))
