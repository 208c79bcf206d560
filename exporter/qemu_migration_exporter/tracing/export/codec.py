"""Spans as bytes and back: an OTLP request, as it goes over the wire.

What is stored can be sent by hand too: `curl --data-binary @FILE -H 'Content-Type: application/x-protobuf'`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue


class StoredError(Exception):
    """The bytes are no request of spans."""


def encode(spans: Sequence[ReadableSpan]) -> bytes:
    """Make a request of spans."""
    content: bytes = encode_spans(spans).SerializeToString()
    return content


def decode(content: bytes) -> list[ReadableSpan]:
    """Make the spans of a request again.

    Raises:
        StoredError: It is none, or one that this program did not write.
    """
    try:
        return list(_spans(ExportTraceServiceRequest.FromString(content)))
    except (DecodeError, ValueError, TypeError, KeyError) as error:
        raise StoredError(str(error)) from error


def _spans(request: ExportTraceServiceRequest) -> Iterator[ReadableSpan]:
    for resource_spans in request.resource_spans:
        resource = Resource(_attributes(resource_spans.resource.attributes), resource_spans.schema_url)
        for scope_spans in resource_spans.scope_spans:
            scope = InstrumentationScope(scope_spans.scope.name, scope_spans.scope.version, scope_spans.schema_url)
            for span in scope_spans.spans:
                yield _span(span, resource, scope)


def _span(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context=_context(span.trace_id, span.span_id),
        parent=_context(span.trace_id, span.parent_span_id) if span.parent_span_id else None,
        resource=resource,
        attributes=_attributes(span.attributes),
        links=[Link(_context(each.trace_id, each.span_id), _attributes(each.attributes)) for each in span.links],
        kind=SpanKind(span.kind - 1),  # OTLP's 0 is "unspecified", which the SDK does not have
        status=Status(StatusCode(span.status.code), span.status.message or None),
        start_time=span.start_time_unix_nano,
        end_time=span.end_time_unix_nano,
        instrumentation_scope=scope,
    )


def _context(trace_id: bytes, span_id: bytes) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED)
    return SpanContext(int.from_bytes(trace_id), int.from_bytes(span_id), is_remote=False, trace_flags=flags)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, AttributeValue]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> AttributeValue:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "double_value":
            return value.double_value
        case other:
            raise ValueError(f"an attribute is a {other}")
