"""Print the completions for a shell, made from the command line's own parser: `python -m tools.completions bash`."""

from __future__ import annotations

import sys

import shtab
from qemu_migration_exporter.cli import build_parser


def text(shell: str) -> str:
    """Return the script for bash, zsh or fish."""
    return str(shtab.complete(build_parser(), shell=shell))


if __name__ == "__main__":
    sys.stdout.write(text(sys.argv[1]))
