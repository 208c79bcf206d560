"""Evidence about a stream that cannot be read, or not in full; `present.hints` has the sentences.

Lines of other tools are recognised by a shape that no QEMU line has. They are searched for only in noise of a stream
whose format is not known yet, so they cost nothing once events come.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

from qemu_migration_exporter.core.parsing.vocabulary import Vocabulary


class Hint(StrEnum):
    """A piece of evidence."""

    PERF_SCRIPT = "perf-script"
    BPFTRACE_OWN = "bpftrace-own"
    LIBVIRTD_DEBUG = "libvirtd-debug"
    MARK_ADDRESSES = "mark-addresses"
    UNKNOWN_KEY = "unknown-key"
    #: QEMU was started with trace events of migration.
    TRACE_ENABLED = "trace-enabled"
    #: libvirt started or finished a migration.
    MIGRATED = "migrated"


_PERF: Final = re.compile(rb"\bsdt_qemu:(\w+):|\bprobe_qemu[\w-]*:(\w+):")
_BPFTRACE: Final = re.compile(rb"\busdt:[^ ]*:(\w+)")
_LIBVIRTD: Final = re.compile(
    rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+\d{4}: \d+: (?:debug|info|warning|error) ?: \w+:\d+ : "
)
_TRACE_ARGUMENT: Final = re.compile(rb"(?:^|\s)-trace\s+'?(?:enable=|events=|migrat|savevm|vmstate)")
_MIGRATED: Final = re.compile(rb"\+\d{4}: (?:initiating migration|shutting down, reason=migrated)\s*$")


def recognise(line: bytes, vocabulary: Vocabulary) -> Hint | None:
    """Return the hint that a line of noise gives, or None."""
    perf = _PERF.search(line)
    if perf is not None and (perf[1] or perf[2]) in vocabulary.layouts:
        return Hint.PERF_SCRIPT
    bpftrace = _BPFTRACE.search(line)
    if bpftrace is not None and bpftrace[1] in vocabulary.layouts:
        return Hint.BPFTRACE_OWN
    if _LIBVIRTD.match(line):
        return Hint.LIBVIRTD_DEBUG
    if _MIGRATED.search(line):
        return Hint.MIGRATED
    return Hint.TRACE_ENABLED if _TRACE_ARGUMENT.search(line) else None
