"""Print the man page, made from the command line's own parser: `python -m tools.manpage`."""

from __future__ import annotations

import sys

from argparse_manpage.manpage import Manpage  # type: ignore[import-untyped]
from qemu_migration_exporter.cli import build_parser


def text() -> str:
    """Return the page in roff."""
    parser = build_parser()
    parser.man_short_description = parser.description  # type: ignore[attr-defined]
    return str(Manpage(parser)).replace("Generated Python Manual", "User Commands")


if __name__ == "__main__":
    sys.stdout.write(text())
