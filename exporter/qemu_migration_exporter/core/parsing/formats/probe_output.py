"""Formats of probes that see every process: that of the probes shipped here, and of QEMU's own SystemTap tapset.

    anchor 81245000123456 1795387501.145438          ours, once: monotonic nanoseconds, and the wall time then
    26734/26790@81245000200000 migrate_set_state …   ours: process, thread, monotonic nanoseconds
    26734@1795387501145438123 migrate_set_state …    `-log.stp`, qemu-trace-stap (4.0 and later): nanoseconds since 1970

The number in front is a real process. Lines of different CPUs come in the order in which their buffers were emptied.
Source of the tapset's format: scripts/tracetool/format/log_stap.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Final

from qemu_migration_exporter.core.events import Anchored
from qemu_migration_exporter.core.parsing.columns import Columns, numbers
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed, new_event, timed
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter
from qemu_migration_exporter.core.parsing.vocabulary import Vocabulary

_PREFIX: Final = re.compile(rb"(\d{1,20})(?:/(\d{1,10}))?@(\d{6,20}) ")
#: Whole lines, with the parts of that prefix.
_LINES: Final = re.compile(rb"^(?:(\d{1,20})(?:/(\d{1,10}))?@(\d{6,20}) (.*)|.*)\n", re.MULTILINE)
#: The wall time in whole nanoseconds, or in seconds with a fraction if the tool prints no better.
_ANCHOR: Final = re.compile(rb"anchor (\d{1,20}) (\d{1,20})(?:\.(\d{1,9}))?[ \t]*")

#: Bounds memory: more processes than a host runs QEMUs. Torn lines of further processes are not salvaged.
_MAX_PROCESSES: Final = 10_000

#: Nanoseconds since 1970 have 19 digits since 2001; those since a host's boot have fewer for 31 years. (A stream that
#: is joined in the middle of a line may begin with the thread in the place of the process.)
_EPOCH_DIGITS: Final = 19

_NS_PER_SECOND: Final = 1_000_000_000


def detect(line: bytes, decoder: Decoder) -> str | None:
    """Return the format's name if the line is an event of either format, or our anchor."""
    if _ANCHOR.fullmatch(line):
        return "probe"
    prefix = _PREFIX.match(line)
    if prefix is None or not decoder.knows(line[prefix.end() :].partition(b" ")[0]):
        return None
    return "probe" if prefix[2] or len(prefix[3]) < _EPOCH_DIGITS else "systemtap-log"


@cache
def signal_patterns(vocabulary: Vocabulary) -> tuple[bytes, ...]:
    """Return the prefilter's patterns: a time and a name, an anchor, or a diagnostic."""
    message = diagnostics.not_chatty(vocabulary) + diagnostics.message(vocabulary)
    return rb"@\d+ " + message, diagnostics.COLON, diagnostics.NEWLINE + rb"(?:anchor|" + message + rb")"


@cache
def _prefilter(vocabulary: Vocabulary) -> LinePrefilter:
    return LinePrefilter(*signal_patterns(vocabulary))


class ProbeOutput:
    """Parser of the output of one run of a probe."""

    timed = True
    per_cpu = True

    def __init__(self, decoder: Decoder, name: str) -> None:
        self.name = name
        self.monotonic = name == "probe"
        self.process: int | None = None
        self._decoder = decoder
        self._processes: set[int | None] = set()
        self._process_text = b""  # of the last line: most lines are of the same process

    @property
    def prefilter(self) -> LinePrefilter:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return _prefilter(self._decoder.vocabulary)

    def claims(self, line: bytes) -> bool:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return _PREFIX.match(line) is not None

    def parse(self, line: bytes) -> Parsed:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        prefix = _PREFIX.match(line)
        if prefix is None:
            return self._without_prefix(line)
        text = line[prefix.end() :]
        process, thread, at_ns = prefix.groups()
        event = self._decoder.decode(text, int(thread) if thread else None)
        if event is None:
            return self._without_event(line, prefix.end(), text)
        if isinstance(event, Malformed):
            return self._glued(line, prefix.end()) or MALFORMED
        if process != self._process_text:
            self._process_text = process
            self.process = int(process)
            self._add_processes([self.process])
        return new_event(event.__class__, (int(at_ns), *event[1:]))

    def split(self, lines: Sequence[bytes]) -> Columns:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        processes, threads, times, texts = zip(*_LINES.findall(b"\n".join(lines) + b"\n"), strict=True)
        at_ns = [int(at) if at else None for at in times] if b"" in times else [*map(int, times)]
        return Columns(texts, numbers(threads), numbers(processes), at_ns)

    def accept(self, processes: Sequence[int | None]) -> None:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        if processes:
            self.process, self._process_text = processes[-1], b""
            self._add_processes(processes)

    def _add_processes(self, processes: Sequence[int | None]) -> None:
        if len(self._processes) < _MAX_PROCESSES:
            self._processes.update(processes)

    def _without_event(self, line: bytes, end: int, text: bytes) -> Parsed:
        glued = self._glued(line, end) if b"@" in text else None
        if glued is not None:
            return glued
        return MALFORMED if self._decoder.vocabulary.is_torn_name(text) else None

    def _without_prefix(self, line: bytes) -> Parsed:
        anchor = _ANCHOR.fullmatch(line)
        if anchor is None:
            return self._glued(line, 0) or diagnostics.parse(line, self._decoder)
        monotonic, wall, fraction = anchor.groups()
        wall_ns = int(wall)
        if fraction is not None:
            wall_ns = wall_ns * _NS_PER_SECOND + int(fraction.ljust(9, b"0"))
        return Anchored(int(monotonic), None, wall_ns)

    def _glued(self, line: bytes, after: int) -> Malformed | None:
        """Find the event of a whole line behind the torn beginning of another.

        The digits of its process may follow digits of the torn line, so only a process seen before counts.
        """
        matches = list(_PREFIX.finditer(line, after))
        if not matches:
            return None
        last = matches[-1]
        process, thread, at_ns = last.groups()
        known = [number for at in range(len(process)) if (number := int(process[at:])) in self._processes]
        parsed = self._decoder.decode(line[last.end() :])
        if not known or parsed is None or isinstance(parsed, Malformed):
            return None
        self.process, self._process_text = max(known), b""
        return Malformed(timed(parsed, int(at_ns), int(thread) if thread else None))
