"""Tests of `core.parsing.prefilter`: a line that it drops is noise when parsed, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qemu_migration_exporter.core.parsing.decoder import Decoder
from qemu_migration_exporter.core.parsing.formats import FORMATS, Format, detect, detection_prefilter
from qemu_migration_exporter.core.parsing.line_splitter import LineSplitter
from qemu_migration_exporter.core.parsing.options import ParserOptions
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter, alternation, reject_prefixes
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS, EventLayout
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.support.core_helpers import MADE, SMALL, recording
from tests.unit.parsing.test_trace_events import EXAMPLES

#: Noise of every format, and what is not quite noise.
SENTENCES: Final = [
    b"9313@1795387133.875916:migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0",
    b"9313@1795387133.875916:migration_rate_limit_post urgent: 0",
    b"9313@1795387133.875916:migration_rate_limit_pre 100 ms",
    b"9313@1795387133.875916:migrate_pending_nonsense 7",
    b"9313@1795387133.875916:source_return_path_thread_loop_top ",
    b"9313@1795387133.875916:foo 9313@1795387133.875916:migrate_set_state new state setup",
    b"9313@1795387133.875916:migrate_set",
    b"9313@17953871migrate_set",
    b"2026-11-22T22:39:13.610586Z migrate_set_state new state setup",
    b"2026-11-22T22:39:13Z migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0",
    b"2026-11-22T22:39:13.610586Z guest qemu-system-x86_64: Unable to write to socket: Broken pipe",
    b"2026-11-22T22:39:13.610586Z Lost 4 events",
    b"migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0",
    b"12@kvm kvm: no",
    b"anchor 81245000123456 1795387501.145438",
    b"26734/26790@81245000200000 migrate_set_state new state active",
    b"26734/26790@81245000200000 migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0",
    b"26734@1795387501145438123 foo 26734@1795387501145438123 migrate_set_state new state active",
    b"2026-11-22T22:39:13.610586Z -name guest=web-42,debug-threads=1 4",
    b"-name guest=web-42,debug-threads=1 4",
    b"/usr/bin/qemu-system-x86_64 -name web-42 4",
    b"Lost 4 events",
    b"WARNING: Number of errors: 0, skipped probes: 7",
    b'process("/usr/libexec/qemu-kvm").mark("savevm_state_iterate")',
    b'process("/usr/libexec/qemu-kvm").mark("migration_transferred_bytes")',
    b'process("/usr/libexec/qemu-kvm").provider("qemu").mark("migration_transferred_bytes")',
    b'process("/usr/libexec/qemu-kvm").mark("migration_transf',
    b'process("/usr/l',
    b"p",
    b"m",
    b"qmp_migrate uri:fd:migrate",
    b"enter bitmap_set start:0 nr:163840",
    b" 0x7f9b71b2ee30 : qmp_migrate+0x0/0x2e0 [/usr/libexec/qemu-kvm]",
    b"",
    b"\r",
    *(event.encode() for _, event, _ in EXAMPLES),
    *(b"9313@1795387133.875916:" + event.encode() for _, event, _ in EXAMPLES),
]

pieces = st.sampled_from(SENTENCES) | st.binary(max_size=12)
#: Whole sentences, cut ones, and several glued together, in lines.
blocks = st.lists(
    st.tuples(pieces, st.integers(0, 99), pieces, st.sampled_from([b"\n", b"\n", b"\r\n", b""])), max_size=12
).map(lambda drawn: b"\n" + b"".join(one[: cut or None] + other + end for one, cut, other, end in drawn) + b"\n")


def formats() -> dict[str, Format]:
    """Return a new one of each format, and QEMU's log also after a time in ISO 8601."""
    iso = FORMATS["qemu-log"](Decoder())
    assert iso.parse(b"2026-11-22T22:39:13.610586Z savevm_state_setup ") is not None
    return {"qemu-log, ISO 8601": iso, **{name: make(Decoder()) for name, make in FORMATS.items()}}


def dropped(prefilter: LinePrefilter, block: bytes) -> list[bytes]:
    """Return the dropped lines; assert that the others are there in their order."""
    splitter = LineSplitter()
    lines, kept = splitter.split(block), splitter.cut(prefilter.keep(block))
    left_out = []
    rest = iter(kept)
    wanted = next(rest, None)
    for line in lines:
        if line == wanted:
            wanted = next(rest, None)
        else:
            left_out.append(line)
    assert wanted is None, "what is kept are lines of the block"
    return left_out


@settings(max_examples=1_000)
@given(block=blocks)
@example(block=b"\n9313@1795387133.875916:x 1\nmigrate_fd_cancel \n")
@example(block=b"\n9313@1795387133.875916:mig\nmigrate_fd_cancel \n")
def test_dropped_lines_are_noise(block: bytes) -> None:
    """In every format, for events, their pieces, several in one line, and bytes of any kind."""
    for each in formats().values():
        assert [] == [line for line in dropped(each.prefilter, block) if each.parse(line) is not None]


@settings(max_examples=500)
@given(block=blocks)
def test_detection_drops_all_noise(block: bytes) -> None:
    decoder = Decoder()
    for line in dropped(detection_prefilter(decoder.vocabulary), block):
        assert detect(line, decoder) is None
        assert {} == {name: each for name, each in formats().items() if each.parse(line) is not None}


@pytest.mark.parametrize("name", [*SMALL, *sorted(path.stem for path in MADE.glob("*.log"))])
def test_recordings_lose_no_event(name: str) -> None:
    data = (MADE / f"{name}.log").read_bytes() if name.startswith("made-") else recording(name)
    _, block = LineSplitter().take(b"\n" + data)
    for each in formats().values():
        assert [] == [line for line in dropped(each.prefilter, block) if each.parse(line) is not None]


@pytest.mark.parametrize(
    ("format_name", "line"),
    [
        ("qemu-log", b"9313@1795387133.875916:migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"),
        ("qemu-log", b"9313@1795387133.875916:source_return_path_thread_loop_top "),
        ("qemu-log", b"2026-11-22T22:39:13.610586Z migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"),
        ("qemu-log", b"2026-11-22T22:39:13Z multifd_send_fill 7"),
        ("qemu-log, ISO 8601", b"2026-11-22T22:39:13.610586Z migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"),
        ("qemu-log-bare", b"migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"),
        ("systemtap", b'process("/usr/libexec/qemu-kvm").mark("migration_transferred_bytes")'),
        ("systemtap-log", b"26734@1795387501145438123 migration_transferred_bytes qemu_file 1 multifd 0"),
        ("probe", b"26734/26790@81245000200000 migration_transferred_bytes qemu_file 1 multifd 0"),
    ],
)
def test_per_page_events_are_dropped(format_name: str, line: bytes) -> None:
    prefilter = formats()[format_name].prefilter
    assert [] == prefilter.keep(b"\n" + (line + b"\n") * 3)


@pytest.mark.parametrize("make", [lambda data: data, lambda data: data.replace(b"\n", b"\r\n")])
def test_noisy_stream_keeps_counts(make: Callable[[bytes], bytes]) -> None:
    """Read at once, most of its blocks go through the prefilter; in small pieces, none does."""
    data = make(recording("qemu-10.0-log-nonconverging"))
    at_once, in_pieces = Stream("a", vm="a"), Stream("a", vm="a")
    for start in range(0, len(data), 200_000):
        at_once.feed(data[start : start + 200_000])
    for start in range(0, len(data), 8_000):
        in_pieces.feed(data[start : start + 8_000])
    assert in_pieces.counts == at_once.counts
    assert in_pieces.running() == at_once.running()


def test_alternation_shares_prefixes() -> None:
    """A word that another begins with is enough for both."""
    assert b"(?:ab(?:c|d)|x)" == alternation([b"abc", b"abd", b"x", b"xy"])


@pytest.mark.parametrize(
    ("others", "words", "pattern"),
    [
        ([b"abxy"], [b"abc", b"abd"], b"(?!abx)"),
        ([b"xy"], [b"abc"], b"(?!x)"),
        ([b"ab"], [b"abc"], b""),
        ([b"abc"], [b"abc"], b""),
        ([b"ax", b"bx"], [b"ab", b"bc"], b"(?!ax)(?!bx)"),
        ([], [b"ab"], b""),
    ],
)
def test_reject_prefixes_are_shortest(others: list[bytes], words: list[bytes], pattern: bytes) -> None:
    """A word that the vocabulary begins with, as after an addition, is not rejected."""
    assert pattern == reject_prefixes(others, words)


def test_configured_event_is_kept() -> None:
    """Though QEMU prints a line of it for each page."""
    line = b"9313@1795387133.875916:migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"
    wanted = EventLayout(
        "migration_transferred_bytes", "8.1..", "qemu_file %u multifd %u RDMA %u", Signal.OTHER, "_ _ _"
    )
    assert [line] == FORMATS["qemu-log"](Decoder(ParserOptions(rows=(*LAYOUTS, wanted)))).prefilter.keep(
        b"\n" + line + b"\n"
    )
