"""Spans as OTLP requests, and the receiver's answers to them.

A stored request can also be sent by hand:
`curl --data-binary @FILE -H 'Content-Type: application/x-protobuf' http://localhost:4318/v1/traces`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import ReadableSpan

from qemu_migration_exporter.tracing.export.sender import REJECTED, ExportResult, ExportStatus, SpanBatch

logger = logging.getLogger(__name__)


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


def read_answer(content: bytes) -> ExportResult:
    """Read the body of an answer that accepts a request, perhaps without some of its spans."""
    try:
        partial = ExportTraceServiceResponse.FromString(content).partial_success
    except DecodeError:
        logger.error("the OTLP endpoint returned an unreadable answer; is this an OTLP receiver?")  # noqa: TRY400
        return REJECTED
    if partial.rejected_spans:
        logger.warning("the receiver rejected %d spans: %s", partial.rejected_spans, partial.error_message)
    return ExportResult(ExportStatus.ACCEPTED, rejected=max(0, partial.rejected_spans))
