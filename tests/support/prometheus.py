"""A real Prometheus and a real Alertmanager with the shipped configuration, at the pace and the addresses of a test."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.patience import patience
from tests.support.receiver import Answer, Receiver

CONFIG: Final = ROOT / "config"


def need(*commands: str) -> None:
    """Skip the test where a real tool is missing; where `CI` is set the tool has to be there."""
    missing = [command for command in commands if shutil.which(command) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not installed: {', '.join(missing)}")


class Prometheus:
    """A running Prometheus, and questions to it; while it starts it knows nothing."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://{address}"
        self.process = process

    def ask(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """Ask its API for a list; a refused query is a mistake of the test."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:
                data = json.loads(answer.read())["data"]
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.SERVICE_UNAVAILABLE:
                return []
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error
        except urllib.error.URLError:
            return []
        result: list[dict[str, Any]] = data["result"] if isinstance(data, dict) else data
        return result

    def value(self, query: str) -> float | None:
        """Return the value of the first sample, None where there is none."""
        samples = self.ask("query", query=query)
        return float(samples[0]["value"][1]) if samples else None

    def over_time(self, query: str, start: float, end: float) -> list[dict[str, Any]]:
        """Return the series between two times, a value a second."""
        return self.ask("query_range", query=query, start=str(start), end=str(end), step="1")


class Webhook(Receiver):
    """Receiver of Alertmanager's notifications: one alert after the other, with its labels, annotations and status."""

    def __init__(self) -> None:
        super().__init__()
        self.alerts: list[dict[str, Any]] = []

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:  # noqa: ARG002 - as its kind
        """Record one notification."""
        self.alerts += json.loads(body)["alerts"]
        return Answer(200)


@contextmanager
def scraping(directory: Path, target: str, alertmanager: str | None = None) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes a target and looks at its rules every second.

    Args:
        directory: For its files.
        target: HOST:PORT.
        alertmanager: HOST:PORT, None for a Prometheus that tells nobody.
    """
    address = free_address()
    config = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
    config["global"] = dict.fromkeys(config["global"], "1s")
    config["rule_files"] = [str(CONFIG / name) for name in config["rule_files"]]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    config["alerting"]["alertmanagers"][0]["static_configs"] = [{"targets": [alertmanager] if alertmanager else []}]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    arguments = ["--storage.tsdb.path", str(directory / "tsdb"), "--enable-feature=exemplar-storage"]
    started = _process(directory, "prometheus", f"--config.file={path}", f"--web.listen-address={address}", *arguments)
    with started as process:
        yield Prometheus(address, process)


@contextmanager
def delivering(directory: Path, webhook: str) -> Iterator[str]:
    """Run an Alertmanager that delivers to a URL within a second; give its HOST:PORT."""
    address = free_address()
    config = yaml.safe_load((CONFIG / "alertmanager.yml").read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route.update(group_wait="0s", group_interval="1s")
    config["receivers"][0]["webhook_configs"][0]["url"] = webhook
    path = directory / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    # Without an address of a cluster it speaks to nobody.
    arguments = ["--storage.path", str(directory / "alertmanager"), "--cluster.listen-address="]
    command = "prometheus-alertmanager" if shutil.which("prometheus-alertmanager") else "alertmanager"
    with _process(directory, command, f"--config.file={path}", f"--web.listen-address={address}", *arguments):
        yield address


@contextmanager
def _process(directory: Path, command: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / f"{command}.log").open("wb") as log:
        process = subprocess.Popen([command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=patience(20))


def free_address() -> str:
    """Find HOST:PORT for a program that cannot say which port it took."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


def check_answers(
    series: Iterable[tuple[str, float]],
    answers: Iterable[tuple[str, list[dict[str, object]]]],
    directory: Path,
    *,
    at_seconds: int = 0,
) -> None:
    """Evaluate expressions over series of one value with `promtool test rules`; skip the test if there is none.

    Args:
        series: Series with their values.
        answers: Expressions with their expected samples, each with `labels` and `value`.
        directory: For the file that promtool reads.
        at_seconds: The present.
    """
    need("promtool")
    tests = [{"expr": expr, "eval_time": f"{at_seconds}s", "exp_samples": samples} for expr, samples in answers]
    inputs = [{"series": name, "values": f"{value}+0x{at_seconds}"} for name, value in series]
    file = directory / "answers.yml"
    file.write_text(yaml.safe_dump({"tests": [{"interval": "1s", "input_series": inputs, "promql_expr_test": tests}]}))

    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
