"""Tests of `core.parsing.formats.lttng`."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import (
    ErrorReported,
    Event,
    Pending,
    SectionStarted,
    SignalEvent,
    StateSet,
    Transferred,
)
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.parsing.decoder import MALFORMED, Decoder, Malformed
from qemu_migration_exporter.core.parsing.formats import detect
from qemu_migration_exporter.core.parsing.formats.lttng import Lttng
from qemu_migration_exporter.core.terms import Signal

from tests.support.core_helpers import read

_TOD_NS = ((10 * 60 + 15) * 60 + 3) * 10**9 + 13_000_000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            '[10:15:03.013000000] (+0.013000000) host1 qemu:migrate_set_state: { cpu_id = 2 }, { new_state = "setup" }',
            StateSet(_TOD_NS, None, "setup"),
        ),
        (
            "[10:15:03.013000000] (+?.?????????) host1 qemu:savevm_state_header: { cpu_id = 2 }, {  }",
            SignalEvent(_TOD_NS, None, Signal.HEADER),
        ),
        (
            "[10:15:03.013000000] (+0.1) host1 qemu:savevm_state_iterate: { cpu_id = 0 }, { vpid = 41, vtid = 43 }, { }",
            SignalEvent(_TOD_NS, 43, Signal.ITERATE),
        ),
        (
            (
                "[2026-09-21 10:15:03.013000000] (+0.1) qemu:migrate_pending: { cpu_id = 2 }, "
                "{ size = 1090519040, max = 0, pre = 0, compat = 7, post = 0 }"
            ),
            Pending(_TOD_NS, None, 1_090_519_040, 0, 7),
        ),
        (
            (
                "[1790001200.013000000] (+0.1) host1 qemu:migrate_transferred: { cpu_id = 2 }, "
                "{ tranferred = 12, time_spent = 100, bandwidth = 120, avail_bw = 0, size = 36 }"
            ),
            Transferred(1_790_001_200_013_000_000, None, 12, 100, 0, 36),
        ),
        (
            (
                "[10:15:03.013000000] (+0.1) h qemu:vmstate_downtime_checkpoint: { cpu_id = 2 }, "
                '{ checkpoint = "src-downtime-start" }'
            ),
            SignalEvent(_TOD_NS, None, Signal.DOWNTIME_START),
        ),
        (
            '[10:15:03.013000000] (+0.1) h qemu:savevm_section_start: { cpu_id = 2 }, { id = "a, b = {1}", section_id = 3 }',
            SectionStarted(_TOD_NS, None, "a, b = {1}", 3),
        ),
        ("[10:15:03.013000000] (+0.1) h qemu:multifd_send: { cpu_id = 2 }, { id = 3 }", None),
        ("[10:15:03.013000000] (+0.1) h qemu:migrate_pending: { cpu_id = 2 }, { size = 1 }", MALFORMED),
        ("[10:15:03.013000000] (+0.1) h sched:sched_switch: { cpu_id = 2 }, { prev_pid = 1 }", None),
        ("Trace was lost", None),
        ("qemu-system-x86_64: Broken pipe", ErrorReported(None, None, "Broken pipe")),
        ("migrate_set_st", MALFORMED),
    ],
)
def test_line_reads_as_event(line: str, expected: Event | Malformed | None) -> None:
    assert expected == Lttng(Decoder()).parse(line.encode())


def test_process_comes_from_context() -> None:
    lttng = Lttng(Decoder())
    lttng.parse(b"[10:15:03.0130000] x")
    lttng.parse(b"[10:15:03.013000000] (+0.1) h qemu:savevm_state_iterate: { cpu_id = 0 }, { vpid = 41 }, { }")
    assert lttng.process == 41


def test_lines_of_several_cpus_are_put_in_order() -> None:
    """Each CPU has a buffer of its own, and babeltrace may print a late one after the others."""
    line = "[1790001200.{:09}] (+0.1) host1 qemu:{}: {{ cpu_id = {} }}, {{ {} }}\n"
    events = [
        (0, "migrate_set_state", 0, 'new_state = "setup"'),
        (9_000_000, "migrate_set_state", 0, 'new_state = "completed"'),
        (4_000_000, "migrate_set_state", 1, 'new_state = "active"'),
    ]
    reading = read("".join(line.format(*event) for event in events))
    assert ([], "completed") == (reading.surprises, reading.migration.progress.state)
    assert ClockKind.PROBE is reading.migration.identity.clock


def test_time_continues_past_midnight() -> None:
    lttng = Lttng(Decoder())
    texts = ("23:59:59.900000000", "00:00:00.100000000", "00:00:00.300000000")
    events = [lttng.parse(f"[{text}] (+0.1) h qemu:savevm_state_iterate: {{ }}, {{ }}".encode()) for text in texts]
    times = [event.at_ns for event in events if event is not None and not isinstance(event, Malformed)]
    assert [0, 200_000_000, 400_000_000] == [at_ns - (times[0] or 0) for at_ns in times if at_ns is not None]


@pytest.mark.parametrize(("text", "passed_s"), [("09:59:58.000000000", -43_200), ("09:59:57.000000000", 43_199)])
def test_line_half_a_day_before_is_of_the_next_day(text: str, passed_s: int) -> None:
    """A line may be late by less."""
    lttng = Lttng(Decoder())
    line = "[{}] (+0.1) h qemu:savevm_state_iterate: {{ }}, {{ }}"
    first, second = (lttng.parse(line.format(each).encode()) for each in ("21:59:58.000000000", text))
    assert isinstance(first, SignalEvent)
    assert isinstance(second, SignalEvent)
    assert passed_s == ((second.at_ns or 0) - (first.at_ns or 0)) // 10**9


def test_known_event_reveals_format() -> None:
    known = b"[10:15:03.013000000] (+0.1) h qemu:savevm_state_iterate: { cpu_id = 0 }, { }"
    assert detect(known, Decoder()) == "lttng"
    assert detect(known.replace(b"savevm_state_iterate", b"multifd_send"), Decoder()) is None


@pytest.mark.parametrize(("line", "claimed"), [(b"[10:15:03.013000000] x", True), (b"10:15:03 x", False)])
def test_line_in_brackets_is_claimed(line: bytes, *, claimed: bool) -> None:
    """It is no envelope around an event of another format."""
    assert Lttng(Decoder()).claims(line) is claimed
