"""OTLP over HTTP: requests as receivers get them, and the meaning of their answers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from qemu_migration_exporter.tracing.export.codec import encode
from qemu_migration_exporter.tracing.export.endpoint import connect, find_endpoint
from qemu_migration_exporter.tracing.export.sender import ExportResult, ExportStatus, export_batch

from tests.support.patience import patience
from tests.support.receiver import Answer, Receiver, receiving

BATCH = encode([ReadableSpan("migrate", context=SpanContext(1, 2, is_remote=False), start_time=1, end_time=2)])


def _send(url: str, *, timeout: float = 5.0) -> ExportResult:
    endpoint = find_endpoint(url, timeout=timeout)
    assert endpoint is not None
    sender = connect(endpoint)
    try:
        return export_batch(sender, BATCH)
    finally:
        sender.close()


@pytest.mark.parametrize("compression", ["none", "gzip", "deflate"])
def test_request_is_batch_with_headers(otel: pytest.MonkeyPatch, compression: str) -> None:
    otel.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue")
    otel.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", compression)
    with receiving(Receiver()) as receiver:
        assert _send(receiver.url).status is ExportStatus.ACCEPTED

        assert receiver.paths == ["/v1/traces"]
        assert receiver.headers[0]["x-tenant"] == "blue"
        assert receiver.headers[0]["content-type"] == "application/x-protobuf"
        assert receiver.headers[0].get("content-encoding", "none") == compression
        assert [span.name for span in receiver.spans] == ["migrate"]


def test_receiver_that_hangs_is_retryable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()

        result = _send(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2)

        assert result == ExportResult(ExportStatus.RETRYABLE)
        assert time.monotonic() - began < patience(5)


@pytest.mark.parametrize(
    ("answer", "status", "rejected"),
    [
        (Answer(200), ExportStatus.ACCEPTED, 0),
        (Answer(202, b"{}", {"Content-Type": "application/json"}), ExportStatus.ACCEPTED, 0),
        (Answer(200, b"\x0a\x02\x08\x05"), ExportStatus.ACCEPTED, 5),
        (Answer(400), ExportStatus.REJECTED, 0),
        (Answer(401), ExportStatus.REJECTED, 0),
        (Answer(413), ExportStatus.REJECTED, 0),
        (Answer(501), ExportStatus.REJECTED, 0),
        # Not a receiver.
        (Answer(302, headers={"Location": "https://login.example/"}), ExportStatus.REJECTED, 0),
        (Answer(200, b"<html>Welcome to nginx!</html>", {"Content-Type": "text/html"}), ExportStatus.REJECTED, 0),
        (Answer(200, b"\xff\xff\xff garbage"), ExportStatus.REJECTED, 0),
        (Answer(200, b"\0" * 1_000_000), ExportStatus.REJECTED, 0),
        (Answer(200, b"x" * 65_536, {"Content-Type": "text/plain"}), ExportStatus.ACCEPTED, 0),
        (Answer(200, b"x" * 65_537, {"Content-Type": "text/plain"}), ExportStatus.REJECTED, 0),
    ],
)
def test_answer_is_classified(answer: Answer, status: ExportStatus, rejected: int) -> None:
    with receiving(Receiver(lambda: answer)) as receiver:
        result = _send(receiver.url)

        assert (result.status, result.rejected) == (status, rejected)
        assert len(receiver.paths) == 1


@pytest.mark.parametrize(
    ("status", "give_up_after"), [(429, None), (502, None), (503, None), (504, None), (500, 300.0)]
)
@pytest.mark.parametrize(("wait", "seconds"), [("120", 120.0), ("a date", 120.0), ("soon", None), ("-5", None)])
def test_retryable_answer_carries_pause(
    status: int, give_up_after: float | None, wait: str, seconds: float | None
) -> None:
    """OTLP retries four statuses; a 500 is retried for a limited time, for a proxy whose Collector restarts."""
    date = formatdate(time.time() + 120, usegmt=True)
    answer = Answer(status, headers={"Retry-After": date if wait == "a date" else wait})
    with receiving(Receiver(lambda: answer)) as receiver:
        result = _send(receiver.url)

        assert result.status is ExportStatus.RETRYABLE
        assert result.retry_after_seconds == (seconds and pytest.approx(seconds, abs=10))
        assert result.give_up_after_seconds == give_up_after


def test_past_date_asks_for_no_pause() -> None:
    date = formatdate(time.time() - 120, usegmt=True)
    with receiving(Receiver(lambda: Answer(503, headers={"Retry-After": date}))) as receiver:
        assert _send(receiver.url).retry_after_seconds == 0.0


@contextmanager
def _answering_with(data: bytes) -> Iterator[str]:
    """Accept connections, and answer each with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:  # the test is over
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_non_http_answer_is_retryable(data: bytes) -> None:
    """Another service may have the port for now, or the receiver went away while it answered."""
    with _answering_with(data) as url:
        assert _send(url).status is ExportStatus.RETRYABLE


def test_forbidden_header_is_rejected(otel: pytest.MonkeyPatch) -> None:
    """No retry would change it."""
    otel.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=a%0Ab")

    assert _send("http://127.0.0.1:1").status is ExportStatus.REJECTED
