"""Entry point: it finds and runs a command, and converts the result to an exit status."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Collection, Sequence
from typing import NoReturn

import qemu_migration_exporter
from qemu_migration_exporter.cli.commands import COMMANDS

LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("logfmt", "json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 after success, 1 after a failure, 2 for a mistake on the command line.
    """
    words = sys.argv[1:] if argv is None else argv
    try:
        arguments = build_parser(words).parse_args(words)
    except SystemExit as stop:  # argparse's --help and its complaints
        return stop.code if isinstance(stop.code, int) else 2

    from qemu_migration_exporter.ops import logs  # noqa: PLC0415 - --help logs nothing
    from qemu_migration_exporter.ops.ascii_output import use_ascii  # noqa: PLC0415
    from qemu_migration_exporter.ops.errors import UserError  # noqa: PLC0415

    logs.set_up(arguments.log_level, arguments.log_format)
    signal.signal(signal.SIGTERM, _interrupt)
    if isinstance(sys.stdout, io.TextIOWrapper):
        use_ascii(sys.stdout)
    (command,) = (command for command in COMMANDS if command.name == arguments.command)
    try:
        return command.load().execute(arguments)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:  # as asked
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of standard output has gone; keeps the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser(words: Collection[str] | None = None) -> argparse.ArgumentParser:
    """Build the parser; commands that are not in `words` are listed without arguments. None includes all commands."""
    parser = argparse.ArgumentParser(
        prog="qemu-migration-exporter",
        description="Turn QEMU's live-migration trace events into metrics, traces and a verdict.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {qemu_migration_exporter.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        added = commands.add_parser(
            command.name, help=command.help, description=command.description, allow_abbrev=False
        )
        if words is None or command.name in words:
            command.load().add_arguments(added)
        _add_log_arguments(added)
    return parser


def _add_log_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--log.level", dest="log_level", choices=LOG_LEVELS, default="info", help="(default: %(default)s)")
    add("--log.format", dest="log_format", choices=LOG_FORMATS, default="logfmt", help="(default: %(default)s)")


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
