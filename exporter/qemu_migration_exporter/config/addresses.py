"""Addresses: where to listen, where metrics are, where a trace is shown."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, urlsplit

_MAX_PORT: Final = 65_535

#: Characters that stay as they are in a URL (RFC 3986); the percent sign belongs to encoded ones.
_URL_CHARACTERS: Final = ":/?#[]@!$&'()*+,;=%~"

TRACE_ID: Final = "{trace_id}"


class AddressError(ValueError):
    """An address in the wrong form."""


def parse_address(text: str) -> tuple[str, int]:
    """Read `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all interfaces); port 0 takes any that is free.

    Raises:
        AddressError: It is neither.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > _MAX_PORT:
        raise AddressError(f"expected HOST:PORT such as 127.0.0.1:9871, got {text!r}")
    return host.removeprefix("[").removesuffix("]") or "0.0.0.0", int(port)  # noqa: S104 - `:PORT` asks for it


def parse_path(text: str) -> str:
    """Check a path to serve metrics at.

    Raises:
        AddressError: It is no path, or one that is taken.
    """
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", text) or text.startswith(("/-/", "/api/")):
        raise AddressError(f"expected a path such as /metrics, and not below /-/ or /api/, got {text!r}")
    return text


def check_template(template: str) -> str:
    """Check a URL with `{trace_id}` in it.

    Raises:
        AddressError: It is no URL of a web page, or the place for the trace id is missing.
    """
    try:
        parts = urlsplit(template)
        # A name in the place of the host would make a link elsewhere of a trace id.
        is_web = parts.scheme in {"http", "https"} and bool(parts.hostname) and TRACE_ID not in parts.netloc
    except ValueError:  # such as half an IPv6 address
        is_web = False
    if not is_web or TRACE_ID not in template:
        raise AddressError(f"expected a URL such as https://jaeger.example/trace/{TRACE_ID}, got {template!r}")
    return template


def trace_url(template: str | None, trace_id: str) -> str | None:
    """Put a trace id into a template; None where the template is none.

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
