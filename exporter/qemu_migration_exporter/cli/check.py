"""`check`: the effective configuration of a file, or every mistake in it."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    parser.add_argument("file", metavar="FILE", help="a configuration file")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.config import schema  # noqa: PLC0415 - not for --help

    sys.stdout.write(schema.dump(schema.load(arguments.file)))
    return 0
