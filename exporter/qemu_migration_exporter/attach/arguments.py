"""Flags of the `attach` command, apart from its code so that `--help` imports little."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `attach`."""
    parser.add_argument("vms", nargs="*", metavar="VM", help="names or UUIDs of running machines")
    add = parser.add_argument
    add("--all", action="store_true", help="every running machine")
    add("--follow", action="store_true", help="keep running, and attach to machines that start or arrive later")
    add("--detach", action="store_true", help="switch the events off instead")
    add("--dry-run", action="store_true", help="print the virsh commands and run none of them")
    add("--connect", metavar="URI", help="libvirt's connection URI; default virsh's own")
