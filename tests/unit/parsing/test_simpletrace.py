"""Tests of `core.parsing.formats.simpletrace`."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.events import Event, LowPending, Pending, SectionEnded, SignalEvent, StateSet
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed
from qemu_migration_exporter.core.parsing.formats import detect
from qemu_migration_exporter.core.parsing.formats.simpletrace import Simpletrace
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.tracking.stream import Stream


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("migrate_set_state 12.345 pid=4001 new_state=b'setup'", StateSet(12_345, None, "setup")),
        ("migrate_set_state 12.345 pid=4001 new_state=active", StateSet(12_345, None, "active")),
        ("savevm_state_header 0.000 pid=4001 ", SignalEvent(0, None, Signal.HEADER)),
        ("savevm_state_header 0.000 pid=4001", SignalEvent(0, None, Signal.HEADER)),
        ("migrate_pending 1.000 pid=1 size=0x41000000 max=0x0 pre=0x1 compat=0x7 post=0x0", Pending(1_000, None, 0x41000000, 0, 7)),
        ("migration_thread_low_pending 1.000 pid=1 pending=0x10", LowPending(1_000, None, 16)),
        ("savevm_section_end 1.000 pid=1 id=b'a b=c' section_id=0x3 ret=0xffffffffffffffff", SectionEnded(1_000, None, "a b=c", 3)),
        ("vmstate_downtime_checkpoint 1.000 pid=1 checkpoint=b'src-vm-stopped'", SignalEvent(1_000, None, Signal.VM_STOPPED)),
        ("multifd_send 1.000 pid=1 id=0x1", None),
        ("migrate_pending 1.000 pid=1 size=0x41000000", MALFORMED),
        ("migrate_pending 1.0", MALFORMED),
        ("Traceback (most recent call last):", None),
    ],
)  # fmt: skip
def test_line_reads_as_event(line: str, expected: Event | Malformed | None) -> None:
    assert expected == Simpletrace(Decoder()).parse(line.encode())


def test_time_is_sum_of_all_lines() -> None:
    """Also of noise, in blocks that would go through a prefilter."""
    noise = "".join(f"multifd_send {n % 10}.500 pid=7 id=0x0\n" for n in range(2_000))
    texts = [
        "migrate_set_state 0.000 pid=7 new_state=b'setup'\n",
        noise,
        noise,
        "migrate_set_state 1.000 pid=7 new_state=b'failed'\n",
    ]
    stream = Stream("trace.txt", vm="web", start_ns=10**18)
    changes = [change for text in texts for change in stream.feed(text.encode())] + stream.close()
    (migration,) = (change.migration for change in changes if isinstance(change, MigrationEnded))
    assert migration.outcome_ns == 10**18 + 2 * 2_000 * 5_000_000 // 1_000 + 1_000


def test_known_event_reveals_format() -> None:
    assert detect(b"savevm_state_iterate 0.100 pid=4001 ", Decoder()) == "simpletrace"
    assert detect(b"multifd_send 0.100 pid=4001 ", Decoder()) is None


@pytest.mark.parametrize(
    ("line", "is_claimed"), [(b"multifd_send 0.100 pid=4001 ", True), (b"multifd_send 0.1", False)]
)
def test_line_with_its_pid_is_claimed(line: bytes, *, is_claimed: bool) -> None:
    """It is no envelope around an event of another format."""
    assert is_claimed is Simpletrace(Decoder()).claims(line)
