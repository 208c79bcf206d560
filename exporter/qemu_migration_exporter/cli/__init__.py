"""Command line: arguments → calls → exit status.

`commands.COMMANDS` lists the commands. A command is a module of this package with `add_arguments(parser)` and
`execute(arguments)`. The module is imported only when its command runs, and imports its dependencies inside its
functions. So `--help` only loads argparse, and a daemon that runs for months never loads the report layouts or the
reader of binaries.
"""

from qemu_migration_exporter.cli.entry import build_parser, main

__all__ = ["build_parser", "main"]
