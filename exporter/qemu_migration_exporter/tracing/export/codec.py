"""Encoding of spans as OTLP requests.

A stored request can also be sent by hand:
`curl --data-binary @FILE -H 'Content-Type: application/x-protobuf' http://localhost:4318/v1/traces`.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan

from qemu_migration_exporter.tracing.export.sender import SpanBatch


class CodecError(Exception):
    """An error of bytes that are not an OTLP trace request, or not the expected request."""


def encode(spans: Sequence[ReadableSpan]) -> SpanBatch:
    """Encode spans as one request."""
    content: bytes = encode_spans(spans).SerializeToString()
    return SpanBatch(content, len(spans))


def parse(content: bytes, spans: int) -> ExportTraceServiceRequest:
    """Parse a request of this many spans.

    Raises:
        CodecError: The content is damaged, or holds another number of spans.
    """
    try:
        request = ExportTraceServiceRequest.FromString(content)
    except DecodeError as error:
        raise CodecError(str(error)) from error
    found = sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)
    if found != spans:
        raise CodecError(f"expected {spans} spans, found {found}")
    return request
