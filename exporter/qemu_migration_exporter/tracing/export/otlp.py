"""The way to a receiver: OpenTelemetry's OTLP exporters, and what the receiver said of a batch.

The exporters say no more than that a batch failed. Over HTTP, what was answered is read beside them: some failures pass
and others never will, and not everything that answers is a receiver.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from google.protobuf.message import DecodeError
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"

_TRACES_PATH: Final = "/v1/traces"

#: What OTLP says to try again; whatever else is no success is final.
#: Source: opentelemetry.io/docs/specs/otlp, "Retryable Response Codes".
_PASSING: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

#: An answer is a few bytes; what sends more is no receiver.
_MAX_ANSWER_BYTES: Final = 64 * 1024
_ANSWER_SECONDS: Final = 10.0

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_TIMEOUTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")


class OtlpError(Exception):
    """Spans cannot be exported in the way that was asked for."""


class Reception(Enum):
    """What a receiver makes of a batch."""

    TAKEN = auto()
    #: Nobody answered, or it asks to be left alone for a while.
    LATER = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a batch.

    Attributes:
        rejected: Spans of it that the receiver refused though it took the others.
        after_seconds: How long it asks to be left alone (Retry-After).
    """

    reception: Reception
    rejected: int = 0
    after_seconds: float | None = None


class OtlpHttp(OTLPSpanExporter):
    """Export over HTTP, and keep what was answered.

    Attributes:
        answer: To the last batch.
    """

    def __init__(self, endpoint: str | None, timeout: float | None) -> None:
        self.answer = Answer(Reception.LATER)
        super().__init__(endpoint=endpoint, timeout=timeout, session=_Session(self._note))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, again and again for the time limit if that is worth it."""
        self.answer = Answer(Reception.REFUSED)  # what never gets as far as being sent never will
        super().export(spans)  # to which a redirection, and a page of a wrong server, are a success
        return SpanExportResult.SUCCESS if self.answer.reception is Reception.TAKEN else SpanExportResult.FAILURE

    def _note(self, answer: Answer) -> None:
        self.answer = answer


class _Session(requests.Session):
    """Reads no more of an answer than an answer has, and passes on what it means."""

    def __init__(self, note: Callable[[Answer], None]) -> None:
        super().__init__()
        self._note = note

    def send(self, request: requests.PreparedRequest, **arguments: Any) -> requests.Response:  # noqa: ANN401
        self._note(Answer(Reception.LATER))
        response = super().send(request, **{**arguments, "stream": True})
        self._note(_understood(response.status_code, response.headers, _body(response)))
        return response


def otlp(endpoint: str | None, protocol: str | None = None, timeout: float | None = None) -> SpanExporter | None:
    """Export to `endpoint`, else to where an OTEL_ variable says, else not at all.

    An endpoint without a path gets OTLP/HTTP's standard one, /v1/traces. For headers, TLS and compression there are
    OpenTelemetry's own variables; for the time limit too, and they win over `timeout`, which is in seconds.

    Raises:
        OtlpError: The protocol is none that is spoken here, or the endpoint is no URL.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not _is_wanted():
        return None
    if endpoint is None and not _variable(_ENDPOINTS):
        return None
    if _variable(_TIMEOUTS):
        timeout = None
    protocol = protocol or _variable(_PROTOCOLS) or HTTP
    if protocol == GRPC:
        return _grpc(endpoint, timeout)
    if protocol != HTTP:
        raise OtlpError(f"the OTLP protocol: expected {HTTP} or {GRPC}, got {protocol!r}")
    url = urlsplit(endpoint or _variable(_ENDPOINTS) or "")
    if url.scheme not in {"http", "https"} or not url.netloc:
        raise OtlpError(f"the OTLP endpoint: expected a URL such as http://localhost:4318, got {url.geturl()!r}")
    if endpoint is not None and url.path in {"", "/"}:
        endpoint = endpoint.rstrip("/") + _TRACES_PATH
    return OtlpHttp(endpoint, timeout)


def ask(exporter: SpanExporter, spans: Sequence[ReadableSpan]) -> Answer:
    """Export a batch; of an exporter that does not say why it failed, any failure may pass."""
    try:
        result = exporter.export(spans)
    except Exception:
        logger.exception("%d spans cannot be sent", len(spans))
        return Answer(Reception.REFUSED)
    if isinstance(exporter, OtlpHttp):
        return exporter.answer
    return Answer(Reception.TAKEN if result is SpanExportResult.SUCCESS else Reception.LATER)


def _grpc(endpoint: str | None, timeout: float | None) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import (  # noqa: PLC0415 - an extra, and slow to load
            OTLPSpanExporter as OtlpGrpc,
        )
    except ImportError as error:
        raise OtlpError(
            "the OTLP protocol is grpc, for which a part is not installed: pip install 'qemu-migration-exporter[grpc]'"
        ) from error
    return OtlpGrpc(endpoint=endpoint, timeout=timeout)


def _is_wanted() -> bool:
    """Say whether OTEL_TRACES_EXPORTER wants traces; it may name several exporters."""
    named = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if named not in {"", "otlp", "none"}:
        logger.warning("OTEL_TRACES_EXPORTER: expected otlp or none, got %r; it is ignored", named)
    return named != "none"


def _variable(names: Sequence[str]) -> str | None:
    """Read the first of some variables that says something."""
    return next((value for name in names if (value := os.environ.get(name, "").strip())), None)


def _understood(status: int, headers: Mapping[str, str], body: bytes | None) -> Answer:
    if status in _PASSING:
        return Answer(Reception.LATER, after_seconds=_retry_after(headers.get("Retry-After", ""), time.time()))
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Answer(Reception.REFUSED)
    if body is None or headers.get("Content-Type", "").startswith("text/html"):
        logger.error("what answers at the endpoint is no OTLP receiver: it sends a page, or has no end")
        return Answer(Reception.REFUSED)
    if not headers.get("Content-Type", "application/x-protobuf").startswith("application/x-protobuf"):
        return Answer(Reception.TAKEN)
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        logger.error("what answers at the endpoint is no OTLP receiver: its answer cannot be read")  # noqa: TRY400
        return Answer(Reception.REFUSED)
    if partial.rejected_spans:
        logger.warning("the receiver rejected %d spans: %s", partial.rejected_spans, partial.error_message)
    return Answer(Reception.TAKEN, rejected=max(0, partial.rejected_spans))


def _body(response: requests.Response) -> bytes | None:
    """Read an answer; None for one that is too long or comes too slowly."""
    deadline, body = time.monotonic() + _ANSWER_SECONDS, b""
    while len(body) <= _MAX_ANSWER_BYTES and time.monotonic() < deadline:
        chunk = response.raw.read1(_MAX_ANSWER_BYTES, decode_content=True)
        if not chunk:
            return body
        body += chunk
    response.close()
    return None


def _retry_after(text: str, now: float) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3)."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:  # then our own pauses are good enough
        return None
