"""Spans in a file, as OTLP's JSON."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Sequence
from typing import IO, Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

logger = logging.getLogger(__name__)


class OtlpJsonWriter(SpanExporter):
    """Write OTLP as JSON, one request a line, as the Collector's file exporter does and its receiver reads."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._is_broken = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write one line; after one that could not be written nothing more is."""
        if self._is_broken:
            return SpanExportResult.FAILURE
        request = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
        line = json.dumps(_with_hexadecimal_ids(request), separators=(",", ":"), ensure_ascii=False)
        try:
            self._out.write(f"{line}\n")
            self._out.flush()
        except OSError as error:
            self._is_broken = True
            logger.error("the spans were not written: %s", error.strerror)  # noqa: TRY400 - no bug of ours
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS


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
