"""Lines other than trace events that carry information in all formats: error reports, lost lines, torn names."""

from __future__ import annotations

import re
from typing import Final

from qemu_migration_exporter.core.events import ErrorReported, LinesLost
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Parsed
from qemu_migration_exporter.core.parsing.formats import lifecycle
from qemu_migration_exporter.core.parsing.prefilter import reject_prefixes
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


#: QEMU 8.1 and later print a line of it for each page: rejecting it first makes the prefilter twice as fast.
_CHATTY: Final = b"migration_transferred_bytes"

#: Pattern of the beginning of a line without a prefix: nearly all lines begin with a number, and are rejected by that.
NEWLINE: Final = rb"\n(?!\d)"


def not_chatty(vocabulary: Vocabulary) -> bytes:
    """Return a lookahead that fails at the event which makes a log noisy, unless the vocabulary has it."""
    return reject_prefixes([_CHATTY], vocabulary.names)


def message(vocabulary: Vocabulary) -> bytes:
    """Return a pattern of a message's beginning: a name, whole or torn, lost events, or QEMU's command line."""
    letters = b"".join(sorted({bytes([letter]) for name in vocabulary.names for letter in name}))
    torn = rb"[" + letters + rb"]++(?=\r?\n)"
    return rb"(?:" + vocabulary.name_pattern + rb"|Lost \d|" + lifecycle.BEGINNING + rb"|" + torn + rb")"


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
