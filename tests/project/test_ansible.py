"""The Ansible role, held to ansible-lint and to the program that it configures."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from qemu_migration_exporter.config.schema import load

from tests.support.paths import ROOT

_ANSIBLE = ROOT / "deploy" / "ansible"
_ROLE = _ANSIBLE / "roles" / "qemu_migration_exporter"


def _yaml(path: Path) -> Any:  # noqa: ANN401 - whatever YAML holds
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _example() -> dict[str, Any]:
    (play,) = _yaml(_ANSIBLE / "playbook.yml")
    variables: dict[str, Any] = play["roles"][0]["vars"]
    return variables


def test_role_passes_the_production_profile(tmp_path: Path) -> None:
    """ansible-lint brings Ansible along, so it is used where it is installed and required nowhere."""
    if shutil.which("ansible-lint") is None:
        pytest.skip("ansible-lint is not installed")
    role = shutil.copytree(_ANSIBLE, tmp_path / "ansible")
    lint = ["ansible-lint", "--offline", "--profile=production", "--nocolor", "."]
    done = subprocess.run(lint, cwd=role, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("variables", [_yaml(_ROLE / "defaults" / "main.yml"), _example()], ids=["default", "example"])
def test_configuration_of_the_role_is_valid(variables: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "exporter.yml"
    path.write_text(yaml.safe_dump(variables["qemu_migration_exporter_config"]), encoding="utf-8")

    assert load(str(path)).state_file == "/var/lib/qemu-migration-exporter/state"


def test_variables_of_the_role_are_documented() -> None:
    """Each of the specification has a row, and a default unless it is required."""
    options = _yaml(_ROLE / "meta" / "argument_specs.yml")["argument_specs"]["main"]["options"]
    readme = (_ROLE / "README.md").read_text(encoding="utf-8")

    assert set(re.findall(r"(?m)^\| `(\w+)`", readme)) == set(options)
    assert set(_yaml(_ROLE / "defaults" / "main.yml")) == {
        name for name, option in options.items() if not option.get("required")
    }
    assert set(_example()) <= set(options)
