"""Formats of probes that see every process: the one of the probes shipped here, and of QEMU's own SystemTap tapset.

    anchor 81245000123456 1795387501.145438          ours, once: monotonic nanoseconds, and the wall's time then
    26734/26790@81245000200000 migrate_set_state …   ours: process, thread, monotonic nanoseconds
    26734@1795387501145438123 migrate_set_state …    `-log.stp`, qemu-trace-stap (4.0 and later): nanoseconds since 1970

The number in front is a real process. Lines of different CPUs come in the order in which their buffers were emptied.
Source of the tapset's format: scripts/tracetool/format/log_stap.py.
"""

from __future__ import annotations

import re
from typing import Final

from qemu_migration_exporter.core.events import Anchored
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter, any_of

_PREFIX: Final = rb"(\d{1,20})(?:/(\d{1,10}))?@(\d{6,20}) "
_PREFIXED: Final = re.compile(_PREFIX)
_EVENT: Final = re.compile(_PREFIX + rb"([A-Za-z_]\w*)(?: (.*))?", re.DOTALL)
#: The wall's time in whole nanoseconds, or in seconds with a fraction where the tool can print no better.
_ANCHOR: Final = re.compile(rb"anchor (\d{1,20}) (\d{1,20})(?:\.(\d{1,9}))?")

#: More processes than a host runs QEMUs; what is beyond them is still read, only not salvaged.
_MAX_PROCESSES: Final = 10_000

#: Nanoseconds since 1970 have 19 digits since 2001, those since a machine's start fewer for 31 years. A probe's stream
#: that is joined in the middle of a line may begin with a thread where the process should be.
_EPOCH_DIGITS: Final = 19

_NS_PER_SECOND: Final = 1_000_000_000


def recognise(line: bytes, decoder: Decoder) -> str | None:
    """Name the format if the line is an event of one of the two, or our anchor."""
    if _ANCHOR.fullmatch(line):
        return "probe"
    match = _EVENT.fullmatch(line)
    if match is None or not decoder.knows(match[4]):
        return None
    return "probe" if match[2] or len(match[3]) < _EPOCH_DIGITS else "systemtap-log"


def telling(decoder: Decoder) -> tuple[bytes, ...]:
    """Write what a line has somewhere in it that is no noise: a time and a name, an anchor, or what is no event."""
    name = any_of(decoder.names)
    return rb"@\d+ " + name, diagnostics.COLON, rb"\n(?:anchor|" + diagnostics.torn_end(decoder) + rb")"


class ProbeOutput:
    """Read the output of one run of a probe."""

    timed = True
    per_cpu = True

    def __init__(self, decoder: Decoder, name: str) -> None:
        self.name = name
        self.process: int | None = None
        self.sieve = LinePrefilter(*telling(decoder))
        self._decoder = decoder
        self._processes: set[int] = set()

    def parse(self, line: bytes) -> Parsed:
        """Read one line, see `qemu_migration_exporter.core.parsing.formats.Format`."""
        match = _EVENT.fullmatch(line)
        if match is None:
            return self._other(line)
        process, thread, at_ns, name, arguments = match.groups()
        if not self._decoder.knows(name):
            if arguments is None and self._decoder.is_torn_name(name):
                return MALFORMED
            return self._glued(line) if arguments is not None and b"@" in arguments else None
        parsed = self._decoder.decode(name, arguments or b"", int(at_ns), int(thread) if thread else None)
        if isinstance(parsed, Malformed):
            return self._glued(line) or MALFORMED
        self.process = int(process)
        if len(self._processes) < _MAX_PROCESSES:
            self._processes.add(self.process)
        return parsed

    def _other(self, line: bytes) -> Parsed:
        anchor = _ANCHOR.fullmatch(line)
        if anchor is None:
            return self._glued(line) or diagnostics.parse(line, self._decoder)
        monotonic, wall, fraction = anchor.groups()
        wall_ns = int(wall)
        if fraction is not None:
            wall_ns = wall_ns * _NS_PER_SECOND + int(fraction.ljust(9, b"0"))
        return Anchored(int(monotonic), None, wall_ns)

    def _glued(self, line: bytes) -> Malformed | None:
        """Find the event of a whole line behind the torn beginning of another.

        The digits of its process may have the torn line's in front of them, so only a process seen before counts.
        """
        own = _PREFIXED.match(line)
        *_, last = None, *_PREFIXED.finditer(line, own.end() if own else 0)
        match = _EVENT.fullmatch(line, last.start()) if last else None
        if match is None:
            return None
        process, thread, at_ns, name, arguments = match.groups()
        known = [each for at in range(len(process)) if (each := int(process[at:])) in self._processes]
        parsed = self._decoder.decode(name, arguments or b"", int(at_ns), int(thread) if thread else None)
        if not known or parsed is None or isinstance(parsed, Malformed):
            return None
        self.process = max(known)
        return Malformed(parsed)
