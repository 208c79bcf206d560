"""LTTng's `ust` trace backend, as babeltrace prints it.

    [10:15:03.104000000] (+0.013000000) host1 qemu:migrate_pending: { cpu_id = 2 }, { size = 1090519040, max = 0, … }
    [1790001200.104000000] (+?.?????????) host1 qemu:savevm_state_iterate: { cpu_id = 2 }, { vpid = 4001 }, { }

The last braces hold all arguments of the event in QEMU's order; those before hold LTTng's context, with the process
(`vpid`) if it was added. The time is that of the day in some time zone, so it only orders lines and measures between
them; with `--clock-seconds` it is the time since 1970.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.parsing.columns import Columns
from qemu_migration_exporter.core.parsing.decoder import Decoder, Malformed, Parsed, timed
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter

_LINE: Final = re.compile(
    rb"\[(?:(?:\d{4}-\d\d-\d\d )?(\d\d):(\d\d):(\d\d)|(\d{1,11}))\.(\d{9})\] (?:\(\+[?.\d]{1,40}\) )?(?:[^ :]+ )?"
    rb"\w+:(\w+): (\{.*\})\s*",
    re.DOTALL,
)
_BRACES: Final = re.compile(rb'\{((?:[^{}"]|"(?:[^"\\]|\\.)*+")*+)\}', re.DOTALL)
_FIELD: Final = re.compile(rb'(\w++) = (?:"((?:[^"\\]|\\.)*+)"|([^,"\s]++))', re.DOTALL)
_NS_PER_SECOND: Final = 1_000_000_000
_NS_PER_DAY: Final = 86_400 * _NS_PER_SECOND


def detect(line: bytes, decoder: Decoder) -> str | None:
    """Return this format's name if the line is an event of it."""
    match = _LINE.fullmatch(line)
    return "lttng" if match is not None and decoder.knows(match[6]) else None


class Lttng:
    """Parser of babeltrace's output."""

    name = "lttng"
    timed = per_cpu = True

    def __init__(self, decoder: Decoder) -> None:
        self.monotonic = True
        self.process: int | None = None
        self._decoder = decoder
        self._day_ns = 0
        self._last_ns = 0

    @property
    def prefilter(self) -> LinePrefilter:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return LinePrefilter(rb":" + self._decoder.vocabulary.name_pattern, rb"\n(?!\[)")

    def claims(self, line: bytes) -> bool:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return line.startswith(b"[")

    def split(self, lines: Sequence[bytes]) -> Columns | None:  # noqa: ARG002 - the protocol's signature
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return None

    def accept(self, processes: Sequence[int | None]) -> None:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""

    def parse(self, line: bytes) -> Parsed:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        match = _LINE.fullmatch(line)
        if match is None:
            return diagnostics.parse(line, self._decoder)
        hour, minute, second, seconds, nanoseconds, name, braces = match.groups()
        if not self._decoder.knows(name):
            return None
        *contexts, payload = _BRACES.findall(braces) or [b""]
        parsed = self._decoder.decode_values(name, [text or number for _, text, number in _FIELD.findall(payload)])
        if parsed is None or isinstance(parsed, Malformed):
            return parsed
        context = {key: number for key, _, number in _FIELD.findall(b" ".join(contexts)) if number.isdigit()}
        self.process = int(context[b"vpid"][:20]) if b"vpid" in context else None
        self.monotonic = seconds is None
        at_s = int(seconds) if seconds is not None else (int(hour) * 60 + int(minute)) * 60 + int(second)
        thread = int(context[b"vtid"][:20]) if b"vtid" in context else None
        return timed(parsed, self._at_ns(at_s * _NS_PER_SECOND + int(nanoseconds)), thread)

    def _at_ns(self, at_ns: int) -> int:
        """Return a time that continues past midnight."""
        if self.monotonic:
            at_ns += self._day_ns
            if self._last_ns - at_ns > _NS_PER_DAY // 2:
                self._day_ns += _NS_PER_DAY
                at_ns += _NS_PER_DAY
            self._last_ns = at_ns
        return at_ns
