"""`attach`: trace events of running virtual machines, switched on or off through libvirt."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's flags and arguments."""
    parser.add_argument("vms", nargs="*", metavar="VM", help="names or UUIDs of running machines")
    add = parser.add_argument
    add("--all", action="store_true", help="every running machine")
    add("--follow", action="store_true", help="keep running, and attach to machines that start or arrive later")
    add("--detach", action="store_true", help="switch the events off instead")
    add("--dry-run", action="store_true", help="print the virsh commands and run none of them")
    add("--connect", metavar="URI", help="libvirt's connection URI; default virsh's own")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command; return the exit status."""
    from qemu_migration_exporter.attach.command import attach  # noqa: PLC0415 - not for --help

    return attach(arguments)
