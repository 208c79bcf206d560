r"""Lines about the life of QEMU and of its guest, which libvirt and QEMU write to the same log.

    2026-11-27 17:44:52.443+0000: starting up libvirt version: 9.0.0, …      libvirt's header of a new QEMU
    -name guest=web-42,debug-threads=on \\                                   its command line, an option per line
    -uuid 99ed4f3b-c9bd-412a-87be-913ab3dac955 \\                            (all on one line before libvirt 4.8)
    2026-11-27 17:45:00.530+0000: initiating migration                       a live migration, not a save or dump
    2026-11-27 17:45:17.542+0000: shutting down, reason=migrated             QEMU ended
    {"timestamp": {"seconds": 1790000200, …}, "event": "STOP"}               QMP's own event, from a monitor's log

`qemu-system-x86_64: terminating on signal 15 from pid 8870 (libvirtd)` has the form of an error report and is one.
"""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from qemu_migration_exporter.core.events import Event, GuestDescribed, QemuEnded, QemuStarted, SignalEvent
from qemu_migration_exporter.core.terms import Signal

_LIBVIRT: Final = re.compile(
    rb"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3})\+0000: "
    rb"(?:(starting up)\b.*|(initiating migration)|(shutting down(?:, reason=[\w-]+)?))\r?"
)
_OPTION: Final = re.compile(rb"-(?:name|uuid|incoming) .*")
_COMMAND: Final = re.compile(rb"(?:LC_ALL=|/).* -name .*")
_QMP_EVENT: Final = re.compile(
    rb'\{"timestamp": \{"seconds": (\d{1,11}), "microseconds": (\d{1,6})\}, "event": "(STOP|RESUME)"\}'
)

#: Pattern of the beginning of such a line; lines without it contain ": ", as error reports do.
BEGINNING: Final = rb"-(?:name|uuid|incoming) |LC_ALL=|/"


def parse(line: bytes) -> Event | None:
    """Parse a line that is neither a trace event nor an error report."""
    first = line[:1]
    if first == b"-":
        return _described(line) if _OPTION.fullmatch(line) else None
    if first == b"{":
        return _qmp_event(line)
    if first.isdigit():
        return _libvirt(line)
    return _described(line) if first in b"L/" and _COMMAND.fullmatch(line) else None


def _libvirt(line: bytes) -> Event | None:
    match = _LIBVIRT.fullmatch(line)
    if match is None:
        return None
    date, started, initiated, ended = match.groups()
    try:
        moment = datetime.strptime(date.decode(), "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    except ValueError:  # 2026-02-30
        return None
    at_ns = round(moment.timestamp() * 1_000) * 1_000_000
    if started:
        return QemuStarted(at_ns, None)
    if initiated:
        return SignalEvent(at_ns, None, Signal.INITIATED)
    return QemuEnded(at_ns, None, ended.decode())


def _described(line: bytes) -> Event | None:
    """Parse options of QEMU's command line; libvirt quotes them for a shell."""
    try:
        words = shlex.split(line.decode("utf-8", "replace").rstrip("\\ \r"))
    except ValueError:  # a quote that does not end
        return None
    options = dict(pairwise(words))
    name = _name(options["-name"]) if "-name" in options else None
    if name is None and "-uuid" not in options and "-incoming" not in options:
        return None
    return GuestDescribed(None, None, name, options.get("-uuid"), incoming="-incoming" in options)


def _name(option: str) -> str | None:
    """Return the guest's name from `guest=NAME,debug-threads=on`; QEMU doubles a comma inside of a value."""
    value = option.replace(",,", "\0").partition(",")[0].replace("\0", ",")
    return value.removeprefix("guest=") or None


def _qmp_event(line: bytes) -> Event | None:
    match = _QMP_EVENT.match(line)
    if match is None:
        return None
    at_ns = int(match[1]) * 1_000_000_000 + int(match[2]) * 1_000
    return SignalEvent(at_ns, None, Signal.GUEST_STOPPED if match[3] == b"STOP" else Signal.GUEST_RESUMED)
