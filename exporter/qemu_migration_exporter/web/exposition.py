"""Metrics in the format that a client accepts, by the library's encoders."""

from __future__ import annotations

import gzip
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder, gzip_accepted

from qemu_migration_exporter.metrics.registry import ExporterRegistry

#: The fastest: a scrape goes over a local network, and higher levels cost several times the CPU for a tenth less.
_GZIP_LEVEL: Final = 1


class Exposed(NamedTuple):
    """Metrics as they are sent: HTTP status, body and headers."""

    status: int
    body: bytes
    headers: dict[str, str]


class Exposition:
    """Exposition of a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def write(self, *, accept: str, accept_encoding: str, query: str) -> Exposed:
        """Return the answer to a request with these headers, empty if absent, and this query (`name[]=…`)."""
        encoder, content_type = choose_encoder(accept)
        names = parse_qs(query).get("name[]")
        if names:
            body = encoder(self._registry.restricted_registry(names))
        elif isinstance(self._registry, ExporterRegistry):
            body = self._registry.render(encoder, content_type)
        else:
            body = encoder(self._registry)
        headers = {"Content-Type": content_type}
        if gzip_accepted(accept_encoding):
            body = gzip.compress(body, _GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        return Exposed(200, body, headers)
