"""How finished spans leave: to a file, or to a receiver over OTLP/HTTP.

A replay waits for its receiver, so nothing is lost however slow that is; the SDK's own batch processor would drop the
oldest spans as soon as its queue is full. Sending a recording again is harmless: its spans have the same ids.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from typing import IO, Any, Final
from urllib.parse import urlsplit

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

#: The SDK's own batch size (OTEL_BSP_MAX_EXPORT_BATCH_SIZE): some 300 KB a request.
BATCH_SPANS: Final = 512

#: One request may take this long before it counts as failed. Ten seconds, the default, is too short for a receiver that
#: is merely slow.
_PATIENCE_SECONDS: Final = 600.0

#: The OTLP client itself retries for half a minute what is worth it; then all of that is tried again.
_ATTEMPTS: Final = 3

_TRACES_PATH: Final = "/v1/traces"


class Delivery(SpanProcessor):
    """Send spans in batches, and wait for each batch to be taken.

    After a batch that could not be delivered nothing more is tried: the spans are counted as failed.
    """

    def __init__(self, exporter: SpanExporter, *, attempts: int = _ATTEMPTS) -> None:
        self._exporter = exporter
        self._attempts = attempts
        self._batch: list[ReadableSpan] = []
        self._exported = 0
        self._failed = 0

    def on_end(self, span: ReadableSpan) -> None:
        """Take a finished span; may block."""
        self._batch.append(span)
        if len(self._batch) >= BATCH_SPANS:
            self._send()

    def shutdown(self) -> None:
        """Send what is left."""
        self._send()
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002 - the SDK's signature
        """Send what is left; a replay takes the time it takes."""
        self._send()
        return self._failed == 0

    def counts(self) -> dict[tuple[str, str], int]:
        """Return spans by (outcome, reason)."""
        return {("exported", ""): self._exported, ("failed", "undeliverable"): self._failed}

    def _send(self) -> None:
        batch, self._batch = self._batch, []
        if not batch:
            return
        if self._failed == 0 and any(self._export(batch) for _ in range(self._attempts)):
            self._exported += len(batch)
        else:
            self._failed += len(batch)

    def _export(self, batch: Sequence[ReadableSpan]) -> bool:
        return self._exporter.export(batch) is SpanExportResult.SUCCESS


class OtlpJsonWriter(SpanExporter):
    """Write OTLP as JSON, one request a line, as the Collector's file exporter does and its receiver reads."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write one line."""
        request = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
        json.dump(_with_hexadecimal_ids(request), self._out, separators=(",", ":"), ensure_ascii=False)
        self._out.write("\n")
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Write out what is buffered; the file is the caller's to close."""
        self._out.flush()


def _with_hexadecimal_ids(request: dict[str, Any]) -> dict[str, Any]:
    """Spell ids as OTLP's JSON does, and not as protobuf's (base64)."""
    for resource_spans in request.get("resourceSpans", []):
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                for each in (span, *span.get("links", [])):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in each:
                            each[key] = base64.b64decode(each[key]).hex()
    return request


def otlp_http(endpoint: str | None, timeout: float | None = _PATIENCE_SECONDS) -> OTLPSpanExporter | None:
    """Export over OTLP/HTTP to `endpoint`, else to where an OTEL_ variable says, else not at all.

    An endpoint without a path gets the standard one, /v1/traces. For headers, TLS, compression and time limits there
    are OpenTelemetry's own variables.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    if endpoint is None and not any(os.environ.get(variable) for variable in named):
        return None
    if endpoint is not None and urlsplit(endpoint).path in {"", "/"}:
        endpoint = endpoint.rstrip("/") + _TRACES_PATH
    limits = ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
    if any(os.environ.get(variable) for variable in limits):
        timeout = None
    return OTLPSpanExporter(endpoint=endpoint, timeout=timeout)
