"""QEMU's `log` trace backend, with whatever prefix its release puts before the event.

    9313@1795387133.875916:migrate_set_state new state setup    PID (to 3.1) or TID (4.0 to 10.0), seconds.µs
    2026-11-22T22:39:13.610586Z migrate_set_state …             10.1 and later; no fraction where it is zero
    migrate_set_state new state setup                           6.0 and later without `-msg timestamp=on`

Source: scripts/tracetool/backend/log.py, util/log.c.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from qemu_migration_exporter.core.events import ErrorReported, Event
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter, any_of, none_of

_PREFIX: Final = rb"(?:(\d{1,10})@(\d{1,11})\.(\d{6}):|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z )"
_EVENT: Final = re.compile(_PREFIX + rb"?([A-Za-z_]\w*)(?: (.*))?", re.DOTALL)
_PREFIXED: Final = re.compile(_PREFIX)
#: The beginning of a line that was glued to the torn one before it.
_GLUED: Final = re.compile(rb"\d{1,10}@\d{9,11}\.\d{6}:[A-Za-z_]")

#: QEMU prints a line of it for each page and more (8.1 and later, migration/migration-stats.c): a sieve that looks at
#: this one first is twice as fast.
_CHATTY: Final = b"migration_transferred_bytes"


def recognise(line: bytes, decoder: Decoder) -> str | None:
    """Name this format if the line is an event of it."""
    match = _EVENT.fullmatch(line)
    if match is None or not decoder.knows(match[6]):
        return None
    return "qemu-log" if match[1] or match[4] else "qemu-log-bare"


def telling(decoder: Decoder, *, iso: bool = False) -> tuple[bytes, ...]:
    """Write what a line has somewhere in it that is no noise.

    A name stands at the line's beginning or behind the time in front of it, also where a line is glued to another.
    With `iso` it is the same in another way, which is faster where times are ISO 8601 and slower where they are not.
    """
    beginning = none_of([_CHATTY], decoder.names)
    name = any_of(decoder.names)
    at_newline = rb"\n(?:" + name + rb"|" + diagnostics.torn_end(decoder) + rb")"
    if iso:
        return rb":" + beginning + rb"(?:" + name + rb"| )", rb"Z(?= " + beginning + name + rb")", at_newline
    behind_time = name + rb"| |\d\d(?:\.\d{1,6})?Z " + beginning + name
    return rb":" + beginning + rb"(?:" + behind_time + rb")", at_newline


class QemuLog:
    """Read the lines of one log."""

    per_cpu = False

    def __init__(self, decoder: Decoder, *, timed: bool) -> None:
        self.name = "qemu-log" if timed else "qemu-log-bare"
        self.timed = timed
        self.process: int | None = None  # the number in front is a thread's
        self._sieve = LinePrefilter(*telling(decoder))
        self._iso_sieve = LinePrefilter(*telling(decoder, iso=True))
        self._decoder = decoder
        self._second_text = b""
        self._second_ns = 0

    @property
    def sieve(self) -> LinePrefilter:
        """Keeps the lines that are no noise, see `qemu_migration_exporter.core.parsing.formats.Format`."""
        return self._iso_sieve if self._second_text else self._sieve

    def parse(self, line: bytes) -> Parsed:
        """Read one line, see `qemu_migration_exporter.core.parsing.formats.Format`."""
        match = _EVENT.fullmatch(line)
        if match is None:
            return self._prose(line)
        if not self._decoder.knows(match[6]):
            return self._unknown(line, match[6], match[7]) if match[2] else self._prose(line)
        parsed = self._event(match)
        return Malformed(self._glued(line)) if isinstance(parsed, Malformed) else parsed

    def _event(self, match: re.Match[bytes]) -> Parsed:
        thread, seconds, micros, date, fraction, name, arguments = match.groups()
        at_ns = self._at_ns(seconds, micros, date, fraction)
        return self._decoder.decode(name, arguments or b"", at_ns, int(thread) if thread else None)

    def _at_ns(
        self, seconds: bytes | None, micros: bytes | None, date: bytes | None, fraction: bytes | None
    ) -> int | None:
        if not self.timed:
            return None
        if seconds is not None:
            return int(seconds) * 1_000_000_000 + int(micros or b"0") * 1_000
        if date is None:
            return None
        if date != self._second_text:
            try:
                moment = datetime.fromisoformat(date.decode()).replace(tzinfo=UTC)
            except ValueError:  # 2026-02-30: the event stands, its time is unknown
                return None
            self._second_text, self._second_ns = date, int(moment.timestamp()) * 1_000_000_000
        return self._second_ns + int((fraction or b"").ljust(6, b"0")) * 1_000

    def _unknown(self, line: bytes, name: bytes, arguments: bytes | None) -> Parsed:
        """Read an event that is not ours: nearly all lines of a chatty log come this way."""
        if arguments is not None and b"@" in arguments:
            glued = self._glued(line)
            return None if glued is None else Malformed(glued)
        return MALFORMED if arguments is None and self._decoder.is_torn_name(name) else None

    def _prose(self, line: bytes) -> Parsed:
        glued = self._glued(line)
        if glued is not None:
            return Malformed(glued)
        prefix = _PREFIXED.match(line)
        parsed = diagnostics.parse(line, self._decoder)
        if prefix is None:
            return parsed
        if isinstance(parsed, ErrorReported):
            return parsed._replace(at_ns=self._at_ns(*prefix.groups()[1:]))
        return diagnostics.parse(line[prefix.end() :], self._decoder)

    def _glued(self, line: bytes) -> Event | None:
        """Find the event of a whole line behind the torn beginning of another, or of several.

        Its thread is not known: the digits in front of it may be the torn line's.
        """
        own = _PREFIXED.match(line)
        starts = [each.start() for each in _GLUED.finditer(line, own.end() if own else 0)]
        match = _EVENT.fullmatch(line, starts[-1]) if starts else None
        parsed = self._event(match) if match else None
        return None if parsed is None or isinstance(parsed, Malformed) else parsed._replace(thread=None)
