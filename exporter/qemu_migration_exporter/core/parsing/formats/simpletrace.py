"""QEMU's `simple` trace backend, as scripts/simpletrace.py prints its binary file.

    migrate_set_state 0.000 pid=4001 new_state=b'setup'
    migrate_pending 12.345 pid=4001 size=0x41000000 max=0x0 pre=0x41000000 compat=0x0 post=0x0

The number is the microseconds since the line before, so a prefilter must keep every line. Numbers are hexadecimal,
and texts are bytes as Python prints them in some releases of the script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from qemu_migration_exporter.core.parsing.columns import Columns
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed, Parsed, timed
from qemu_migration_exporter.core.parsing.formats import diagnostics
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter

_LINE: Final = re.compile(rb"([a-z_]\w*) (-?\d{1,15})\.(\d{3}) pid=\d{1,10}(?: (.*))?", re.DOTALL)
_ARGUMENT: Final = re.compile(
    rb"(?:^| )\w++=(b'(?:[^'\\]|\\.)*+'|b\"(?:[^\"\\]|\\.)*+\"|.*?)(?=(?: \w+=| *$))", re.DOTALL
)
_KEEP_ALL: Final = LinePrefilter(rb"\n(?!\Z)")


def detect(line: bytes, decoder: Decoder) -> str | None:
    """Return this format's name if the line is an event of it."""
    match = _LINE.fullmatch(line)
    return "simpletrace" if match is not None and decoder.knows(match[1]) else None


class Simpletrace:
    """Parser of the script's output for one QEMU."""

    name = "simpletrace"
    timed = per_cpu = monotonic = True
    prefilter = _KEEP_ALL

    def __init__(self, decoder: Decoder) -> None:
        self.process: int | None = None  # the file is of one QEMU
        self._decoder = decoder
        self._now_ns = 0

    def claims(self, line: bytes) -> bool:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return _LINE.fullmatch(line) is not None

    def split(self, lines: Sequence[bytes]) -> Columns | None:  # noqa: ARG002 - the protocol's signature
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        return None

    def accept(self, processes: Sequence[int | None]) -> None:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""

    def parse(self, line: bytes) -> Parsed:
        """See `qemu_migration_exporter.core.parsing.formats.Format`."""
        match = _LINE.fullmatch(line)
        if match is None:
            name = line.partition(b" ")[0]
            return MALFORMED if self._decoder.knows(name) else diagnostics.parse(line, self._decoder)
        name, micros, nanoseconds, arguments = match.groups()
        self._now_ns += int(micros + nanoseconds)
        if not self._decoder.knows(name):
            return None
        parsed = self._decoder.decode_values(name, [*map(_value, _ARGUMENT.findall(arguments or b""))])
        return parsed if parsed is None or isinstance(parsed, Malformed) else timed(parsed, self._now_ns, None)


def _value(printed: bytes) -> bytes:
    if re.fullmatch(rb"0x[0-9a-f]{1,16}", printed):
        return b"%d" % int(printed, 16)
    text = re.fullmatch(rb"b(['\"])(.*)\1", printed, re.DOTALL)
    return text[2] if text else printed
