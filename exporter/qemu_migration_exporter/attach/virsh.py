"""The virsh commands that `attach` needs.

virsh is on every libvirt host and honours its connection settings, so the exporter needs no compiled binding.

Commands for one machine are sent through the standard input of a single virsh process, because a process per command
would take a second per machine. Errors keep libvirt's own text and get a hint if their cause is known.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from xml.etree import ElementTree as ET

#: Seconds for one virsh process. libvirt itself waits 30 s for a busy domain before it refuses.
_TIMEOUT_SECONDS: Final = 90.0

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

#: Part of libvirt's message → a sentence added to it.
_HINTS: Final = (
    (
        re.compile(r"permission denied|authentication (?:failed|unavailable)|access denied", re.IGNORECASE),
        "run as root or as a member of the group libvirt",
    ),
    (
        re.compile(r"failed to connect|connection refused|no such file or directory", re.IGNORECASE),
        "is libvirtd (or virtqemud) running? --connect=URI names another one",
    ),
    (
        re.compile(r"cannot acquire state change lock", re.IGNORECASE),
        "libvirt is busy with this machine, for example with an incoming migration; try again when it is done",
    ),
)


class VirshError(Exception):
    """A failure of virsh, with libvirt's own message and a hint if there is one."""


class Domain(NamedTuple):
    """One running virtual machine.

    Attributes:
        name: libvirt's name of the machine.
        uuid: The machine's UUID, used in virsh commands because a name may look like an option.
        number: libvirt's id, which changes at every start.
    """

    name: str
    uuid: str
    number: int


class Virsh:
    """A connection to libvirt through virsh.

    Args:
        uri: libvirt's connection URI; None for virsh's own default.
        program: The command to run virsh with.
    """

    def __init__(self, uri: str | None = None, program: Sequence[str] = ("virsh",)) -> None:
        self._uri = uri
        self._program = tuple(program)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line for one virsh command."""
        connection = ["--connect", self._uri] if self._uri else []
        return [*self._program, *connection, *arguments]

    def call(self, *arguments: str, script: str | None = None) -> str:
        """Run virsh and return its output.

        Args:
            arguments: The virsh command; none to run a script.
            script: virsh commands for standard input, one a line.

        Raises:
            VirshError: virsh is missing, hangs, or reports an error.
        """
        try:
            done = subprocess.run(  # noqa: S603 - virsh, with arguments of our own
                self.command("--quiet", *arguments),
                input=script,
                stdin=None if script is not None else subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="surrogateescape",
                timeout=_TIMEOUT_SECONDS,
                check=False,
                env={**os.environ, "LC_ALL": "C.UTF-8"},
            )
        except FileNotFoundError as error:
            raise VirshError(f"{self._program[0]}: command not found; install libvirt-clients") from error
        except subprocess.TimeoutExpired as error:
            raise VirshError(f"virsh did not answer within {_TIMEOUT_SECONDS:g} s") from error
        complaint = done.stderr.strip()
        if done.returncode or complaint:
            raise VirshError(_explained(complaint or _ending(done.returncode)))
        return done.stdout

    def running(self) -> list[Domain]:
        """List the running machines, paused ones included, by name."""
        domains = []
        for line in self.call("list", "--uuid").split():
            if _UUID.fullmatch(line):
                domain = self.describe(line)
                if domain is not None:
                    domains.append(domain)
        return sorted(domains)

    def describe(self, key: str) -> Domain | None:
        """Return a running machine by name or UUID; None if it is shut off.

        Raises:
            VirshError: libvirt knows no such machine.
        """
        root = self._xml(key)
        name, uuid, number = root.findtext("name", ""), root.findtext("uuid", ""), root.get("id")
        return Domain(name, uuid, int(number)) if number is not None else None

    def is_arriving(self, domain: Domain) -> bool:
        """Return whether the machine is a destination now; libvirt blocks monitor commands until the migration ends."""
        return self.call("domstate", "--reason", "--domain", domain.uuid).strip() == "paused (migration)"

    def emulator(self, domain: Domain) -> str | None:
        """Return the path of the machine's QEMU binary."""
        return self._xml(domain.uuid).findtext("devices/emulator")

    def monitor(self, domain: Domain, commands: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Send QMP commands to a machine in one virsh process; return the replies in order.

        Raises:
            VirshError: libvirt refused a command, or a reply is missing.
        """
        lines = [self.monitor_line(domain.uuid, command) for command in commands]
        output = self.call(script="".join(f"{line}\n" for line in lines))
        replies = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
        if len(replies) != len(lines):
            raise VirshError(f"expected {len(lines)} replies of QEMU, got {len(replies)}")
        return replies

    @staticmethod
    def monitor_line(key: str, command: dict[str, Any]) -> str:
        """Return the virsh command for a QMP command, quoted for both virsh and a shell."""
        return shlex.join(["qemu-monitor-command", key, json.dumps(command, separators=(",", ":"))])

    def _xml(self, key: str) -> ET.Element:
        try:
            return ET.fromstring(self.call("dumpxml", "--domain", key))  # noqa: S314 - libvirt's own XML
        except ET.ParseError as error:
            raise VirshError(f"virsh dumpxml {key}: expected XML, got something else ({error})") from error


def _ending(status: int) -> str:
    """Return how virsh ended without a message; subprocess has the number of a signal as a negative status."""
    if status >= 0:
        return f"virsh exited with status {status}"
    return f"virsh was killed by signal {-status} ({signal.strsignal(-status)})"


def _explained(complaint: str) -> str:
    message = " ".join(line.removeprefix("error: ").strip() for line in complaint.splitlines() if line.strip())
    for pattern, hint in _HINTS:
        if pattern.search(message):
            return f"{message}; {hint}"
    return message
