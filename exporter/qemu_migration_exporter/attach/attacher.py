"""Enable and disable the migration trace events of one machine, and verify the result.

Every `trace-event-set-state` command has a glob or an exact name, and QEMU replies with an error for an exact name that
it does not have. These errors are expected, because the list of patterns covers every QEMU release. The result is
taken from the states that QEMU reports afterwards, not from the replies.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, NamedTuple

from qemu_migration_exporter.attach.virsh import Domain, Virsh, VirshError
from qemu_migration_exporter.probes import ProbeError, binary
from qemu_migration_exporter.probes.log import PATTERNS

_READ_STATES: Final[dict[str, Any]] = {"execute": "trace-event-get-state", "arguments": {"name": "*"}}


class Outcome(NamedTuple):
    """The events of one machine after a change.

    Attributes:
        events: Number of migration events that are enabled now.
        missing: Patterns without an event in this QEMU.
    """

    domain: Domain
    events: int
    missing: tuple[str, ...]


class Attacher:
    """Switches the events of machines on (`enable`) or off."""

    def __init__(self, virsh: Virsh, *, enable: bool) -> None:
        self._virsh = virsh
        self._enable = enable

    def apply(self, domain: Domain) -> Outcome:
        """Switch the events of a machine and count those that are enabled afterwards.

        Raises:
            VirshError: libvirt or QEMU refused, or this QEMU cannot write events to its log.
        """
        if self._enable:
            self._require_log_backend(domain)
        *_, states = self._virsh.monitor(domain, [*self._changes(), _READ_STATES])
        if "error" in states:
            raise VirshError(f"QEMU lists no trace events: {states['error'].get('desc', states['error'])}")
        ours = [event for event in states["return"] if any(fnmatchcase(event["name"], glob) for glob in PATTERNS)]
        enabled = sum(event["state"] == "enabled" for event in ours)
        if self._enable and not enabled:
            raise VirshError("QEMU enabled none of the events: its trace events are compiled out")
        names = [event["name"] for event in ours]
        missing = tuple(glob for glob in PATTERNS if not any(fnmatchcase(name, glob) for name in names))
        return Outcome(domain, enabled, missing)

    def commands(self, key: str) -> Iterator[str]:
        """Yield the equivalent shell commands, for `--dry-run`."""
        for change in self._changes():
            yield f"{' '.join(self._virsh.command())} {self._virsh.monitor_line(key, change)}"

    def _changes(self) -> list[dict[str, Any]]:
        return [
            {
                "execute": "trace-event-set-state",
                "arguments": {"name": pattern, "enable": self._enable, "ignore-unavailable": True},
            }
            for pattern in PATTERNS
        ]

    def _require_log_backend(self, domain: Domain) -> None:
        """Raise an error for a QEMU that would accept the command and print nothing."""
        emulator = self._virsh.emulator(domain)
        if emulator is None:
            return
        try:
            qemu = binary.read(Path(emulator))
        except ProbeError:
            return  # a wrapper script or a path in another namespace; QEMU's own answer decides
        if not qemu.logs and qemu.probes:
            raise VirshError(
                f"{emulator} has USDT probes and no log backend, so it would print nothing; "
                f"use `qemu-migration-exporter probe bpftrace --qemu={emulator}`, which needs no attach"
            )
        if not qemu.logs:
            raise VirshError(f"{emulator} was built without trace events that can be printed or probed")
