"""Files that ship beside the code: rules, runbooks, dashboards, units, example configuration.

The wheel carries them as data files in `share/qemu-migration-exporter`. In an editable installation they are read from
the checkout, by the same names: `[tool.setuptools.data-files]` in pyproject.toml maps one to the other.
"""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import qemu_migration_exporter
from qemu_migration_exporter.ops.errors import UserError

_SHARE: Final = Path("share", "qemu-migration-exporter")

#: Folder as written → folder of a checkout.
FOLDERS: Final[Mapping[str, str]] = {
    "config": "config",
    "config/rules": "config/rules",
    "config/runbooks": "config/runbooks",
    "config/targets": "config/targets",
    "grafana/dashboards": "grafana/dashboards",
    "grafana/provisioning/dashboards": "grafana/provisioning/dashboards",
    "grafana/provisioning/datasources": "grafana/provisioning/datasources",
    "systemd": "deploy/systemd",
    "systemd/qemu-migration-exporter.service.d": "deploy/systemd/qemu-migration-exporter.service.d",
}

#: Shipped files of these folders, without documents about the checkout itself.
_SUFFIXES: Final = frozenset({".yml", ".json", ".service", ".conf", ".md"})


def write(directory: Path) -> Iterator[Path]:
    """Copy every shipped file below a directory; yield the new paths.

    Raises:
        UserError: The files are not installed.
        OSError: A file cannot be written.
    """
    for folder, files in _found().items():
        target = directory / folder
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copyfile(file, target / file.name)
            yield target / file.name


def shipped(folder: Path) -> list[Path]:
    """Return the shipped files of a folder, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name != "README.md")


def _found() -> Mapping[str, list[Path]]:
    package = Path(qemu_migration_exporter.__file__).parent
    checkout = package.parent.parent
    if (checkout / "pyproject.toml").exists():
        return {folder: shipped(checkout / origin) for folder, origin in FOLDERS.items()}
    # An environment; `pip install --target`; a distribution's package.
    for root in (Path(sysconfig.get_path("data")), package.parent, Path("/usr")):
        if (root / _SHARE / "config").is_dir():
            return {folder: shipped(root / _SHARE / folder) for folder in FOLDERS}
    raise UserError(f"expected the files in {package.parent / _SHARE}: they were not installed")
