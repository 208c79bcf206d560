"""Receiver of the spans: from the configuration, else from OpenTelemetry's OTEL_ variables.

OpenTelemetry reads each setting from OTEL_EXPORTER_OTLP_TRACES_X, else from OTEL_EXPORTER_OTLP_X. This module does not
import OpenTelemetry, which is loaded only if an endpoint is configured.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from qemu_migration_exporter.tracing.export.sender import Sender

logger = logging.getLogger(__name__)

HTTP: Final = "http/protobuf"
GRPC: Final = "grpc"
_PROTOCOLS: Final = (HTTP, GRPC)
_COMPRESSIONS: Final = ("none", "gzip", "deflate")

_TRACES_PATH: Final = "/v1/traces"

#: Limit on one request: OpenTelemetry's default.
_TIMEOUT_SECONDS: Final = 10.0
#: The same for a replay, which waits for a slow receiver.
REQUEST_SECONDS: Final = 600.0


class OtlpError(Exception):
    """An error in the settings of the span export."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A receiver's address and protocol.

    Attributes:
        url: For OTLP/HTTP the full URL with its path.
        timeout_seconds: Limit on one request.
        certificate: File with the certificate authorities to trust, None for the system's.
        client_certificate, client_key: Files that authenticate this program.
        is_insecure: OTEL_EXPORTER_OTLP_INSECURE, for gRPC endpoints without a scheme.
    """

    url: str
    protocol: str = HTTP
    timeout_seconds: float = _TIMEOUT_SECONDS
    headers: Mapping[str, str] = field(default_factory=dict)
    compression: str = "none"
    certificate: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    is_insecure: bool = False


def find_endpoint(url: str | None, protocol: str | None = None, timeout: float | None = None) -> Endpoint | None:
    """Return the configured endpoint, else that of the OTEL_ variables, else None.

    `timeout` is in seconds; a variable overrides it. A URL without a path gets OTLP/HTTP's standard path /v1/traces.

    Raises:
        OtlpError: A setting has an unsupported value.
    """
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or not _traces_enabled():
        return None
    if url is None and _setting("ENDPOINT") is None:
        return None
    protocol = _one_of("protocol", protocol or _setting("PROTOCOL") or HTTP, _PROTOCOLS)
    return Endpoint(
        url=_grpc_url(url) if protocol == GRPC else _http_url(url),
        protocol=protocol,
        timeout_seconds=_seconds(_setting("TIMEOUT"), timeout),
        headers=_headers(_setting("HEADERS") or ""),
        compression=_one_of("compression", (_setting("COMPRESSION") or "none").lower(), _COMPRESSIONS),
        certificate=_setting("CERTIFICATE"),
        client_certificate=_setting("CLIENT_CERTIFICATE"),
        client_key=_setting("CLIENT_KEY"),
        is_insecure=(_setting("INSECURE") or "").lower() == "true",
    )


def connect(endpoint: Endpoint) -> Sender:
    """Return a sender for the endpoint's protocol, loading its libraries.

    Raises:
        OtlpError: The library for gRPC is not installed, or a certificate cannot be read.
    """
    if endpoint.protocol == HTTP:
        from qemu_migration_exporter.tracing.export.otlp_http import OtlpHttpSender  # noqa: PLC0415 - slow to load

        return OtlpHttpSender(endpoint)
    try:
        from qemu_migration_exporter.tracing.export.otlp_grpc import OtlpGrpcSender  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise OtlpError(
            "OTLP protocol: grpc needs an extra that is not installed: pip install 'qemu-migration-exporter[grpc]'"
        ) from error
    return OtlpGrpcSender(endpoint)


def _setting(name: str) -> str | None:
    for prefix in ("OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"):
        if value := os.environ.get(prefix + name, "").strip():
            return value
    return None


def _traces_enabled() -> bool:
    value = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if value not in {"", "otlp", "none"}:
        logger.warning("OTEL_TRACES_EXPORTER ignored: expected otlp or none, got %r", value)
    return value != "none"


def _one_of(name: str, value: str, expected: tuple[str, ...]) -> str:
    if value not in expected:
        raise OtlpError(f"OTLP {name}: expected {' or '.join(expected)}, got {value!r}")
    return value


def _http_url(configured: str | None) -> str:
    base = configured or os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip()
    if not base:
        # The variable for all signals is a base URL, to which OpenTelemetry adds the path of each signal.
        base = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip().rstrip("/") + _TRACES_PATH
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise OtlpError(f"OTLP endpoint: expected a URL such as http://localhost:4318, got {base!r}")
    return base.rstrip("/") + _TRACES_PATH if configured is not None and parts.path in {"", "/"} else base


def _grpc_url(configured: str | None) -> str:
    return configured or _setting("ENDPOINT") or ""


def _seconds(variable: str | None, configured: float | None) -> float:
    """Return the timeout; like OpenTelemetry's Python SDK, the variable is in seconds."""
    if variable is None:
        return _TIMEOUT_SECONDS if configured is None else configured
    try:
        return float(variable)
    except ValueError as error:
        raise OtlpError(f"OTEL_EXPORTER_OTLP_TIMEOUT: expected seconds, got {variable!r}") from error


def _headers(text: str) -> dict[str, str]:
    """Parse `name=value,name=value`, percent-encoded as in W3C Baggage."""
    headers: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise OtlpError(f"OTEL_EXPORTER_OTLP_HEADERS: expected name=value, got {pair!r}")
        headers[unquote(name).strip().lower()] = unquote(value).strip()
    return headers
