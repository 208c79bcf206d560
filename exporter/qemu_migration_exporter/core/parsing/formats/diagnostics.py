"""Lines other than trace events that carry information in all formats: error reports, lost lines, torn names."""

from __future__ import annotations

import re
from typing import Final

from qemu_migration_exporter.core.events import ErrorReported, LinesLost
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Parsed
from qemu_migration_exporter.core.parsing.formats import lifecycle
from qemu_migration_exporter.core.parsing.vocabulary import Vocabulary

#: error_report() of util/error-report.c: `[ISO-8601 UTC ][guest name ]program: text`. Proxmox starts QEMU as `kvm`.
_ERROR_REPORT: Final = re.compile(rb"(?:\d{4}-\d\d-\d\dT[\d:.]+Z )?(?:\S+ )?(?:qemu[\w.-]*|kvm): (.+)", re.DOTALL)
#: bpftrace's full buffer, and SystemTap's counters at its end. A skipped probe is a lost line.
_LOST: Final = re.compile(
    rb"Lost (\d{1,18}) events"
    rb"|WARNING: (?:Number of errors: \d+, skipped probes|Skipped due to [^:]+|Total lost event count): (\d{1,18})"
    rb"|WARNING: There were (\d{1,18}) transport failures.*"
)

#: Pattern of a place where a line may be an error report or a warning.
COLON: Final = rb":(?= )"


def torn_end(vocabulary: Vocabulary) -> bytes:
    """Return a pattern of text after a newline: the end of a torn name or of lost events, or QEMU's command line."""
    letters = {bytes([letter]) for name in (*vocabulary.names, b"events\r") for letter in name}
    return rb"(?<=[" + b"".join(map(re.escape, sorted(letters))) + rb"]\n)|" + lifecycle.BEGINNING


def parse(line: bytes, decoder: Decoder) -> Parsed:
    """Parse a line in which its format found no event."""
    report = _ERROR_REPORT.fullmatch(line)
    if report is not None:
        return ErrorReported(None, None, report[1].decode("utf-8", "replace"))
    lost = _LOST.fullmatch(line)
    if lost is not None:
        return LinesLost(None, None, int(lost[lost.lastindex or 1]))
    event = lifecycle.parse(line)
    if event is not None:
        return event
    return MALFORMED if decoder.vocabulary.is_torn_name(line) else None
