"""The files that ship, from a checkout and from a wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from qemu_migration_exporter.ops.shipped_files import FOLDERS, shipped, write

from tests.support.paths import ROOT

_SHARE = "share/qemu-migration-exporter"


def test_wheel_carries_every_shipped_file() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["data-files"]

    for folder, origin in FOLDERS.items():
        carried = {path for glob in settings[f"{_SHARE}/{folder}"] for path in ROOT.glob(glob)}
        assert set(shipped(ROOT / origin)) == carried
    assert {f"{_SHARE}/{folder}" for folder in FOLDERS} == set(settings)


def test_checkout_files_are_written(tmp_path: Path) -> None:
    written = {str(path.relative_to(tmp_path)) for path in write(tmp_path)}

    assert {
        "config/exporter.yml",
        "config/rules/alerts.yml",
        "config/runbooks/QemuMigrationNotConverging.md",
        "grafana/dashboards/fleet.json",
        "systemd/qemu-migration-exporter.service",
    } <= written


def test_wheel_files_equal_checkout(tmp_path: Path) -> None:
    """Built, installed into a folder of its own, and run from there."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    lib = tmp_path / "lib"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-build-isolation", "--no-compile", f"--target={lib}", str(ROOT)], check=True
    )
    program = "import pathlib, sys; from qemu_migration_exporter.ops.shipped_files import write"
    program += "; print(len(list(write(pathlib.Path(sys.argv[1])))))"

    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")],
        env={"PYTHONPATH": str(lib)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert f"{len(list(write(tmp_path / 'checkout')))}\n" == done.stdout
