"""Paths of the project that tests read."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DATA: Final = ROOT / "tests" / "data"
PACKAGE: Final = ROOT / "exporter" / "qemu_migration_exporter"
