"""`files`: copies of the shipped files in a directory."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write; existing files are replaced")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.ops.errors import UserError  # noqa: PLC0415 - not for --help
    from qemu_migration_exporter.ops.shipped_files import write  # noqa: PLC0415

    try:
        for path in write(arguments.directory):
            sys.stdout.write(f"{path}\n")
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}") from error
    return 0
