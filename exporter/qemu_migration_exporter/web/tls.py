"""Section `tls_server_config` of the web configuration file, and the `ssl` context made from it.

The section has the keys of Prometheus's exporter-toolkit, whose values are Go's names. Tables map these names to
OpenSSL's. A context is made again when a certificate file changes, so that renewed certificates need no restart.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

#: OpenSSL's names of cipher suites by Go's, which the file uses. Suites of TLS 1.3 are always enabled in both.
CIPHER_SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_AES_128_GCM_SHA256": None,
    "TLS_AES_256_GCM_SHA384": None,
    "TLS_CHACHA20_POLY1305_SHA256": None,
}
_CURVES: Final = {"CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1", "X25519": "X25519"}
_VERSIONS: Final = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CLIENT_CERTIFICATES: Final = {
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}


class Section(BaseModel):
    """A section of the file; a key without a value counts as absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:  # noqa: ANN401 - any YAML value
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given


def readable_path(name: str | None, info: ValidationInfo) -> str | None:
    """Validate the name of a file, relative to the directory of the file that names it; return its path."""
    if not name:
        return None
    directory: Path = (info.context or {}).get("directory", Path())
    path = directory / name
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    return str(path)


def _files_only(_: object) -> None:
    # Python's ssl reads a certificate chain and its key from files.
    raise ValueError("text in place of a file is not supported; use the key that ends in _file")


_Inline = Annotated[None, BeforeValidator(_files_only)]


class TlsConfig(Section):
    """TLS of the server; see the exporter-toolkit's web-configuration.md for each key.

    Not supported are the values of `client_auth_type` that request a certificate without verifying it, versions below
    TLS 1.2, more than one curve, and certificates in the file itself.
    """

    cert_file: str | None = None
    key_file: str | None = None
    client_ca_file: str | None = None
    cert: _Inline = None
    key: _Inline = None
    client_ca: _Inline = None
    client_auth_type: str = "NoClientCert"
    client_allowed_sans: list[str] = Field(default_factory=list)
    min_version: Literal["TLS12", "TLS13"] = "TLS12"
    max_version: Literal["TLS12", "TLS13"] = "TLS13"
    cipher_suites: list[str] = Field(default_factory=list)
    prefer_server_cipher_suites: bool = True
    curve_preferences: list[str] = Field(default_factory=list)

    _resolve = field_validator("cert_file", "key_file", "client_ca_file")(readable_path)

    @field_validator("client_auth_type")
    @classmethod
    def _validate_client_auth(cls, kind: str) -> str:
        if kind and kind not in _CLIENT_CERTIFICATES:
            raise ValueError(f"expected one of {', '.join(_CLIENT_CERTIFICATES)}")
        return kind or "NoClientCert"

    @field_validator("cipher_suites")
    @classmethod
    def _validate_ciphers(cls, names: list[str]) -> list[str]:
        unknown = [name for name in names if name not in CIPHER_SUITES]
        if unknown:
            raise ValueError(f"expected names such as {next(iter(CIPHER_SUITES))}, got {unknown[0]}")
        return names

    @field_validator("curve_preferences")
    @classmethod
    def _validate_curve(cls, names: list[str]) -> list[str]:
        if len(names) > 1 or (names and names[0] not in _CURVES):
            raise ValueError(f"expected at most one of {', '.join(_CURVES)}, got {', '.join(names)}")
        return names

    @model_validator(mode="after")
    def _validate_context(self) -> TlsConfig:
        if self.model_fields_set:
            self.context()
        return self

    @property
    def files(self) -> list[str]:
        """Paths of the files it reads."""
        return [name for name in (self.cert_file, self.key_file, self.client_ca_file) if name is not None]

    def context(self) -> ssl.SSLContext | None:
        """Build the TLS context from the files; None without a configuration.

        Raises:
            ValueError: The files cannot be used, or do not fit together.
        """
        if not self.model_fields_set:
            return None
        self._check()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _VERSIONS[self.min_version]
        context.maximum_version = _VERSIONS[self.max_version]
        context.set_alpn_protocols(["http/1.1"])
        suites = [CIPHER_SUITES[name] for name in self.cipher_suites]
        try:
            if any(suites):
                context.set_ciphers(":".join(suite for suite in suites if suite))
            if self.curve_preferences:
                _set_curve(context, _CURVES[self.curve_preferences[0]])
        except ssl.SSLError as error:
            raise ValueError("this machine's OpenSSL has none of these cipher_suites or curve_preferences") from error
        if not self.prefer_server_cipher_suites:
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
        self._load(context)
        return context

    def _check(self) -> None:
        if self.cert_file is None or self.key_file is None:
            raise ValueError("expected cert_file and key_file")
        if self.min_version > self.max_version:
            raise ValueError(f"expected a min_version up to the max_version {self.max_version}, got {self.min_version}")
        asks = self.client_auth_type != "NoClientCert"
        if asks and self.client_ca_file is None:
            raise ValueError(f"expected a client_ca_file for {self.client_auth_type}")
        if self.client_ca_file is not None and not asks:
            raise ValueError("expected a client_auth_type that makes use of client_ca_file")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("expected RequireAndVerifyClientCert as client_auth_type of client_allowed_sans")

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # Without a password, OpenSSL would ask for one at a terminal.
            context.load_cert_chain(self.cert_file or "", self.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            raise ValueError(
                "cert_file and key_file are not a certificate and its unencrypted key in PEM form"
                f" ({getattr(error, 'reason', None) or error})"
            ) from error
        if self.client_ca_file is not None:
            context.verify_mode = _CLIENT_CERTIFICATES[self.client_auth_type]
            try:
                context.load_verify_locations(self.client_ca_file)
            except OSError as error:
                raise ValueError("client_ca_file holds no certificate in PEM form") from error


def _set_curve(context: ssl.SSLContext, curve: str) -> None:
    try:
        context.set_ecdh_curve(curve)
    except ssl.SSLError:  # Python 3.11.2 can set no curve without EC keys; OpenSSL prefers X25519 by itself
        if curve != "X25519":
            raise
