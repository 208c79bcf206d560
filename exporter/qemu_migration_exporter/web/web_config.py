"""The web configuration file, in the format of Prometheus's exporters (exporter-toolkit)."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import BeforeValidator, Field, field_validator
from pydantic_core import PydanticCustomError

from qemu_migration_exporter.web.tls import Section, TlsConfig

#: Headers that can be set, as in the toolkit, with their allowed values; an empty tuple allows any.
_HEADERS: Final = {
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
    "Content-Security-Policy": (),
}

#: A check takes 50 ms at a cost of 10 and doubles with each step: 13 s at 18, during which no other login is checked.
_MAX_COST: Final = 18
_BCRYPT: Final = re.compile(r"\$2[abxy]?\$(\d\d)\$[./A-Za-z0-9]{53}")
_UNITS_NS: Final = {"ns": 1, "us": 1e3, "µs": 1e3, "ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9}


def _bcrypt(given: object) -> str:
    match = _BCRYPT.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise PydanticCustomError("secret", "expected a bcrypt hash, as `htpasswd -nBC 10 USER` makes it")
    if int(match[1]) > _MAX_COST:
        words = "expected a bcrypt hash of a cost up to {most}, got {cost}"
        raise PydanticCustomError("secret", words, {"most": _MAX_COST, "cost": match[1]})
    return match[0]


def _seconds(given: object) -> float:
    """Parse a duration in Go's form: 1s, 100ms, 1m30s."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", given) if isinstance(given, str) else []
    if "".join(number + unit for number, unit in parts) != given and given not in {0, "0"}:
        raise ValueError("expected a duration such as 1s or 100ms")
    return sum(float(number) * _UNITS_NS[unit] for number, unit in parts) / 1e9


class HttpConfig(Section):
    """HTTP section.

    Attributes:
        http2: Ignored: only HTTP/1.1 is served, which every client of HTTP/2 speaks too.
        headers: Headers of every answer, which replace the answer's own headers of the same name.
    """

    http2: bool = True
    headers: dict[str, str] = Field(default_factory=dict)

    @field_validator("headers")
    @classmethod
    def _validate_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if name not in _HEADERS:
                raise ValueError(f"expected some of {', '.join(_HEADERS)}, got {name}")
            if not (value.isascii() and value.isprintable()):
                raise ValueError(f"expected a value of ASCII characters for {name}, got {value!r}")
            if value and _HEADERS[name] and value not in _HEADERS[name]:
                raise ValueError(f"expected {' or '.join(_HEADERS[name])} for {name}, got {value!r}")
        return {name: value for name, value in headers.items() if value}


class RateLimitConfig(Section):
    """Rate limit: a bucket of `burst` tokens, with a new token at every interval; 0 is no limit."""

    interval: Annotated[float, BeforeValidator(_seconds)] = 0.0
    burst: Annotated[int, Field(ge=0)] = 0


class WebConfig(Section):
    """The content of the file. Users are names with bcrypt hashes of passwords; without users there is no login."""

    tls_server_config: TlsConfig = TlsConfig()
    http_server_config: HttpConfig = HttpConfig()
    basic_auth_users: dict[str, Annotated[str, BeforeValidator(_bcrypt)]] = Field(default_factory=dict)
    rate_limit: RateLimitConfig = RateLimitConfig()

    @field_validator("basic_auth_users")
    @classmethod
    def _validate_users(cls, users: dict[str, str]) -> dict[str, str]:
        if any(":" in name for name in users):
            raise PydanticCustomError("secret", "expected user names without a colon: HTTP ends them there")
        return users
