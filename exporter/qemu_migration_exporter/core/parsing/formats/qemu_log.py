"""QEMU's `log` trace backend, with the prefix that its release puts before the event.

    9313@1795387133.875916:migrate_set_state new state setup    PID (to 3.1) or TID (4.0 to 10.0), seconds.µs
    2026-11-22T22:39:13.610586Z migrate_set_state …             10.1 and later; no fraction where it is zero
    migrate_set_state new state setup                           6.0 and later without `-msg timestamp=on`

Source: scripts/tracetool/backend/log.py, util/log.c. `kubectl logs --timestamps` puts the second prefix before a line
of the third kind, with nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Final

from qemu_migration_exporter.core.events import ErrorReported, Event
from qemu_migration_exporter.core.parsing.columns import Columns, numbers, whole
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed, new_event
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter
from qemu_migration_exporter.core.parsing.vocabulary import Vocabulary

_PREFIX: Final = re.compile(rb"(?:(\d{1,10})@(\d{1,11})\.(\d{6}):|(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z )")
#: Whole lines, with the parts of the first prefix.
_THREAD_LINES: Final = re.compile(rb"^(?:(\d{1,10})@(\d{1,11}\.\d{6}):(.*)|.*)\n", re.MULTILINE)
#: The beginning of a line that was glued to the torn line before it.
_GLUED: Final = re.compile(rb"\d{1,10}@\d{9,11}\.\d{6}:[A-Za-z_]")

#: A thread and the sign behind it.
_MAX_THREAD_BYTES: Final = 11


def detect(line: bytes, decoder: Decoder) -> str | None:
    """Return this format's name if the line is an event of it."""
    prefix = _PREFIX.match(line)
    name, _, _ = line[prefix.end() if prefix else 0 :].partition(b" ")
    if not decoder.knows(name):
        return None
    return "qemu-log" if prefix else "qemu-log-bare"


@cache
def signal_patterns(vocabulary: Vocabulary, *, iso: bool = False) -> tuple[bytes, ...]:
    """Return the prefilter's patterns: a message at a line's beginning or behind a time, also in the middle of a line.

    With `iso` they match the same in another order, which is faster for ISO 8601 times and slower for others.
    """
    not_chatty, message = diagnostics.not_chatty(vocabulary), diagnostics.message(vocabulary)
    at_newline = diagnostics.NEWLINE + not_chatty + message
    if iso:
        return rb":(?!\d)(?:" + message + rb"| )", rb"Z(?= " + not_chatty + message + rb")", at_newline
    behind_time = message + rb"| |\d\d(?:\.\d{1,9})?Z " + not_chatty + message
    return rb":" + not_chatty + rb"(?:" + behind_time + rb")", at_newline


@cache
def _prefilter(vocabulary: Vocabulary, *, iso: bool) -> LinePrefilter:
    return LinePrefilter(*signal_patterns(vocabulary, iso=iso))


class QemuLog:
    """Parser of one log."""

    per_cpu = monotonic = False

    def __init__(self, decoder: Decoder, *, timed: bool) -> None:
        self.name = "qemu-log" if timed else "qemu-log-bare"
        self.timed = timed
        self.process: int | None = None  # the number in front is a thread's
        self._decoder = decoder
        self._second_text = b""
        self._second_ns = 0

    @property
    def prefilter(self) -> LinePrefilter:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return _prefilter(self._decoder.vocabulary, iso=bool(self._second_text))

    def claims(self, line: bytes) -> bool:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        thread, at, _ = line[:_MAX_THREAD_BYTES].partition(b"@")
        if at and thread.isdigit():
            return True
        prefix = _PREFIX.match(line)
        return prefix is not None and b"@" not in line and b"Z " not in line[prefix.end() :]

    def parse(self, line: bytes) -> Parsed:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        prefix = _PREFIX.match(line)
        text = line if prefix is None else line[prefix.end() :]
        thread = int(prefix[1]) if prefix is not None and prefix[1] else None
        event = self._decoder.decode(text, thread)
        if event is None:
            return self._without_event(line, prefix, text)
        if isinstance(event, Malformed):
            return Malformed(self._glued(line, prefix))
        if prefix is None:
            return event
        _, seconds, micros, date, fraction = prefix.groups()
        at_ns = int(seconds + micros) * 1_000 if seconds and self.timed else self._at_ns(date, fraction)
        return new_event(event.__class__, (at_ns, *event[1:]))

    def split(self, lines: Sequence[bytes]) -> Columns:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        if not self.timed:
            return whole(lines)
        threads, times, texts = zip(*_THREAD_LINES.findall(b"\n".join(lines) + b"\n"), strict=True)
        return Columns(texts, numbers(threads), [None] * len(times), _nanoseconds(times))

    def accept(self, processes: Sequence[int | None]) -> None:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""

    def _at_ns(self, date: bytes | None, fraction: bytes | None) -> int | None:
        """Return the time of an ISO 8601 prefix; lines of one second share the calendar's work."""
        if date is None or not self.timed:
            return None
        if date != self._second_text:
            try:
                moment = datetime.fromisoformat(date.decode()).replace(tzinfo=UTC)
            except ValueError:  # 2026-02-30: the event is read, its time is unknown
                return None
            self._second_text, self._second_ns = date, int(moment.timestamp()) * 1_000_000_000
        return self._second_ns + int((fraction or b"").ljust(9, b"0"))

    def _without_event(self, line: bytes, prefix: re.Match[bytes] | None, text: bytes) -> Parsed:
        """Parse a line whose first word is not in the vocabulary: nearly all lines of a chatty log."""
        if prefix is not None and prefix[1] is not None:
            name, blank, _ = text.partition(b" ")
            if not name.endswith(b":"):
                if b"@" in text:
                    glued = self._glued(line, prefix)
                    if glued is not None:
                        return Malformed(glued)
                return MALFORMED if not blank and self._decoder.vocabulary.is_torn_name(name) else None
        glued = self._glued(line, prefix)
        if glued is not None:
            return Malformed(glued)
        parsed = diagnostics.parse(line, self._decoder)
        if prefix is None:
            return parsed
        if isinstance(parsed, ErrorReported):
            return parsed._replace(at_ns=self._at_ns(prefix[4], prefix[5]))
        return diagnostics.parse(text, self._decoder)

    def _glued(self, line: bytes, prefix: re.Match[bytes] | None) -> Event | None:
        """Return the event of a whole line behind the torn beginning of another, or of several.

        Its thread is unknown: the digits in front of it may be the torn line's.
        """
        matches = list(_GLUED.finditer(line, prefix.end() if prefix else 0))
        if not matches:
            return None
        parsed = self.parse(line[matches[-1].start() :])
        return None if parsed is None or isinstance(parsed, Malformed) else parsed._replace(thread=None)


def _nanoseconds(times: Sequence[bytes]) -> list[int | None]:
    """Return times in seconds with six digits behind the point as nanoseconds, None for an empty time."""
    if b"" in times:
        return [int(at.replace(b".", b"")) * 1_000 if at else None for at in times]
    return [*map(int, (b"000 ".join(times) + b"000").replace(b".", b"").split())]
