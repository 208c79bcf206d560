"""OTLP over gRPC, an optional extra: its library doubles the size of the installation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from qemu_migration_exporter.tracing.export.codec import read_answer
from qemu_migration_exporter.tracing.export.endpoint import Endpoint, OtlpError
from qemu_migration_exporter.tracing.export.sender import REJECTED, RETRYABLE, ExportResult, SpanBatch

logger = logging.getLogger(__name__)

_METHOD: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

#: Source: the specification's table in "OTLP/gRPC Response".
_RETRYABLE: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class OtlpGrpcSender:
    """Sender over gRPC, which is given the request's bytes as they are."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._metadata = tuple(endpoint.headers.items())
        self._timeout = endpoint.timeout_seconds
        compression = grpc.Compression.Gzip if endpoint.compression == "gzip" else grpc.Compression.NoCompression
        url = urlsplit(endpoint.url)
        target = url.netloc or endpoint.url
        if url.scheme == "http" or (url.scheme != "https" and endpoint.is_insecure):
            self._channel = grpc.insecure_channel(target, compression=compression)
        else:
            self._channel = grpc.secure_channel(target, _credentials(endpoint), compression=compression)
        self._export: grpc.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(_METHOD)

    def send(self, batch: SpanBatch) -> ExportResult:
        try:
            answer = self._export(batch.content, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            code = error.code()
            if code in _RETRYABLE:
                return RETRYABLE
            logger.warning("span export rejected: gRPC status %s: %s", code.name, error.details())
            return REJECTED
        return read_answer(answer)

    def close(self) -> None:
        self._channel.close()


def _credentials(endpoint: Endpoint) -> grpc.ChannelCredentials:
    try:
        files = [
            Path(name).read_bytes() if name else None
            for name in (endpoint.certificate, endpoint.client_key, endpoint.client_certificate)
        ]
    except OSError as error:
        raise OtlpError(f"OTLP certificate: {error.filename}: {error.strerror}") from error
    return grpc.ssl_channel_credentials(*files)
