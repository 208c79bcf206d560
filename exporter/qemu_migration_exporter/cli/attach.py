"""`attach`: trace events of running virtual machines, switched on or off through libvirt."""

from __future__ import annotations

import argparse

from qemu_migration_exporter.attach.arguments import add_arguments

__all__ = ["add_arguments", "execute"]


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.attach.command import attach  # noqa: PLC0415 - not for --help

    return attach(arguments)
