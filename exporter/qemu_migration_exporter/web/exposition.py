"""The metrics in the form that a client asks for: the library's own encoders, asked for what costs them least."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import gzip_accepted

_OPENMETRICS: Final = "application/openmetrics-text"
_AS_THEY_ARE: Final = "escaping=allow-utf-8"
_UNDERSCORES: Final = "escaping=underscores"

#: Four times as fast as the best there is, for a twentieth more bytes.
_GZIP_LEVEL: Final = 6


class Exposed(NamedTuple):
    """Metrics as they are sent: the HTTP status, the body and its headers."""

    status: int
    body: bytes
    headers: dict[str, str]


class Exposition:
    """Write the metrics of a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Of the library's public ways to all of its formats, this one can be called in a thread.
        self._application = make_wsgi_app(registry, disable_compression=True)

    def write(self, *, accept: str, accept_encoding: str, query: str) -> Exposed:
        """Answer a request with these headers, which are empty where there were none, and this query (`name[]=…`)."""
        # Whoever names no escaping gets underscores for letters that no name could have until lately. Ours have none,
        # so to escape them is to leave them as they are; to find that out, the library looks at every letter it writes.
        is_spared = "escaping=" not in accept
        if is_spared:
            accept = ",".join(_spared(each) for each in accept.split(","))
        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": "/metrics", "QUERY_STRING": query, "HTTP_ACCEPT": accept,
        }  # fmt: skip
        started: list[tuple[str, Iterable[tuple[str, str]]]] = []
        body = b"".join(self._application(environ, lambda status, headers: started.append((status, headers))))
        status, headers = started[0][0], dict(started[0][1])
        if is_spared and "Content-Type" in headers:
            headers["Content-Type"] = headers["Content-Type"].replace(_AS_THEY_ARE, _UNDERSCORES)
        if gzip_accepted(accept_encoding):
            body = gzip.compress(body, _GZIP_LEVEL)
            headers["Content-Encoding"] = "gzip"
        return Exposed(int(status.split()[0]), body, headers)


def _spared(accepted: str) -> str:
    return f"{accepted};{_AS_THEY_ARE}" if accepted.strip().startswith(_OPENMETRICS) else accepted
