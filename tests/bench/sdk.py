"""Make, encode and send given spans with the SDK alone, over and over: the cost of spans for any program.

    python sdk.py SPANS.json TIMES ENDPOINT

SPANS.json is the output of `replay --spans.out`. Batches are as large as the exporter's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import requests
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

_BATCH = 512


class Given(NamedTuple):
    """One span to make."""

    name: str
    trace_id: int
    parent: int | None
    start_ns: int
    end_ns: int
    attributes: dict[str, str | bool | int | float]


class Batches(SpanProcessor):
    """Send spans in batches and wait for each, so that none is dropped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._batch: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a finished span."""
        self._batch.append(span)
        if len(self._batch) >= _BATCH:
            self.force_flush()

    def force_flush(self, timeout_millis: int = 0) -> bool:  # noqa: ARG002 - the SDK's signature
        """Send the queued spans."""
        batch, self._batch = self._batch, []
        if batch:
            body = encode_spans(batch).SerializeToString()
            headers = {"Content-Type": "application/x-protobuf"}
            self._session.post(self._url, data=body, headers=headers, timeout=30).raise_for_status()
        return True


def given(path: Path) -> list[Given]:
    """Read the spans to make."""
    return [
        Given(
            span["name"],
            int(span["traceId"], 16),
            int(span["parentSpanId"], 16) if span.get("parentSpanId") else None,
            int(span["startTimeUnixNano"]),
            int(span["endTimeUnixNano"]),
            {each["key"]: _value(each["value"]) for each in span.get("attributes", [])},
        )
        for line in path.read_text(encoding="utf-8").splitlines()
        for resource in json.loads(line)["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _value(value: dict[str, Any]) -> str | bool | int | float:
    ((kind, content),) = value.items()
    plain: str | bool | int | float = int(content) if kind == "intValue" else content
    return plain


def main(path: str, times: str, endpoint: str) -> None:
    """Make them."""
    provider = TracerProvider(shutdown_on_exit=False)
    batches = Batches(f"{endpoint}/v1/traces")
    provider.add_span_processor(batches)
    tracer = provider.get_tracer("bench")
    spans = given(Path(path))
    for _ in range(int(times)):
        for each in spans:
            context = None
            if each.parent is not None:
                above = SpanContext(
                    each.trace_id, each.parent, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)
                )
                context = set_span_in_context(NonRecordingSpan(above))
            span = tracer.start_span(each.name, context, start_time=each.start_ns, attributes=each.attributes)
            span.end(each.end_ns)
    batches.force_flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
