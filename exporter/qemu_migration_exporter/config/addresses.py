"""Addresses: of the listener, of the metrics, and of a trace in its viewer."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit

_MAX_PORT: Final = 65_535

#: Characters that are not encoded in a URL (RFC 3986), including the percent sign of characters already encoded.
_URL_CHARACTERS: Final = ":/?#[]@!$&'()*+,;=%~"

TRACE_ID: Final = "{trace_id}"


class AddressError(ValueError):
    """An error in the form of an address."""


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all interfaces); port 0 takes any that is free.

    Raises:
        AddressError: The text has another form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _MAX_PORT:
        raise AddressError(f"expected HOST:PORT such as 127.0.0.1:9871, got {text!r}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - `:PORT` asks for it


def parse_path(text: str) -> str:
    """Check a path to serve metrics at.

    Raises:
        AddressError: The text is not a path, or the path is taken.
    """
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text) or text.startswith(("/-/", "/api/")):
        raise AddressError(f"expected a path such as /metrics, and not below /-/ or /api/, got {text!r}")
    return text


def check_template(template: str) -> str:
    """Check a URL with `{trace_id}` in it.

    Raises:
        AddressError: The text is not the URL of a web page, or the place for the trace id is missing.
    """
    try:
        parts = urlsplit(template)
        # A field in the host's place would let a trace id choose the host of the link.
        is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and TRACE_ID not in parts.netloc
    except ValueError:  # such as half an IPv6 address
        is_web = False
    if not is_web or TRACE_ID not in template:
        raise AddressError(f"expected a URL such as https://jaeger.example/trace/{TRACE_ID}, got {template!r}")
    return template


def trace_url(template: str | None, trace_id: str) -> str | None:
    """Return the URL of a trace id by a template, None without a template.

    Quotes, spaces and braces are encoded: Grafana's URLs have JSON in them.
    """
    if template is None:
        return None
    try:
        before, *others = check_template(template).split(TRACE_ID)
    except AddressError:  # the configuration has none: it was checked when it was read
        return None
    encoded = (quote(part, safe=_URL_CHARACTERS, errors="surrogateescape") for part in (before, *others))
    return quote(trace_id, safe="", errors="surrogateescape").join(encoded)
