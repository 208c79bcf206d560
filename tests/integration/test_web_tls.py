"""TLS and logins, with real certificates and real clients."""

from __future__ import annotations

import asyncio
import base64
import http.client
import shutil
import ssl
import subprocess
import threading
import time
import urllib.error
from pathlib import Path

import bcrypt
import pytest
import trustme
from qemu_migration_exporter.web.basic_auth import BasicAuth, Decision, parse

from tests.support.web_helpers import Answer, connect, get, serving, wait_for

AUTHORITY = trustme.CA()
STRANGER = trustme.CA()
#: As cheap as bcrypt goes; what a real cost does is a test of its own.
HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def _certificate(directory: Path, *names: str, authority: trustme.CA = AUTHORITY) -> None:
    certificate = authority.issue_cert(*names)
    certificate.private_key_pem.write_to_path(str(directory / "key.pem"))
    for index, pem in enumerate(certificate.cert_chain_pems):
        pem.write_to_path(str(directory / "cert.pem"), append=index > 0)


def _config(directory: Path, *more: str, users: str = "") -> str:
    _certificate(directory, "127.0.0.1", "localhost")
    AUTHORITY.cert_pem.write_to_path(str(directory / "ca.pem"))
    keys = ["cert_file: cert.pem", "key_file: key.pem", *more]
    path = directory / "web.yml"
    path.write_text("tls_server_config:\n" + "".join(f"  {key}\n" for key in keys) + users)
    return str(path)


def _client(*names: str, authority: trustme.CA = AUTHORITY, trusts: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    trusts.configure_trust(context)
    if names:
        authority.issue_cert(*names).configure_cert(context)
    return context


def _login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _ask(url: str, context: ssl.SSLContext) -> int | None:
    """Return the status; None if TLS refuses, which TLS 1.3 does after the handshake."""
    try:
        return get(url, context=context).status
    except (urllib.error.URLError, ssl.SSLError, ConnectionError, http.client.RemoteDisconnected):
        return None


def test_configured_certificate_is_used(tmp_path: Path) -> None:
    """Clients that trust its authority get an answer, others and plain HTTP none."""
    with serving(config_file=_config(tmp_path)) as server:
        assert server.url.startswith("https://")
        assert _ask(server.url, _client()) == 200
        assert _ask(server.url, _client(trusts=STRANGER)) is None
        assert _ask(server.url.replace("https", "http"), _client()) is None
        assert _ask(server.url, _client()) == 200


def test_old_versions_are_refused(tmp_path: Path) -> None:
    """The configured minimum decides."""
    old = _client()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(config_file=_config(tmp_path)) as server:
        assert _ask(server.url, old) == 200
    with serving(config_file=_config(tmp_path, "min_version: TLS13")) as server:
        assert (_ask(server.url, old), _ask(server.url, _client())) == (None, 200)


def test_configured_ciphers_are_used(tmp_path: Path) -> None:
    """The configuration uses Go's names."""
    suite = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    config = _config(tmp_path, f"cipher_suites: [{suite}]", "max_version: TLS12", "curve_preferences: [CurveP256]")
    with (
        serving(config_file=config) as server,
        connect(server.url) as plain,
        _client().wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        assert (secure.cipher() or ("",))[0] == "ECDHE-ECDSA-AES256-GCM-SHA384"


@pytest.mark.parametrize(
    ("keys", "client", "status"),
    [
        (["client_auth_type: RequireAndVerifyClientCert"], [], None),
        (["client_auth_type: RequireAndVerifyClientCert"], ["prometheus"], 200),
        (["client_auth_type: RequireAndVerifyClientCert"], ["stranger"], None),
        (["client_auth_type: VerifyClientCertIfGiven"], [], 200),
        (["client_auth_type: VerifyClientCertIfGiven"], ["stranger"], None),
        (["client_auth_type: RequireAndVerifyClientCert", "client_allowed_sans: [prometheus]"], ["prometheus"], 200),
        (["client_auth_type: RequireAndVerifyClientCert", "client_allowed_sans: [other]"], ["prometheus"], None),
        (
            ["client_auth_type: RequireAndVerifyClientCert", "client_allowed_sans: ['2001:db8::1']"],
            ["2001:db8::1"],
            200,
        ),
        (["client_auth_type: RequireAndVerifyClientCert", "client_allowed_sans: [a@b.example]"], ["a@b.example"], 200),
    ],
)
def test_clients_show_certificates(tmp_path: Path, keys: list[str], client: list[str], status: int | None) -> None:
    """Only a certificate of the right authority with an allowed name is accepted."""
    config = _config(tmp_path, "client_ca_file: ca.pem", *keys)
    context = _client(*client, authority=STRANGER if client == ["stranger"] else AUTHORITY)
    with serving(config_file=config) as server:
        assert _ask(server.url, context) == status


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_agrees(tmp_path: Path) -> None:
    """Another TLS client than Python's, which offers HTTP/2 as Prometheus does."""
    users = f"basic_auth_users: {{alice: {HASH}}}\n"
    ask = ["curl", "-sS", "--cacert", str(tmp_path / "ca.pem"), "-u", "alice:secret", "-o", "/dev/null"]
    with serving(config_file=_config(tmp_path, users=users)) as server:
        out = subprocess.run(
            [*ask, "-w", "%{http_code} %{http_version}", server.url], capture_output=True, text=True, check=True
        )
    assert out.stdout == "200 1.1"


def test_new_certificate_applies_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A certificate without its key changes nothing."""
    config = _config(tmp_path)
    with serving(config_file=config) as server:
        stranger = STRANGER.issue_cert("127.0.0.1")
        stranger.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        assert (_ask(server.url, _client()), _ask(server.url, _client(trusts=STRANGER))) == (200, None)
        assert caplog.text.count("web config reload failed") == 1
        stranger.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        assert (_ask(server.url, _client()), _ask(server.url, _client(trusts=STRANGER))) == (None, 200)
        (tmp_path / "cert.pem").unlink()
        assert _ask(server.url, _client(trusts=STRANGER)) == 200


def _serve_users(tmp_path: Path, text: str) -> str:
    (tmp_path / "web.yml").write_text(text)
    return str(tmp_path / "web.yml")


@pytest.mark.parametrize(
    ("login", "status"),
    [
        (None, 401),
        (_login("alice", "secret"), 200),
        (_login("alice", "Secret"), 401),
        (_login("alice", ""), 401),
        (_login("nobody", "secret"), 401),
        (_login("", ""), 401),
        (_login("alice", "x" * 5_000), 401),
        (_login("alice", "secret\0"), 401),
        ("basic " + _login("alice", "secret")[6:], 200),
        ("Bearer " + _login("alice", "secret")[6:], 401),
        ("Basic", 401),
        ("Basic ???", 401),
        ("Basic " + base64.b64encode(b"\xff\xfe:x").decode(), 401),
        ("Basic " + base64.b64encode(b"alice").decode(), 401),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/", "/-/healthy", "/nothing"])
def test_wrong_login_is_refused(tmp_path: Path, login: str | None, status: int, path: str) -> None:
    """Unknown paths look the same."""
    with serving(config_file=_serve_users(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")) as server:
        answer = get(server.url + path, login=login)
    assert answer.status == (404 if (path, status) == ("/nothing", 200) else status)
    assert answer.headers.get("www-authenticate", "").startswith("Basic realm=") == (status == 401)


def test_new_password_applies_at_once(tmp_path: Path) -> None:
    """Removed users are refused at their next request; a broken file changes nothing."""
    config = _serve_users(tmp_path, f"basic_auth_users: {{alice: {HASH}}}")
    with serving(config_file=config) as server:

        def ask(user: str, password: str) -> int:
            return get(server.url, login=_login(user, password)).status

        assert [ask("alice", "secret") for _ in range(2)] == [200, 200]
        changed = bcrypt.hashpw(b"changed", bcrypt.gensalt(4)).decode()
        _serve_users(tmp_path, f"basic_auth_users: {{alice: {changed}, bob: {HASH}}}")
        assert (ask("alice", "secret"), ask("alice", "changed"), ask("bob", "secret")) == (401, 200, 200)
        _serve_users(tmp_path, "basic_auth_users: 7")
        assert (ask("alice", "changed"), ask("nobody", "x")) == (200, 401)


def test_bad_logins_delay_no_good_ones(tmp_path: Path) -> None:
    """Checks run one at a time beside the event loop, in a short queue."""
    slow = bcrypt.hashpw(b"secret", bcrypt.gensalt(11)).decode()
    answers: list[Answer] = []
    with serving(config_file=_serve_users(tmp_path, f"basic_auth_users: {{alice: {slow}}}")) as server:
        good = _login("alice", "secret")
        assert get(f"{server.url}/metrics", login=good).status == 200
        bad = [
            threading.Thread(target=lambda: answers.append(get(server.url, login=_login("mallory", "x"))))
            for _ in range(20)
        ]
        for thread in bad:
            thread.start()
        wait_for(lambda: len(answers) > 0)
        began = time.monotonic()
        assert get(f"{server.url}/metrics", login=good).status == 200
        took = time.monotonic() - began
        for thread in bad:
            thread.join()
    assert took < 0.1
    assert {answer.status for answer in answers} == {401, 429}


async def _time(keeper: BasicAuth, user: str, users: dict[str, str]) -> float:
    began = time.perf_counter()
    assert await keeper.check(_login(user, "wrong").encode(), users, "c") is Decision.DENIED
    return time.perf_counter() - began


def test_unknown_user_takes_as_long() -> None:
    """The time reveals no user names."""
    users = {"alice": bcrypt.hashpw(b"secret", bcrypt.gensalt(9)).decode()}

    async def measure() -> tuple[float, float]:
        keeper = BasicAuth()
        try:
            return (
                min([await _time(keeper, "alice", users) for _ in range(5)]),
                min([await _time(keeper, "nobody", users) for _ in range(5)]),
            )
        finally:
            keeper.close()

    known, unknown = asyncio.run(measure())
    assert 0.5 < known / unknown < 2


def test_passwords_may_have_colons() -> None:
    """User names may not."""
    credentials = parse(b"Basic " + base64.b64encode(b"a:b:c"))
    assert credentials is not None
    assert credentials == ("a", b"b:c")
