"""Spans with different numbers, for tests of their delivery."""

from __future__ import annotations

from collections.abc import Iterable

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from qemu_migration_exporter.tracing.export.codec import encode
from qemu_migration_exporter.tracing.export.sender import SpanBatch

from tests.support.receiver import Receiver

_RESOURCE = Resource({"service.name": "qemu-migration"})
_SCOPE = InstrumentationScope("qemu-migration-exporter", "0")


def numbered_span(number: int) -> ReadableSpan:
    """Return a span whose id is its number."""
    return ReadableSpan(
        "iterate",
        context=SpanContext(7, number, is_remote=False),
        resource=_RESOURCE,
        instrumentation_scope=_SCOPE,
        attributes={"qemu.migration.round": number},
        start_time=number,
        end_time=number + 1,
    )


def batch_of(numbers: Iterable[int]) -> SpanBatch:
    """Return a batch of numbered spans."""
    return encode([numbered_span(number) for number in numbers])


def numbers_in(batch: SpanBatch) -> list[int]:
    """Return the numbers of the spans in a batch."""
    request = ExportTraceServiceRequest.FromString(batch.content)
    return [
        int.from_bytes(span.span_id)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def received(receiver: Receiver) -> list[int]:
    """Return the numbers of the received spans in order; a number received twice is there twice."""
    return sorted(int.from_bytes(span.span_id) for span in receiver.spans)
