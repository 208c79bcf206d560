"""OTLP over HTTP.

OpenTelemetry's own exporter takes spans, not the bytes that wait in the spool, and hides the receiver's answer. This
sender posts the bytes and classifies the answer as the specification asks for
(opentelemetry.io/docs/specs/otlp, "OTLP/HTTP Response"), with two additions: a redirection or a web page is a
rejection, because the address is not a receiver's, and a 500 is retried for a limited time, because a proxy answers
500 while the Collector behind it restarts.
"""

from __future__ import annotations

import gzip
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import requests
from urllib3.exceptions import HTTPError

import qemu_migration_exporter
from qemu_migration_exporter.tracing.export.codec import read_answer
from qemu_migration_exporter.tracing.export.endpoint import Endpoint
from qemu_migration_exporter.tracing.export.sender import (
    ACCEPTED,
    REJECTED,
    RETRYABLE,
    ExportResult,
    ExportStatus,
    SpanBatch,
)

logger = logging.getLogger(__name__)

_PROTOBUF: Final = "application/x-protobuf"

#: Source: the specification's "Retryable Response Codes".
_RETRYABLE: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)

#: Time for which a batch is retried after a 500: longer than the restart of a Collector.
SERVER_ERROR_SECONDS: Final = 300.0

#: A receiver's answer has a few bytes.
_MAX_ANSWER_BYTES: Final = 64 * 1024
_ANSWER_SECONDS: Final = 10.0

_COMPRESS: Final[Mapping[str, Callable[[bytes], bytes]]] = {"gzip": gzip.compress, "deflate": zlib.compress}


class OtlpHttpSender:
    """Sender over HTTP, with one connection that is kept open."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._compress = _COMPRESS.get(endpoint.compression)
        self._session = requests.Session()
        self._session.headers.update(
            {
                "Content-Type": _PROTOBUF,
                "User-Agent": f"qemu-migration-exporter/{qemu_migration_exporter.__version__}",
                **({"Content-Encoding": endpoint.compression} if self._compress else {}),
                **endpoint.headers,
            }
        )
        if endpoint.certificate is not None:
            self._session.verify = endpoint.certificate
        if endpoint.client_certificate is not None:
            key = endpoint.client_key
            self._session.cert = (endpoint.client_certificate, key) if key else endpoint.client_certificate

    def send(self, batch: SpanBatch) -> ExportResult:
        body = self._compress(batch.content) if self._compress else batch.content
        timeout = self._endpoint.timeout_seconds
        try:
            response = self._session.post(
                self._endpoint.url, data=body, timeout=timeout, allow_redirects=False, stream=True
            )
            return _classify(response.status_code, response.headers, _read_body(response))
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader):
            raise  # no retry would change it
        except (OSError, HTTPError) as error:  # OSError covers requests' exceptions, HTTPError those of reading
            logger.debug("no answer from %s: %s", self._endpoint.url, error)
            return RETRYABLE

    def close(self) -> None:
        self._session.close()


def _classify(status: int, headers: Mapping[str, str], body: bytes | None) -> ExportResult:
    if status in _RETRYABLE or status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return ExportResult(
            ExportStatus.RETRYABLE,
            retry_after_seconds=_parse_retry_after(headers.get("Retry-After", ""), time.time()),
            give_up_after_seconds=None if status in _RETRYABLE else SERVER_ERROR_SECONDS,
        )
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        logger.warning("span export rejected: HTTP status %d", status)
        return REJECTED
    content_type = headers.get("Content-Type", _PROTOBUF)
    if body is None or content_type.startswith("text/html"):
        logger.error("the OTLP endpoint returned HTML or an endless body; is this an OTLP receiver?")
        return REJECTED
    if not content_type.startswith(_PROTOBUF):
        return ACCEPTED
    return read_answer(body)


def _read_body(response: requests.Response) -> bytes | None:
    """Return the body, or None if it is too long or arrives too slowly."""
    deadline, body = time.monotonic() + _ANSWER_SECONDS, b""
    while len(body) <= _MAX_ANSWER_BYTES and time.monotonic() < deadline:
        chunk = response.raw.read1(_MAX_ANSWER_BYTES, decode_content=True)
        if not chunk:
            return body
        body += chunk
    response.close()
    return None


def _parse_retry_after(text: str, now: float) -> float | None:
    """Parse a Retry-After header, which is in seconds or a date (RFC 9110, 10.2.3)."""
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:  # no valid header: the caller's own back-off applies
        return None
