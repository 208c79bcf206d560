"""The few answers of Jaeger's query service that its own UI needs, over spans that arrive by OTLP/HTTP.

The UI is Jaeger's built folder, given by path. Spans are shown as Jaeger's storage returns them: the status of a span as
tags, links as references, events as logs.

    exporter ─/v1/traces─> spans in memory <─/api/traces─ Jaeger's UI in a browser
"""

from __future__ import annotations

import gzip
import json
import mimetypes
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlparse

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.renders.backend_server import BackendHandler, BackendServer, serving

Json = dict[str, Any]

_TYPES: Final = {"string_value": "string", "bool_value": "bool", "int_value": "int64", "double_value": "float64"}
_LIMIT: Final = 20


@dataclass(slots=True)
class JaegerBackend:
    """A server of Jaeger's UI, and the spans that it received.

    Attributes:
        build: The folder with the UI's `index.html` and `static`.
    """

    build: Path
    _traces: dict[str, dict[str, Json]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def receive(self, request: ExportTraceServiceRequest) -> None:
        """Keep the spans of a request; a span that comes twice is kept once."""
        for resource_spans in request.resource_spans:
            tags = _tags(resource_spans.resource.attributes)
            service = next((tag["value"] for tag in tags if tag["key"] == "service.name"), "unknown")
            process = {"serviceName": service, "tags": [tag for tag in tags if tag["key"] != "service.name"]}
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    shown = {**_span(span), "process": process}
                    with self._lock:
                        self._traces.setdefault(shown["traceID"], {})[shown["spanID"]] = shown

    def trace_of(self, vm: str) -> str | None:
        """Return the newest trace of a virtual machine."""
        found = self._search({"tags": [json.dumps({"qemu.vm.name": vm})]})
        return found[0]["traceID"] if found else None

    def answer(self, path: str, query: dict[str, list[str]]) -> Json | None:
        """Answer a call of the UI; None for a path that has no answer."""
        data: Any
        match path.split("/")[2:]:
            case ["services"]:
                data = sorted({span["process"]["serviceName"] for span in self._spans()})
            case ["services", _, "operations"]:
                data = sorted({span["operationName"] for span in self._spans()})
            case ["operations"]:
                data = [{"name": name, "spanKind": ""} for name in sorted({s["operationName"] for s in self._spans()})]
            case ["traces"]:
                data = self._search(query)
            case ["traces", trace_id] if trace_id in self._traces:
                data = [self._trace(trace_id)]
            case ["dependencies"]:
                data = []
            case _:
                return None
        return {"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None}

    def _spans(self) -> list[Json]:
        with self._lock:
            return [span for spans in self._traces.values() for span in spans.values()]

    def _search(self, query: dict[str, list[str]]) -> list[Json]:
        wanted = json.loads(query.get("tags", ["{}"])[0])
        operation = query.get("operation", ["all"])[0]
        service = query.get("service", [""])[0]

        def fits(span: Json) -> bool:
            tags = {tag["key"]: str(tag["value"]).lower() for tag in (*span["tags"], *span["process"]["tags"])}
            return (
                operation in {"all", span["operationName"]}
                and service in {"", span["process"]["serviceName"]}
                and all(tags.get(key) == str(value).lower() for key, value in wanted.items())
            )

        ids = {span["traceID"] for span in self._spans() if fits(span)}
        traces = sorted(map(self._trace, ids), key=lambda trace: -trace["spans"][0]["startTime"])
        return traces[: int(query.get("limit", [str(_LIMIT)])[0])]

    def _trace(self, trace_id: str) -> Json:
        with self._lock:
            spans = sorted(self._traces[trace_id].values(), key=lambda span: span["startTime"])
        processes: dict[str, str] = {}
        shown = []
        for span in spans:
            key = json.dumps(span["process"], sort_keys=True)
            number = processes.setdefault(key, f"p{len(processes) + 1}")
            shown.append({**{name: value for name, value in span.items() if name != "process"}, "processID": number})
        return {
            "traceID": trace_id,
            "spans": shown,
            "processes": {number: json.loads(key) for key, number in processes.items()},
            "warnings": None,
        }


def _value(value: AnyValue) -> tuple[str, object]:
    kind = value.WhichOneof("value")
    return (_TYPES[kind], getattr(value, kind)) if kind in _TYPES else ("string", str(value))


def _tags(attributes: Iterable[KeyValue]) -> list[Json]:
    return [{"key": pair.key, **dict(zip(("type", "value"), _value(pair.value), strict=True))} for pair in attributes]


def _span(span: Span) -> Json:
    trace_id = span.trace_id.hex()
    tags = _tags(span.attributes)
    if span.status.code == Status.STATUS_CODE_ERROR:
        tags += [
            {"key": "error", "type": "bool", "value": True},
            {"key": "otel.status_code", "type": "string", "value": "ERROR"},
            {"key": "otel.status_description", "type": "string", "value": span.status.message},
        ]
    references = [
        {"refType": "FOLLOWS_FROM", "traceID": each.trace_id.hex(), "spanID": each.span_id.hex()} for each in span.links
    ]
    if span.parent_span_id:
        references.insert(0, {"refType": "CHILD_OF", "traceID": trace_id, "spanID": span.parent_span_id.hex()})
    logs = [
        {
            "timestamp": event.time_unix_nano // 1_000,
            "fields": [{"key": "event", "type": "string", "value": event.name}, *_tags(event.attributes)],
        }
        for event in span.events
    ]
    return {
        "traceID": trace_id,
        "spanID": span.span_id.hex(),
        "operationName": span.name,
        "references": references,
        "startTime": span.start_time_unix_nano // 1_000,
        "duration": (span.end_time_unix_nano - span.start_time_unix_nano) // 1_000,
        "tags": tags,
        "logs": logs,
        "warnings": None,
    }


class _Handler(BackendHandler):
    """One request of the UI or of an exporter."""

    server: BackendServer[JaegerBackend]

    def do_POST(self) -> None:  # noqa: N802 - the name that http.server calls
        body = self.rfile.read(int(self.headers["Content-Length"]))
        plain = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.backend.receive(ExportTraceServiceRequest.FromString(plain))
        self.send(ExportTraceServiceResponse().SerializeToString(), "application/x-protobuf")

    def do_GET(self) -> None:  # noqa: N802 - the name that http.server calls
        address = urlparse(self.path)
        path = unquote(address.path)
        if path.startswith("/api/"):
            answer = self.server.backend.answer(path, parse_qs(address.query))
            errors = {"data": None, "errors": [{"code": 404, "msg": f"no answer for {path}"}]}
            self.send(json.dumps(answer or errors).encode(), "application/json", 200 if answer else 404)
            return
        build = self.server.backend.build.resolve()
        file = (build / path.lstrip("/")).resolve()
        if not (file.is_relative_to(build) and file.is_file()):
            file = build / "index.html"
        self.send(file.read_bytes(), mimetypes.guess_type(file)[0] or "application/octet-stream")


def serving_jaeger(backend: JaegerBackend) -> AbstractContextManager[str]:
    """Serve the UI and take spans, at the URL that is yielded."""
    return serving(_Handler, backend)
