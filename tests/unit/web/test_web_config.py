"""The web configuration file: valid settings, and the message for each mistake."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from qemu_migration_exporter.config.errors import ConfigError
from qemu_migration_exporter.web.listener import TlsSettings
from qemu_migration_exporter.web.settings import Access, Settings

from tests.support.web_helpers import get, serving

HASH = "$2y$10$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze"
AUTHORITY = trustme.CA()
PAIR = "cert_file: cert.pem, key_file: key.pem"


@pytest.fixture(name="directory")
def _directory(tmp_path: Path) -> Path:
    certificate = AUTHORITY.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    AUTHORITY.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    AUTHORITY.private_key_pem.write_to_path(str(tmp_path / "other.pem"))
    (tmp_path / "text.pem").write_text("no certificate")
    return tmp_path


def _settings(directory: Path, text: str) -> Settings:
    path = directory / "web.yml"
    path.write_text(text)
    return Settings(str(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "tls_server_config: {}",
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
        "rate_limit: {interval: 0, burst: 0}",
    ],
)
def test_empty_config_is_plain_http(directory: Path, text: str) -> None:
    """Without a login."""
    settings = _settings(directory, text)

    assert (settings.access, settings.tls) == (Access(), TlsSettings())


def test_toolkit_example_is_read(directory: Path) -> None:
    """Every key of the format that can be served, with the types it documents."""
    settings = _settings(
        directory,
        "tls_server_config:\n"
        "  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: ca.pem\n"
        "  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus]\n"
        "  min_version: TLS12\n  max_version: TLS13\n"
        "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256]\n"
        "  prefer_server_cipher_suites: false\n  curve_preferences: [X25519]\n"
        "http_server_config:\n  http2: true\n  headers:\n"
        "    Strict-Transport-Security: max-age=1\n    X-Frame-Options: deny\n    X-XSS-Protection: ''\n"
        f"basic_auth_users:\n  alice: {HASH}\n"
        "rate_limit: {interval: 1s, burst: 20}\n",
    )

    context = settings.tls.context
    assert context is not None
    assert (context.verify_mode, settings.tls.allowed_sans) == (ssl.CERT_REQUIRED, frozenset({"prometheus"}))
    assert not context.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert settings.access.headers == {
        "Strict-Transport-Security": "max-age=1",
        "X-Frame-Options": "deny",
    }
    assert (settings.access.interval_seconds, settings.access.burst) == (1.0, 20)


@pytest.mark.parametrize(
    ("text", "mistakes"),
    [
        ("tls: {}", ["1: tls: unknown key"]),
        ("tls_server_config: 7", ["1: tls_server_config: expected keys with values, got 7"]),
        ("tls_server_config:\n  certfile: x", ["2: tls_server_config.certfile: unknown key"]),
        ("tls_server_config: {min_version: TLS13}", ["1: tls_server_config: expected cert_file and key_file"]),
        ("tls_server_config: {cert_file: cert.pem}", ["1: tls_server_config: expected cert_file and key_file"]),
        ("tls_server_config:\n  cert_file: absent.pem\n  key_file: key.pem",
         ["2: tls_server_config.cert_file: no such file or directory, got 'absent.pem'"]),
        ("tls_server_config:\n  cert_file: text.pem\n  key_file: key.pem",
         ["1: tls_server_config: cert_file and key_file are not a certificate and its unencrypted key in PEM form"]),
        ("tls_server_config:\n  cert_file: cert.pem\n  key_file: other.pem",
         ["1: tls_server_config: cert_file and key_file are not a certificate and its unencrypted key in PEM form"]),
        (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAnyClientCert}}",
         ["1: tls_server_config.client_auth_type: expected one of NoClientCert, VerifyClientCertIfGiven, RequireAndVerifyClientCert, got"]),
        (f"tls_server_config: {{{PAIR}, client_auth_type: RequireAndVerifyClientCert}}",
         ["1: tls_server_config: expected a client_ca_file for RequireAndVerifyClientCert"]),
        (f"tls_server_config: {{{PAIR}, client_ca_file: ca.pem}}",
         ["1: tls_server_config: expected a client_auth_type that makes use of client_ca_file"]),
        (f"tls_server_config: {{{PAIR}, client_ca_file: text.pem, client_auth_type: VerifyClientCertIfGiven}}",
         ["1: tls_server_config: client_ca_file holds no certificate in PEM form"]),
        (f"tls_server_config: {{{PAIR}, client_allowed_sans: [a]}}",
         ["1: tls_server_config: expected RequireAndVerifyClientCert as client_auth_type of client_allowed_sans"]),
        (f"tls_server_config: {{{PAIR}, min_version: TLS10}}",
         ["1: tls_server_config.min_version: input should be 'TLS12' or 'TLS13', got 'TLS10'"]),
        (f"tls_server_config: {{{PAIR}, min_version: TLS13, max_version: TLS12}}",
         ["1: tls_server_config: expected a min_version up to the max_version TLS12, got TLS13"]),
        (f"tls_server_config: {{{PAIR}, cipher_suites: [AES]}}",
         ["1: tls_server_config.cipher_suites: expected names such as TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, got AES"]),
        (f"tls_server_config: {{{PAIR}, curve_preferences: [X25519, CurveP256]}}",
         ["1: tls_server_config.curve_preferences: expected at most one of CurveP256, CurveP384, CurveP521, X25519"]),
        ("tls_server_config:\n  cert: PEM\n  key_file: key.pem",
         ["2: tls_server_config.cert: text in place of a file is not supported; use the key that ends in _file"]),
        ("http_server_config:\n  headers:\n    Server: x",
         ["2: http_server_config.headers: expected some of Strict-Transport-Security"]),
        ("http_server_config: {headers: {X-Frame-Options: allow}}",
         ["1: http_server_config.headers: expected deny or sameorigin for X-Frame-Options, got 'allow'"]),
        ('http_server_config: {headers: {X-XSS-Protection: "a\\r\\nb"}}',
         ["1: http_server_config.headers: expected a value of ASCII characters for X-XSS-Protection"]),
        ("http_server_config: {http2: maybe}", ["1: http_server_config.http2: expected true or false, got 'maybe'"]),
        ("basic_auth_users:\n  alice: secret",
         ["2: basic_auth_users.alice: expected a bcrypt hash, as `htpasswd -nBC 10 USER` makes it"]),
        ("basic_auth_users:\n  alice: 12345",
         ["2: basic_auth_users.alice: expected a bcrypt hash, as `htpasswd -nBC 10 USER` makes it"]),
        (f"basic_auth_users: {{alice: {HASH.replace('$10$', '$31$')}}}",
         ["1: basic_auth_users.alice: expected a bcrypt hash of a cost up to 18, got 31"]),
        (f"basic_auth_users: {{'a:b': {HASH}}}",
         ["1: basic_auth_users: expected user names without a colon: HTTP ends them there"]),
        (f"basic_auth_users: {{alice: {HASH}, alice: {HASH}}}", ["1: basic_auth_users.alice: duplicate key"]),
        ("rate_limit: {interval: 5}", ["1: rate_limit.interval: expected a duration such as 1s or 100ms, got 5"]),
        ("rate_limit: {burst: -1}", ["1: rate_limit.burst: input should be greater than or equal to 0, got -1"]),
        ("a: [", ["1: expected the node content, but found '<stream end>'"]),
        ("tls: 1\nhttp_server_config:\n  http3: true", ["1: tls: unknown key", "3: http_server_config.http3: unknown key"]),
    ],
)  # fmt: skip
def test_mistakes_have_their_places(directory: Path, text: str, mistakes: list[str]) -> None:
    """All at once, by file and line; passwords are not repeated."""
    with pytest.raises(ConfigError) as caught:
        _settings(directory, text)

    assert len(caught.value.mistakes) == len(mistakes)
    for said, expected in zip(caught.value.mistakes, mistakes, strict=True):
        assert said.startswith(f"{directory}/web.yml:{expected}")
    if "users" in text:
        assert not any(secret in str(caught.value) for secret in ("secret", "12345", HASH))


def test_missing_file_is_named(tmp_path: Path) -> None:
    """With its name."""
    with pytest.raises(ConfigError, match=r"absent\.yml: No such file or directory"):
        Settings(str(tmp_path / "absent.yml"))


def test_headers_are_in_every_answer(directory: Path) -> None:
    """They replace those of the answer."""
    (directory / "web.yml").write_text(
        "http_server_config: {headers: {Content-Security-Policy: default-src *, X-XSS-Protection: '0'}}"
    )
    with serving(config_file=str(directory / "web.yml")) as server:
        for path in ("/", "/metrics", "/nothing"):
            headers = get(server.url + path).headers
            assert (headers["content-security-policy"], headers["x-xss-protection"]) == ("default-src *", "0")


def test_rate_limit_answers_429(directory: Path) -> None:
    """A burst passes; a new token comes after the interval."""
    (directory / "web.yml").write_text("rate_limit: {interval: 1h0m0s, burst: 3}")
    with serving(config_file=str(directory / "web.yml")) as server:
        assert [get(f"{server.url}/-/healthy").status for _ in range(5)] == [200, 200, 200, 429, 429]
        (directory / "web.yml").write_text("rate_limit: {interval: 1ms, burst: 3}")
        assert get(f"{server.url}/-/healthy").status == 200
