"""OTLP over gRPC: the request, and the classes of answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from qemu_migration_exporter.tracing.export.endpoint import GRPC, Endpoint, OtlpError, connect
from qemu_migration_exporter.tracing.export.sender import ExportResult, ExportStatus

from tests.support.patience import patience
from tests.support.spans import batch_of

grpc = pytest.importorskip("grpc")

_ACCEPTED = ExportTraceServiceResponse().SerializeToString()


@dataclass
class _Server:
    """A gRPC server that keeps its requests."""

    address: str = ""
    requests: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)


@contextmanager
def _serving(answer: Callable[[Any], bytes] = lambda _: _ACCEPTED) -> Iterator[_Server]:
    server, kept = grpc.server(ThreadPoolExecutor(1)), _Server()

    def export(request: bytes, context: Any) -> bytes:  # noqa: ANN401 - of a library without types
        kept.requests.append((request, dict(context.invocation_metadata())))
        return answer(context)

    handler = grpc.unary_unary_rpc_method_handler(export)
    service = "opentelemetry.proto.collector.trace.v1.TraceService"
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {"Export": handler})])
    kept.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield kept
    finally:
        server.stop(None).wait()


def _send(url: str, seconds: float = 20.0, **settings: Any) -> ExportResult:  # noqa: ANN401 - fields of an endpoint
    sender = connect(Endpoint(url=url, protocol=GRPC, timeout_seconds=patience(seconds), **settings))
    try:
        return sender.send(batch_of([1, 2]))
    finally:
        sender.close()


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_request_is_batch_with_headers(compression: str) -> None:
    with _serving() as server:
        result = _send(f"http://{server.address}", headers={"x-tenant": "blue"}, compression=compression)

    ((request, headers),) = server.requests
    assert (result, request) == (ExportResult(ExportStatus.ACCEPTED), batch_of([1, 2]).content)
    assert headers["x-tenant"] == "blue"


@pytest.mark.parametrize(
    ("rejected", "logged"), [(0, []), (1, ["the receiver rejected 1 spans: too old"])], ids=["all taken", "one not"]
)
def test_partial_success_is_logged(rejected: int, logged: list[str], caplog: pytest.LogCaptureFixture) -> None:
    partial = ExportTracePartialSuccess(rejected_spans=rejected, error_message="too old" if rejected else "")
    answer = ExportTraceServiceResponse(partial_success=partial)
    with _serving(lambda _: answer.SerializeToString()) as server:
        assert _send(f"http://{server.address}") == ExportResult(ExportStatus.ACCEPTED, rejected=rejected)
    assert [record.getMessage() for record in caplog.records] == logged


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("UNAVAILABLE", ExportStatus.RETRYABLE),
        ("RESOURCE_EXHAUSTED", ExportStatus.RETRYABLE),
        ("INVALID_ARGUMENT", ExportStatus.REJECTED),
        ("UNAUTHENTICATED", ExportStatus.REJECTED),
        ("UNIMPLEMENTED", ExportStatus.REJECTED),
    ],
)
def test_status_is_classified(code: str, status: ExportStatus) -> None:
    with _serving(lambda context: context.abort(getattr(grpc.StatusCode, code), "no")) as server:
        assert _send(f"http://{server.address}").status is status


@pytest.mark.parametrize(
    ("url", "settings", "is_plain"),
    [
        ("http://{}", {}, True),
        ("http://{}", {"is_insecure": True}, True),
        ("{}", {"is_insecure": True}, True),
        ("{}", {}, False),
        ("https://{}", {"is_insecure": True}, False),
        ("https://{}", {}, False),
    ],
)
def test_scheme_decides_on_tls(url: str, settings: dict[str, bool], *, is_plain: bool) -> None:
    """Without a scheme, OTEL_EXPORTER_OTLP_INSECURE does. The server speaks no TLS."""
    with _serving() as server:
        result = _send(url.format(server.address), 20.0 if is_plain else 1.0, **settings)

    assert result.status is (ExportStatus.ACCEPTED if is_plain else ExportStatus.RETRYABLE)


def test_missing_certificate_is_an_error() -> None:
    with pytest.raises(OtlpError, match=r"/no/ca\.pem: No such file"):
        _send("https://127.0.0.1:1", certificate="/no/ca.pem")
