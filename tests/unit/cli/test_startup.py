"""Start-up: a command loads only the packages it needs; on a hypervisor, memory is the guests'."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

_LIST = """
import json, sys
from qemu_migration_exporter.cli import main
status = main(sys.argv[1:])
sys.stderr.write(json.dumps([status, sorted({name.partition(".")[0] for name in sys.modules})]))
"""

#: Large packages of ours or of others; each takes 10 ms and 1 MiB at least.
HEAVY = {
    "asyncio",
    "bcrypt",
    "google",
    "jinja2",
    "opentelemetry",
    "prometheus_client",
    "pydantic",
    "requests",
    "rich",
    "ssl",
}
HEAVY |= {"uvicorn", "yaml"}


@pytest.mark.parametrize(
    ("arguments", "needed"),
    [
        (["--help"], set()),
        (["--version"], set()),
        (["run", "--help"], set()),
        (["replay", "--help"], set()),
        (["check", str(ROOT / "config" / "exporter.yml")], {"pydantic", "yaml"}),
        (["probe", "log"], set()),
    ],
)
def test_command_loads_only_what_it_needs(tmp_path: Path, arguments: list[str], needed: set[str]) -> None:
    assert _loaded(tmp_path, arguments) & HEAVY == needed


def _loaded(tmp_path: Path, arguments: list[str]) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", _LIST, *arguments], capture_output=True, check=True, cwd=tmp_path, text=True
    )
    status, modules = json.loads(result.stderr.splitlines()[-1])
    assert status == 0, result.stderr
    return set(modules)


_DAEMON = """
import json, sys
from qemu_migration_exporter.app import App, live_sinks
from qemu_migration_exporter.config.schema import Config
from qemu_migration_exporter.daemon import Daemon
import qemu_migration_exporter.run
config = Config()
sinks = live_sinks(config)
daemon = Daemon(config, sinks, reload=lambda: config)
app = App(config=config, sinks=sinks, streams=daemon.streams, is_ready=lambda: True)
server = app.server("127.0.0.1:0", app.registry())
server.stop()
sys.stderr.write(json.dumps([0, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_no_receiver_loads_no_telemetry(tmp_path: Path) -> None:
    """Spans, reports, pages and logins are loaded where they are used; on 100,000 hosts each MiB is 100 GiB."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    result = subprocess.run(
        [sys.executable, "-c", _DAEMON], capture_output=True, check=True, cwd=tmp_path, env=environment, text=True
    )

    loaded = set(json.loads(result.stderr.splitlines()[-1])[1])
    assert not loaded & {"bcrypt", "google", "grpc", "jinja2", "opentelemetry", "requests"}
