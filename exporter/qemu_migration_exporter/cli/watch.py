"""`watch`: a live view of migrations on a terminal."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    parser.add_argument(
        "sources",
        nargs="*",
        metavar="SOURCE|URL",
        help="files, patterns, FIFOs or sockets to read, or the URL of a running daemon"
        " (default: /var/log/libvirt/qemu/*.log)",
    )
    parser.add_argument(
        "--http.config.file",
        dest="http_config_file",
        metavar="FILE",
        help="users and certificates for a daemon's URL, as promtool and amtool read them;"
        " a user can also be in the URL: https://USER:PASSWORD@HOST:9871",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.watch.command import watch  # noqa: PLC0415 - not for --help

    return watch(arguments.sources, arguments.http_config_file)
