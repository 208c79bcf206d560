"""Start-up: a command loads what it needs and nothing else; on a hypervisor, memory is the guests'."""

from __future__ import annotations

import json
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
