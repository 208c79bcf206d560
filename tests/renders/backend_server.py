"""HTTP server of a backend that stands in for the one behind a frontend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Generic, TypeVar

Backend = TypeVar("Backend")


class BackendServer(ThreadingHTTPServer, Generic[Backend]):
    """A server that knows its backend."""

    def __init__(self, handler: type[BackendHandler], backend: Backend) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.backend = backend


class BackendHandler(BaseHTTPRequestHandler):
    """One request of a frontend."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: object) -> None:
        """Print nothing."""

    def send(self, body: bytes, kind: str, status: int = 200) -> None:
        """Answer with a whole body of this media type."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(handler: type[BackendHandler], backend: Backend) -> Iterator[str]:
    """Serve a backend; yield its URL."""
    server = BackendServer(handler, backend)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
