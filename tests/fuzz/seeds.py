"""Seeds of the fuzzer: lines of the shipped recordings, and the words with a meaning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS

from tests.property.test_properties import LOGS
from tests.support.core_helpers import RECORDINGS, recording

#: Lines of one event in a seed, which shows what it looks like and what comes around it.
_OF_ONE_EVENT: Final = 3
_SEED_BYTES: Final = 1_000

#: What stands in lines beside the names of events.
_WORDS: Final = (
    b"9313@1795387133.875916:", b"2026-11-22T22:39:13.610586Z ", b"26734/26790@81245000200000 ",
    b"26734@1795387501145438123 ", b"anchor 81245000123456 1795387501.145438", b'process("/usr/libexec/qemu-kvm").mark("',
    b'")', b"qemu-system-x86_64: ", b"kvm: ", b"Lost 4 events", b"WARNING: Number of errors: 0, skipped probes: 7",
    b"0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0 [/usr/libexec/qemu-kvm]", b"new state ", b"setup", b"active", b"completed",
    b"failed", b"cancelled", b"postcopy-active", b"postcopy-paused", b"pre-switchover", b"device", b"\xff\xfe", b"\0",
    b'{"downtime-limit": 300}', b"18446744073709551615", b"-9223372036854775808", b"nan", b"inf", b"1e308",
)  # fmt: skip


#: What stands in front of a seed for each target: the formats, and a stream that is replayed, live and scraped, or shown.
_HEADS: Final = {"formats": (b"\0", b"\2", b"\4", b"\7"), "machine": (b"\x07\x0c", b"\x4f\x26", b"\xf7\x0c")}


def corpus() -> Iterator[bytes]:
    """Return each short log, and a few lines of each event of the long recordings."""
    for log in LOGS.values():
        yield log[:_SEED_BYTES]
    for name in RECORDINGS:
        seen: dict[bytes, int] = {}
        kept: list[bytes] = []
        for line in islice(recording(name).splitlines(keepends=True), 20_000):
            event = re.sub(rb"[\d.@:/-]+", b"", line)[:24]
            seen[event] = seen.get(event, 0) + 1
            if seen[event] <= _OF_ONE_EVENT:
                kept.append(line)
        yield b"".join(kept)[:_SEED_BYTES]


def write(target: str, directory: Path) -> Path:
    """Write the seeds and the dictionary for a target; return the dictionary's path."""
    seeds = directory / "seeds"
    seeds.mkdir()
    heads = _HEADS[target]
    for number, seed in enumerate(corpus()):
        for kind, head in enumerate(heads):
            (seeds / f"{number:03}-{kind}").write_bytes(head + seed)
    words = {*_WORDS, *(row.name.encode() for row in LAYOUTS)}
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in sorted(words))
    dictionary = directory / "words"
    dictionary.write_text("".join(f'"{each}"\n' for each in quoted))
    return dictionary
