"""Where spans are sent and how: endpoints, protocols, OpenTelemetry's variables, and what receivers answer."""

from __future__ import annotations

import builtins
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from qemu_migration_exporter.tracing.export.otlp import OtlpError, OtlpHttp, Reception, ask, otlp

from tests.support.paths import DATA
from tests.support.receiver import Answer, Receiver, receiving

IDLE = DATA / "qemu-7.2-log-idle.log"
SPANS = [ReadableSpan("migrate", context=SpanContext(1, 2, is_remote=False), start_time=1, end_time=2)]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of whoever runs the tests are not what is tested."""
    for name in ("ENDPOINT", "PROTOCOL", "TIMEOUT", "HEADERS", "COMPRESSION", "CERTIFICATE"):
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{name}", raising=False)
        monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_TRACES_{name}", raising=False)
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER"):
        monkeypatch.delenv(name, raising=False)


def _exporter(url: str | None, *, timeout: float | None = 2.0) -> OtlpHttp:
    exporter = otlp(url, timeout=timeout)
    assert isinstance(exporter, OtlpHttp)
    return exporter


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [("", "/v1/traces"), ("/", "/v1/traces"), ("/v1/traces", "/v1/traces"), ("/otlp/v1/traces", "/otlp/v1/traces")],
)
def test_an_endpoint_without_a_path_gets_the_standard_one(endpoint: str, path: str) -> None:
    """The base URL is enough, and a path of one's own is taken as it is."""
    with receiving(Receiver()) as receiver:
        ask(_exporter(receiver.url + endpoint), SPANS)

        assert receiver.paths == [path]


@pytest.mark.parametrize("prefix", ["OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_TRACES_"])
def test_the_otel_variables_name_endpoint_headers_and_compression(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    """Operators set their collectors up once, by OpenTelemetry's own variables, for all signals or for traces."""
    with receiving(Receiver()) as receiver:
        path = "/v1/traces" if "TRACES" in prefix else ""
        monkeypatch.setenv(f"{prefix}ENDPOINT", receiver.url + path)
        monkeypatch.setenv(f"{prefix}HEADERS", "x-tenant=blue")
        monkeypatch.setenv(f"{prefix}COMPRESSION", "gzip")

        assert ask(_exporter(None), SPANS).reception is Reception.TAKEN
        assert receiver.paths == ["/v1/traces"]
        assert receiver.headers[0]["x-tenant"] == "blue"
        assert receiver.headers[0]["content-encoding"] == "gzip"
        assert [span.name for span in receiver.spans] == ["migrate"]


def test_the_time_limit_of_a_variable_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that hangs is given up after it, and not after ours."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()

        answer = ask(_exporter(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=60), SPANS)

        assert answer.reception is Reception.LATER
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")])
def test_nothing_is_exported_unless_somebody_named_an_endpoint(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """No flag and no variable: no connection. Two of the variables overrule both."""
    assert otlp(None) is None

    monkeypatch.setenv(variable, value)
    assert otlp("http://127.0.0.1:4318") is None


def test_an_exporter_that_is_not_spoken_here_is_told_and_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """OpenTelemetry asks for a warning where a variable's value is not understood."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")

    assert otlp("http://127.0.0.1:4318") is not None
    assert "OTEL_TRACES_EXPORTER: expected otlp or none, got 'zipkin'" in caplog.text


@pytest.mark.parametrize(
    ("answer", "reception", "rejected"),
    [
        (Answer(200), Reception.TAKEN, 0),
        (Answer(202, b"{}", {"Content-Type": "application/json"}), Reception.TAKEN, 0),
        (Answer(200, b"\x0a\x02\x08\x05"), Reception.TAKEN, 5),
        (Answer(400), Reception.REFUSED, 0),
        (Answer(401), Reception.REFUSED, 0),
        (Answer(413), Reception.REFUSED, 0),
        (Answer(500), Reception.REFUSED, 0),
        # What answers is no receiver.
        (Answer(302, headers={"Location": "https://login.example/"}), Reception.REFUSED, 0),
        (Answer(200, b"<html>Welcome to nginx!</html>", {"Content-Type": "text/html"}), Reception.REFUSED, 0),
        (Answer(200, b"\xff\xff\xff garbage"), Reception.REFUSED, 0),
        (Answer(200, b"\0" * 1_000_000), Reception.REFUSED, 0),
    ],
)  # fmt: skip
def test_what_a_receiver_answers_is_understood(answer: Answer, reception: Reception, rejected: int) -> None:
    """A redirection and a page of a wrong server are no success, and some spans of a batch may be rejected."""
    with receiving(Receiver(lambda: answer)) as receiver:
        said = ask(_exporter(receiver.url), SPANS)

        assert (said.reception, said.rejected) == (reception, rejected)
        assert len(receiver.paths) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("wait", "seconds"),
    [("120", 120.0), ("in two minutes", 120.0), ("soon", None), ("-5", None)],
)
def test_a_receiver_that_asks_to_be_left_alone_says_for_how_long(status: int, wait: str, seconds: float | None) -> None:
    """In seconds or as a date; what is longer than the time limit is not waited for here."""
    date = formatdate(time.time() + 120, usegmt=True)
    answer = Answer(status, headers={"Retry-After": date if wait == "in two minutes" else wait})
    with receiving(Receiver(lambda: answer)) as receiver:
        said = ask(_exporter(receiver.url, timeout=0.1), SPANS)

        assert said.reception is Reception.LATER
        assert said.after_seconds == (seconds and pytest.approx(seconds, abs=10))


@contextmanager
def _speaking(data: bytes) -> Iterator[str]:
    """Accept connections and answer each with these bytes, whatever is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65_536)
                    connection.sendall(data)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "data", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\x00" * 100, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"]
)
def test_what_is_no_http_may_pass(data: bytes) -> None:
    """Another service has the port for now, or the receiver went away in the middle of its answer."""
    with _speaking(data) as url:
        assert ask(_exporter(url, timeout=0.3), SPANS).reception is Reception.LATER


def test_a_batch_that_cannot_be_made_a_request_is_refused_and_not_tried_for_ever() -> None:
    """OTLP has 64 bits for a time."""
    with receiving(Receiver()) as receiver:
        impossible = [ReadableSpan("x", context=SpanContext(1, 2, is_remote=False), start_time=2**70, end_time=1)]

        assert ask(_exporter(receiver.url), impossible).reception is Reception.REFUSED
        assert receiver.paths == []


def test_a_protocol_that_is_not_spoken_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry has three."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")

    with pytest.raises(OtlpError, match=r"expected http/protobuf or grpc, got 'http/json'"):
        otlp("http://127.0.0.1:4318")


@pytest.mark.parametrize("endpoint", ["localhost:4318", "http://", "/v1/traces", "ftp://collector/"])
def test_an_endpoint_that_is_no_url_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Of a flag and of a variable; spans that wait for ever would be the worse answer."""
    with pytest.raises(OtlpError, match=r"expected a URL such as http://localhost:4318, got"):
        otlp(endpoint)

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
    with pytest.raises(OtlpError, match=r"expected a URL such as http://localhost:4318, got"):
        otlp(None)


def test_grpc_that_is_not_installed_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an extra: it brings a large library that most do not need."""
    real = builtins.__import__

    def without_grpc(name: str, *arguments: Any, **more: Any) -> object:  # noqa: ANN401
        if name.startswith("opentelemetry.exporter.otlp.proto.grpc"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_grpc)

    with pytest.raises(OtlpError, match=r"pip install 'qemu-migration-exporter\[grpc\]'"):
        otlp("http://127.0.0.1:4317", "grpc")


@pytest.mark.parametrize(
    "command", [["run", "--source=x.log", "--web.listen-address=127.0.0.1:0"], ["replay", str(IDLE)]]
)
def test_a_protocol_that_is_not_spoken_ends_the_program_at_once(command: list[str]) -> None:
    """With a message and status 1."""
    done = subprocess.run(
        [sys.executable, "-m", "qemu_migration_exporter", *command, "--otlp.endpoint=http://127.0.0.1:1"],
        env={"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "avian"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert "got 'avian'" in done.stderr
    assert "Traceback" not in done.stderr
