"""Spans in a file, as OTLP's JSON encoding: one request a line, as the Collector's file exporter writes it."""

from __future__ import annotations

import base64
import json
import logging
from typing import IO, Any

from google.protobuf.json_format import MessageToDict

from qemu_migration_exporter.tracing.export.codec import parse
from qemu_migration_exporter.tracing.export.sender import ACCEPTED, ExportResult, ExportStatus, SpanBatch

logger = logging.getLogger(__name__)

#: A second attempt could write half a line twice.
_FAILED = ExportResult(ExportStatus.RETRYABLE, give_up_after_seconds=0.0)


class OtlpJsonWriter:
    """Writer of one request a line; after a failed write it writes nothing more."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._is_broken = False

    def send(self, batch: SpanBatch) -> ExportResult:
        if self._is_broken:
            return _FAILED
        request = MessageToDict(parse(batch.content, batch.spans), use_integers_for_enums=True)
        line = json.dumps(_with_hexadecimal_ids(request), separators=(",", ":"), ensure_ascii=False)
        try:
            self._out.write(f"{line}\n")
            self._out.flush()
        except OSError as error:
            self._is_broken = True
            logger.error("span file write failed: %s", error.strerror)  # noqa: TRY400 - no bug of ours
            return _FAILED
        return ACCEPTED

    def close(self) -> None:
        """Leave the file open: the caller opened it."""


def _with_hexadecimal_ids(request: dict[str, Any]) -> dict[str, Any]:
    """Convert ids from protobuf's JSON (base64) to OTLP's JSON (hexadecimal)."""
    for resource_spans in request.get("resourceSpans", []):
        for scope_spans in resource_spans["scopeSpans"]:
            for span in scope_spans["spans"]:
                for holder in (span, *span.get("links", [])):
                    for key in ("traceId", "spanId", "parentSpanId"):
                        if key in holder:
                            holder[key] = base64.b64decode(holder[key]).hex()
    return request
