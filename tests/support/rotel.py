"""Rotel, an OpenTelemetry collector of another make, as a real process: it takes OTLP and passes it on."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.patience import patience
from tests.support.qemu import wait_for


class Rotel:
    """A collector that is started and stopped, at the same two addresses each time.

    Args:
        directory: For its log.
        target: Where it sends what it gets, by OTLP over HTTP.
    """

    def __init__(self, directory: Path, target: str) -> None:
        self._directory = directory
        self._target = target
        self._process: subprocess.Popen[bytes] | None = None
        self._http, self._grpc = free_port(), free_port()
        self.http_url = f"http://127.0.0.1:{self._http}"
        self.grpc_url = f"http://127.0.0.1:{self._grpc}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it, until it is stopped or the test is over."""
        spec = importlib.util.find_spec("rotel")
        assert spec is not None
        assert spec.origin is not None
        with (self._directory / "rotel.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    Path(spec.origin).with_name("rotel-agent"), "start",
                    "--otlp-http-endpoint", f"127.0.0.1:{self._http}",
                    "--otlp-grpc-endpoint", f"127.0.0.1:{self._grpc}",
                    "--otlp-receiver-metrics-disabled", "--otlp-receiver-logs-disabled",
                    "--exporter", "otlp", "--otlp-exporter-protocol", "http", "--otlp-exporter-endpoint", self._target,
                    "--pid-file", f"{self._directory}/rotel.pid",
                ],
                stdout=log,
                stderr=log,
            )  # fmt: skip
        try:
            wait_for(lambda: _listens(self._http) and _listens(self._grpc), 20, "rotel listens")
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Terminate the collector, and wait for its end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=patience(20))
            self._process = None


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
