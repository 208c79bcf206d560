"""Command line: arguments → calls → exit status, and nothing else.

`commands.COMMANDS` lists the commands. A command is a module beside it with `add_arguments(parser)` and
`execute(arguments)`; it is imported only if it was asked for, and imports what it needs itself. So `--help` costs no
more than argparse, and a daemon that runs for months never loads the report layouts or the reader of binaries.
"""

from qemu_migration_exporter.cli.entry import build_parser, main

__all__ = ["build_parser", "main"]
