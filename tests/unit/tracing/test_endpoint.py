"""Endpoint of the spans: the configuration, and OpenTelemetry's variables."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest
from qemu_migration_exporter.tracing.export.endpoint import GRPC, Endpoint, OtlpError, connect, find_endpoint

from tests.support.paths import DATA
from tests.support.patience import patience

IDLE = DATA / "qemu-7.2-log-idle.log"
URL = "http://127.0.0.1:4318"


def _found(url: str | None = URL, protocol: str | None = None, timeout: float | None = None) -> Endpoint:
    endpoint = find_endpoint(url, protocol, timeout)
    assert endpoint is not None
    return endpoint


@pytest.mark.parametrize(
    ("configured", "url"),
    [
        (URL, f"{URL}/v1/traces"),
        (f"{URL}/", f"{URL}/v1/traces"),
        (f"{URL}/v1/traces", f"{URL}/v1/traces"),
        (f"{URL}/otlp/v1/traces", f"{URL}/otlp/v1/traces"),
    ],
)
def test_endpoint_gets_standard_path(configured: str, url: str) -> None:
    assert _found(configured).url == url


@pytest.mark.parametrize(
    ("variable", "value", "url"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", URL, f"{URL}/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", f"{URL}/otlp/", f"{URL}/otlp/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{URL}/v1/traces", f"{URL}/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", URL, URL),
    ],
)
def test_variables_name_endpoint(otel: pytest.MonkeyPatch, variable: str, value: str, url: str) -> None:
    """The variable of all signals is a base URL, the one of traces a full one."""
    otel.setenv(variable, value)

    assert _found(None).url == url


@pytest.mark.parametrize("prefix", ["OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"])
def test_variables_set_everything_else(otel: pytest.MonkeyPatch, prefix: str) -> None:
    for name, value in {
        "HEADERS": "X-Tenant=blue%20sky, authorization=Basic a=b",
        "COMPRESSION": "GZIP",
        "TIMEOUT": "0.5",
        "CERTIFICATE": "ca.pem",
        "CLIENT_CERTIFICATE": "client.pem",
        "CLIENT_KEY": "client.key",
        "INSECURE": "TRUE",
        "PROTOCOL": "grpc",
    }.items():
        otel.setenv(prefix + name, value)

    assert _found("collector:4317", timeout=60) == Endpoint(
        url="collector:4317",
        protocol=GRPC,
        timeout_seconds=0.5,
        headers={"x-tenant": "blue sky", "authorization": "Basic a=b"},
        compression="gzip",
        certificate="ca.pem",
        client_certificate="client.pem",
        client_key="client.key",
        is_insecure=True,
    )


def test_traces_variable_wins(otel: pytest.MonkeyPatch) -> None:
    otel.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    otel.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2")

    assert _found().timeout_seconds == 2


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 10.0), (600.0, 600.0)])
def test_default_timeout_is_callers(timeout: float | None, seconds: float) -> None:
    assert _found(timeout=timeout).timeout_seconds == seconds


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_no_endpoint_unless_configured(otel: pytest.MonkeyPatch, variable: str, value: str) -> None:
    """Without a flag or a variable nothing connects; two variables overrule both."""
    assert find_endpoint(None) is None

    otel.setenv(variable, value)
    assert find_endpoint(URL) is None


def test_unknown_exporter_is_ignored(otel: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """OpenTelemetry asks for a warning if the value of a variable is not understood."""
    otel.setenv("OTEL_TRACES_EXPORTER", "zipkin")

    assert find_endpoint(URL) is not None
    assert "OTEL_TRACES_EXPORTER ignored: expected otlp or none, got 'zipkin'" in caplog.text


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PROTOCOL", "http/json", "OTLP protocol: expected http/protobuf or grpc, got 'http/json'"),
        ("COMPRESSION", "zstd", "OTLP compression: expected none or gzip or deflate, got 'zstd'"),
        ("TIMEOUT", "soon", "OTEL_EXPORTER_OTLP_TIMEOUT: expected seconds, got 'soon'"),
        ("HEADERS", "tenant", "OTEL_EXPORTER_OTLP_HEADERS: expected name=value, got 'tenant'"),
        ("HEADERS", "=blue", "OTEL_EXPORTER_OTLP_HEADERS: expected name=value, got '=blue'"),
    ],
)
def test_unsupported_setting_is_error(otel: pytest.MonkeyPatch, variable: str, value: str, message: str) -> None:
    otel.setenv(f"OTEL_EXPORTER_OTLP_{variable}", value)

    with pytest.raises(OtlpError) as error:
        find_endpoint(URL)
    assert str(error.value) == message


@pytest.mark.parametrize("endpoint", ["localhost:4318", "http://", "/v1/traces", "ftp://collector/"])
def test_endpoint_must_be_url(otel: pytest.MonkeyPatch, endpoint: str) -> None:
    """Spans that wait for ever would be worse."""
    with pytest.raises(OtlpError, match=r"expected a URL such as http://localhost:4318, got"):
        find_endpoint(endpoint)

    otel.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
    with pytest.raises(OtlpError, match=r"expected a URL such as http://localhost:4318, got"):
        find_endpoint(None)


def test_grpc_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra, because it brings a large library that most hosts do not need."""
    real = builtins.__import__

    def without_grpc(name: str, *arguments: Any, **more: Any) -> object:  # noqa: ANN401
        if name == "grpc":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.delitem(sys.modules, "qemu_migration_exporter.tracing.export.otlp_grpc", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_grpc)

    with pytest.raises(OtlpError, match=r"pip install 'qemu-migration-exporter\[grpc\]'"):
        connect(_found("http://127.0.0.1:4317", GRPC))


@pytest.mark.parametrize(
    "command", [["run", "--source=x.log", "--web.listen-address=127.0.0.1:0"], ["replay", str(IDLE)]]
)
def test_unsupported_protocol_is_an_error(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "qemu_migration_exporter", *command, "--otlp.endpoint=http://127.0.0.1:1"],
        env={"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "avian", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=patience(30),
        check=False,
    )

    assert done.returncode == 1
    assert "got 'avian'" in done.stderr
    assert "Traceback" not in done.stderr
