"""A receiver of OTLP over HTTP that keeps the spans it gets and answers as its test asks for."""

from __future__ import annotations

import gzip
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

_DECOMPRESS: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.decompress, "deflate": zlib.decompress}


@dataclass(frozen=True)
class Answer:
    """The answer to a request."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Receiver:
    """Received spans, and the answers to requests.

    `answer` is called for every request and returns an HTTP status or an `Answer`. Names of headers are in lower case.
    """

    def __init__(self, answer: Callable[[], int | Answer] = lambda: 200) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.url = ""
        self.answer = answer

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Return the answer to one request."""
        self.paths.append(path)
        self.headers.append(headers)
        answer = self.answer()
        answer = answer if isinstance(answer, Answer) else Answer(answer)
        if answer.status == 200:
            plain = _DECOMPRESS[headers.get("content-encoding", "")](body)
            request = ExportTraceServiceRequest.FromString(plain)
            for resource_spans in request.resource_spans:
                pairs = resource_spans.resource.attributes
                self.resources.append({pair.key: pair.value.string_value for pair in pairs})
                for scope_spans in resource_spans.scope_spans:
                    self.spans.extend(scope_spans.spans)
        return answer

    @property
    def names(self) -> set[str]:
        """Names of the received spans."""
        return {span.name for span in self.spans}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that were killed before their answer; the standard library prints them."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # as the caller gave it


@contextmanager
def receiving(receiver: Receiver, port: int = 0) -> Iterator[Receiver]:
    """Listen on the loopback address, on a free port unless one is given."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = receiver.handle(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(answer.status)
            for name, value in {"Retry-After": "0", "Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args: object) -> None:
            """Keep the tests' output clean."""

    server = _Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
