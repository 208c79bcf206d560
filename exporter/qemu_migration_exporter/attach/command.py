"""The `attach` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress

from qemu_migration_exporter.attach.attacher import Attacher, Outcome
from qemu_migration_exporter.attach.follow import follow
from qemu_migration_exporter.attach.virsh import Domain, Virsh, VirshError
from qemu_migration_exporter.ops.sanitize import escape_control


def attach(arguments: argparse.Namespace) -> int:
    """Run the command; return its exit status."""
    if arguments.all == bool(arguments.vms):
        return _usage("expected either names of machines or --all")
    if arguments.follow and (arguments.detach or arguments.dry_run):
        return _usage("--follow goes with neither --detach nor --dry-run")
    virsh = Virsh(arguments.connect)
    attacher = Attacher(virsh, enable=not arguments.detach)
    try:
        if arguments.dry_run:
            keys = arguments.vms or [domain.name for domain in virsh.running()]
            sys.stdout.writelines(f"{command}\n" for key in keys for command in attacher.commands(key))
            return 0
        if arguments.follow:
            with suppress(KeyboardInterrupt):  # the way to end it, which for a unit is no failure
                follow(virsh, attacher, only=frozenset(arguments.vms))
            return 0
        return _once(virsh, attacher, arguments.vms)
    except VirshError as error:
        sys.stderr.write(f"qemu-migration-exporter attach: {escape_control(str(error))}\n")
        return 1


def _once(virsh: Virsh, attacher: Attacher, names: Sequence[str]) -> int:
    """Apply the change to every machine, and continue after an error."""
    failed = False
    domains: list[Domain] = [] if names else virsh.running()
    for name in names:
        try:
            domain = virsh.describe(name)
            if domain is None:
                raise VirshError("is not running; events are enabled in a running QEMU")  # noqa: TRY301
            domains.append(domain)
        except VirshError as error:
            failed = True
            sys.stderr.write(f"{escape_control(name)}: {escape_control(str(error))}\n")
    if not names and not domains:
        sys.stdout.write("no machine is running\n")
    for domain in domains:
        try:
            sys.stdout.write(f"{escape_control(domain.name)}: {_described(attacher.apply(domain))}\n")
        except VirshError as error:
            failed = True
            sys.stderr.write(f"{escape_control(domain.name)}: {escape_control(str(error))}\n")
    return int(failed)


def _described(outcome: Outcome) -> str:
    if not outcome.events:
        return "no migration event is enabled"
    return f"{outcome.events} migration events are enabled, until its QEMU ends"


def _usage(message: str) -> int:
    sys.stderr.write(f"qemu-migration-exporter attach: {message}\n")
    return 2
