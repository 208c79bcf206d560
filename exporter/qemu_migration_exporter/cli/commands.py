"""Table of the commands; a new command is a row here and a module of this package."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Final, NamedTuple, Protocol, cast


class CommandModule(Protocol):
    """Module of one command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's flags and arguments."""
        ...

    def execute(self, arguments: argparse.Namespace) -> int:
        """Run the command; return the exit status."""
        ...


class Command(NamedTuple):
    """A command's row: its name and help texts."""

    name: str
    help: str
    description: str

    def load(self) -> CommandModule:
        """Import the command's module, which has the command's name."""
        return cast("CommandModule", import_module(f"qemu_migration_exporter.cli.{self.name}"))


COMMANDS: Final = (
    Command(
        "run",
        "follow live streams, serve metrics and send spans",
        "Follow live streams until SIGTERM, serve metrics and send spans. SIGHUP reloads the configuration.",
    ),
    Command(
        "replay",
        "run recordings through the pipeline and print a report",
        "Run recordings of trace events through the pipeline and print a report.",
    ),
    Command(
        "watch",
        "watch migrations live on a terminal",
        "Watch migrations live on a terminal: running ones with their sentence and advice first, recent ones below."
        " It reads sources itself, as `run` does, or asks a running daemon by its URL."
        " Keys: arrows select, enter opens the full report, q quits.",
    ),
    Command(
        "attach",
        "switch the trace events of running machines on, through libvirt",
        "Switch the migration trace events of running machines on, or off with --detach, through libvirt's virsh."
        " It changes the state of trace events and nothing else. The events end with the QEMU process;"
        " --all --follow switches them on in every machine that starts or arrives.",
    ),
    Command(
        "files",
        "write the rules, dashboards, units and examples that ship with the program",
        "Write what ships with the program below a directory: example configuration, alert rules with runbooks,"
        " Grafana dashboards and systemd units.",
    ),
    Command(
        "check",
        "check a configuration file",
        "Print the effective configuration of a file, defaults included, or every mistake in it with its place.",
    ),
    Command(
        "probe",
        "print a probe that fits a QEMU binary",
        "Print a ready script for bpftrace or SystemTap, made for the probes that a QEMU binary has, or the events of"
        " QEMU's own log that are safe to enable.",
    ),
)
