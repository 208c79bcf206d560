"""HTTP requests to a daemon that has TLS or users.

Users, tokens and certificates come from a file in the format of Prometheus's `http_config`, which promtool and amtool
read with the same flag, or from the URL (`https://USER:PASSWORD@HOST`).

Redirections are not followed: the daemon sends none, and a login must not reach another address.
"""

from __future__ import annotations

import base64
import ssl
import urllib.request
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pydantic import Field, field_validator, model_validator

from qemu_migration_exporter.config.yaml_loader import read
from qemu_migration_exporter.web.tls import Section, readable_path

_TIMEOUT_SECONDS: Final = 5.0
_MAX_BYTES: Final = 64 << 20


class BasicAuthConfig(Section):
    """Section `basic_auth`."""

    username: str
    password: str | None = Field(default=None, repr=False)
    password_file: str | None = None

    _resolve = field_validator("password_file")(readable_path)

    @model_validator(mode="after")
    def _validate_password(self) -> BasicAuthConfig:
        if (self.password is None) == (self.password_file is None):
            raise ValueError("expected either password or password_file")
        return self

    def header(self) -> str:
        """Return the value of the request's header."""
        return _basic(self.username, _secret(self.password, self.password_file))


class AuthorizationConfig(Section):
    """Section `authorization`, for a proxy in front of the daemon that expects a token."""

    type: str = "Bearer"
    credentials: str | None = Field(default=None, repr=False)
    credentials_file: str | None = None

    _resolve = field_validator("credentials_file")(readable_path)

    @model_validator(mode="after")
    def _validate_credentials(self) -> AuthorizationConfig:
        if (self.credentials is None) == (self.credentials_file is None):
            raise ValueError("expected either credentials or credentials_file")
        return self

    def header(self) -> str:
        """Return the value of the request's header."""
        return f"{self.type} {_secret(self.credentials, self.credentials_file)}"


class TlsConfig(Section):
    """Section `tls_config`."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    insecure_skip_verify: bool = False

    _resolve = field_validator("ca_file", "cert_file", "key_file")(readable_path)

    @model_validator(mode="after")
    def _validate_files(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("expected cert_file and key_file")
        self.context()
        return self

    def context(self) -> ssl.SSLContext:
        """Build the TLS context.

        Raises:
            ValueError: A file has no certificate or key in PEM form.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                # Without a password, OpenSSL would ask for one at a terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
        except OSError as error:
            raise ValueError(f"expected certificates and an unencrypted key in PEM form ({error})") from error
        if self.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class HttpClientConfig(Section):
    """The content of the file."""

    basic_auth: BasicAuthConfig | None = None
    authorization: AuthorizationConfig | None = None
    tls_config: TlsConfig = TlsConfig()

    @model_validator(mode="after")
    def _validate_login(self) -> HttpClientConfig:
        if self.basic_auth is not None and self.authorization is not None:
            raise ValueError("expected either basic_auth or authorization")
        return self


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow none: the answer is an error with its status."""


class HttpClient:
    """Client of one daemon.

    Args:
        url: The daemon's address; a user and a password in it go into the header.
        config_file: Path of the file; None for neither users nor certificates.

    Raises:
        ConfigError: The file has mistakes.

    Attributes:
        url: The address without user and password.
    """

    def __init__(self, url: str, config_file: str | None = None) -> None:
        config = read(config_file, HttpClientConfig) if config_file is not None else HttpClientConfig()
        parts = urlsplit(url)
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._login = config.basic_auth or config.authorization
        self._from_url = _login_of(parts)
        self._opener = urllib.request.build_opener(
            _NoRedirection, urllib.request.HTTPSHandler(context=config.tls_config.context())
        )

    def get(self, path: str) -> bytes:
        """Request a path below the address.

        Raises:
            OSError: There is no answer, or its status is not 200.
        """
        headers = {"Accept": "application/json"}
        if self._from_url is not None:
            headers["Authorization"] = self._from_url
        elif self._login is not None:
            headers["Authorization"] = self._login.header()  # a file that changes is read again
        request = urllib.request.Request(f"{self.url}/{path}", headers=headers)  # noqa: S310 - the feed checks it
        with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read(_MAX_BYTES)
            return content


def _login_of(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    return _basic(unquote(parts.username), unquote(parts.password or ""))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _secret(value: str | None, file: str | None) -> str:
    return value if value is not None else Path(file or "").read_text(encoding="utf-8").strip()
