"""Tests of `core.parsing.envelope`: text around each event, whatever tool put it there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import ClockKind, Migration
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.support.core_helpers import new_stream, recording
from tests.support.core_helpers import read as read_all
from tests.support.paths import DATA

PLAIN = (DATA / "streams" / "A09-plain-reference.log").read_bytes().splitlines()
ISO = recording("qemu-10.0-log-nonconverging").splitlines()[:200]
BARE = [line.partition(b":")[2] for line in PLAIN]
PROBE = recording("qemu-7.2-bpftrace-postcopy").splitlines()
SYSTEMTAP = recording("qemu-kvm-2.6-systemtap").splitlines()

Wrap = Callable[[int, bytes], bytes]


def prefixed(*texts: str) -> Wrap:
    """Return a function that puts one of the texts before a line, in turn; `{n}` is minutes and seconds."""
    return lambda number, line: (
        texts[number % len(texts)].replace("{n}", f"{number // 60:02}:{number % 60:02}").encode() + line
    )


def as_json(key: str, **others: object) -> Wrap:
    """Return a function that makes a line the text of a JSON object."""
    return lambda _, line: json.dumps({"level": "info", **others, key: line.decode("latin-1"), "z": 1}).encode()


WRAPS: dict[str, Wrap] = {
    "journald": prefixed("Sep 21 14:{n} pve1 kvm[4001]: ", "Sep  1 04:{n} pve1 kvm[4001]: "),
    "journald with another unit": prefixed("Sep 21 14:{n} node-3.example.org qemu-system-x86_64[4001]: "),
    "journald -o short-iso": prefixed("2026-09-21T14:{n}+0200 pve1 kvm[4001]: "),
    "journald -o short-full": prefixed("Mon 2026-09-21 14:{n} CEST pve1 kvm[4001]: "),
    "kubectl --timestamps": prefixed("2026-09-21T14:{n}.123456789Z "),
    "kubectl --prefix": prefixed("[pod/virt-launcher-web-42-x7k2p/compute] "),
    "CRI log file": prefixed("2026-09-21T14:{n}.123456789+02:00 stdout F "),
    "compose": prefixed("vm1  | "),
    "compose without blanks": prefixed("vm1|"),
    "compose with two services": prefixed("vm1  | ", "web-42-1  | "),
    "a quoted mail": prefixed("> "),
    "a quoted quote": prefixed("> > "),
    "an indented paste": prefixed("    "),
    "a list": prefixed("- "),
    "HMP": prefixed("(qemu) ", "", "", "", ""),
    "stern": prefixed("virt-launcher-web-42 compute "),
    "ts of moreutils": prefixed("Nov 27 20:14:{n} "),
    "syslog RFC 5424": prefixed("<30>1 2026-09-21T14:{n}.003Z host qemu 4001 - - "),
    "rsyslog with a tab": prefixed("host1\tqemu\t"),
    "execname with a blank": prefixed("live_migration(4100) ", "CPU 0/KVM(4102) "),
    "virt-launcher": as_json("msg", component="virt-launcher", subcomponent="qemu"),
    "docker's json-file": as_json("log", stream="stdout"),
    "journald -o json": as_json("MESSAGE", _PID="4001"),
    "JSON behind a time": lambda n, line: b"2026-09-21T14:40:00.123456789Z " + as_json("msg", level="info")(n, line),
}  # fmt: skip


def read(lines: list[bytes], clock: ClockKind = ClockKind.RECONSTRUCTED) -> tuple[Stream, list[Migration]]:
    """Read lines as one stream."""
    stream = Stream("web.log", vm="web", untimed=clock, start_ns=10**18)
    changes = stream.feed(b"\n".join(lines) + b"\n") + stream.close()
    return stream, [change.migration for change in changes if isinstance(change, MigrationEnded)]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("lines", [PLAIN, ISO, PROBE], ids=["qemu-log", "ISO", "probe"])
def test_timed_lines_read_as_without_envelope(lines: list[bytes], wrap: Wrap) -> None:
    plain, expected = read(lines)
    wrapped, migrations = read([wrap(number, line) for number, line in enumerate(lines)])

    assert (plain.format_name, plain.counts) == (wrapped.format_name, wrapped.counts)
    assert [(each.result, each.downtime_ns, each.rounds) for each in expected] == [
        (each.result, each.downtime_ns, each.rounds) for each in migrations
    ]


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS)
@pytest.mark.parametrize("lines", [BARE, SYSTEMTAP], ids=["bare", "systemtap"])
def test_untimed_enveloped_lines_count(lines: list[bytes], wrap: Wrap) -> None:
    """The envelope may have a time, so only counts are compared. The first lines of a shape may teach nothing."""
    plain, expected = read(lines)
    wrapped, migrations = read([wrap(number, line) for number, line in enumerate(lines)])

    assert wrapped.counts.lines == plain.counts.lines
    assert wrapped.counts.malformed == plain.counts.malformed
    assert wrapped.counts.events >= plain.counts.events - 8
    assert [each.result for each in expected] == [each.result for each in migrations]


@pytest.mark.parametrize(
    "prefix",
    [
        "1790001200003456 qemu-kvm(382) ",
        "1790001200003456000 ",
        "1790001200.003456 pve1 kvm[1]: ",
        "[1790001200.003456] ",
        "2026-09-21T14:33:20.003456Z web ",
        "2026-09-21T16:33:20.003456+02:00 stdout F ",
        "2026-09-21T16:33:20.003456+0200 pve1 kvm[1]: ",
    ],
)
def test_envelope_time_is_event_time(prefix: str) -> None:
    stream, (migration,) = read([prefix.encode() + line for line in BARE[:50]])
    assert stream.clock_kind is ClockKind.PROBE
    assert migration.identity.start_ns == 1_790_001_200_003_456_000


def test_envelope_time_since_boot_begins_at_arrival() -> None:
    """As in the kernel's log: only the distances between lines are known."""
    _, (migration,) = read([b"[12345.%06d] %s" % (number, line) for number, line in enumerate(BARE[:50])])
    assert migration.identity.start_ns == 10**18
    assert migration.end_ns == 10**18 + 49_000


@pytest.mark.parametrize("line", [
    b"/usr/bin/qemu-system-x86_64 -trace migrate_set_state -trace savevm_state_iterate \\",
    b"-trace migrate_set_state \\",
    b'{"execute": "trace-event-set-state", "arguments": {"name": "migrate_set_state", "enable": true}}',
    b"see savevm_state_header of the reference",
    b"migrate_pend migrate_set_state new state setup",
    b"4001@1790001200.000000:migr 4001@1790001200.000000:multifd_send 1",
    b"sdt_qemu:migration_thread_low_pending 0",
    b"usdt:/usr/bin/qemu:qemu:migration_thread_low_pending 0",
    b"",
    b" ",
])  # fmt: skip
def test_weak_evidence_teaches_no_envelope(line: bytes) -> None:
    """A command line, a torn line or a word in a sentence is no event, and the plain log behind it is read as ever."""
    stream, (migration,) = read([line, *PLAIN])
    assert stream.snapshot().envelopes == ()
    assert stream.counts.events == len(PLAIN)
    assert migration.result == "completed"


def test_unknown_mark_teaches_no_envelope() -> None:
    """The mark has no envelope in front of it."""
    stream, _ = read([b'process("/usr/libexec/qemu-kvm").mark("x")'])
    assert stream.snapshot().envelopes == ()


def test_envelope_survives_restart() -> None:
    wrap = WRAPS["journald"]
    lines = [wrap(number, line) + b"\n" for number, line in enumerate(BARE)]
    before, after = (Stream("web.log", vm="web", start_ns=10**18) for _ in range(2))
    before.feed(b"".join(lines[:20]))
    after.restore(before.snapshot())
    changes = after.feed(b"".join(lines[20:])) + after.close()

    assert [change.migration.result for change in changes if isinstance(change, MigrationEnded)] == ["completed"]
    assert (after.counts.events, after.counts.malformed) == (len(lines) - 20, 0)


def test_torn_enveloped_line_is_malformed() -> None:
    wrap = WRAPS["compose"]
    lines = [wrap(0, line) for line in [*PLAIN[:5], b"4001@1790001200.500000:migrate_pen", b"prose, and m", *PLAIN[5:]]]
    stream, _ = read(lines)
    assert (stream.counts.events, stream.counts.malformed, stream.counts.noise) == (len(PLAIN), 1, 1)


@pytest.mark.parametrize("name", ["journald", "compose", "virt-launcher"])
def test_noise_in_envelope_is_noise(name: str) -> None:
    """Also in blocks so large and noisy that plain lines would go through the prefilter."""
    noise = [b"4100@1790001200.300000:migration_transferred_bytes qemu_file 1 multifd 0 RDMA 0"] * 3_000
    wrap = WRAPS[name]
    stream = Stream("web.log", vm="web")
    for part in (PLAIN[:20], noise, noise, PLAIN[20:]):
        stream.feed(b"".join(wrap(0, line) + b"\n" for line in part))
    assert (stream.counts.events, stream.counts.noise) == (len(PLAIN), len(noise) * 2)


def test_learning_cost_is_bounded() -> None:
    """Each line has thousands of parts that are no event, each in an envelope of its own."""
    began = time.process_time()
    lines = [
        b",".join(b'"k%d_%d":"migrate_set_state new stat %d"' % (line, part, part) for part in range(1_500))
        for line in range(60)
    ]
    stream, (migration,) = read([PLAIN[0], *lines, *PLAIN[1:]])
    assert (stream.counts.events, migration.result) == (len(PLAIN), "completed")
    assert time.process_time() - began < 2.0


def test_impossible_date_leaves_the_event_without_its_time() -> None:
    prefixes = [b"2026-09-21T14:33:20.003456Z web ", b"2026-02-30T14:33:20.003456Z web "]
    stream, (migration,) = read([prefixes[number % 2] + line for number, line in enumerate(BARE)])
    assert (stream.counts.events, migration.result) == (len(BARE), "completed")


def test_escape_that_json_does_not_have_is_kept() -> None:
    lines = [as_json("msg")(number, line) for number, line in enumerate(PLAIN)]
    torn = rb'{"level": "info", "msg": "4001@1790001200.000000:migrate_error error=cut \q", "z": 1}'
    stream, (migration,) = read([*lines, torn])
    assert (stream.counts.noise + stream.counts.malformed, migration.result) == (0, "completed")


def test_shapes_of_a_stream_are_bounded() -> None:
    """A line of another shape is noise then, and costs no more."""
    names = [f"{'!' * number} " for number in range(1, 25)]
    stream, _ = read([name.encode() + line for name in names for line in PLAIN[:3]])
    assert len(stream.snapshot().envelopes) == 16


LOGGED = "4001@1790001200.000000:migrate_set_state new state setup"
LOGGED_ISO = "2026-09-21T14:33:20.000000Z migrate_set_state new state setup"


@pytest.mark.parametrize("event", [LOGGED, LOGGED_ISO])
@pytest.mark.parametrize(
    "wrap",
    [
        "web.log:{}", "/var/log/libvirt/qemu/web-42.log:{}", "web-42.log:12:{}", "web-42.log-{}", "+{}", "-{}", "`{}`",
        "    MESSAGE={}", '    "{}",', 'time=2026-09-21T14:33:20Z level=info msg="{}"', '2026-09-21,"{}"', "'{}'",
        '[pid  4001] write(2, "{}\\n", 54) = 54', "\x1b[32m{}\x1b[0m", "\x1b[36mvm1  | \x1b[0m{}", "\ufeff{}",
    ],
)  # fmt: skip
def test_envelope_without_a_blank_is_opened(wrap: str, event: str) -> None:
    """As of grep, a diff, quotes of any kind, colours of a terminal, and the mark at a file's beginning."""
    reading = read_all("".join(f"{wrap.format(line)}\n" for line in (event, event.replace("setup", "active"))))
    assert ("qemu-log", 2, 0) == (reading.stream.format_name, reading.counts.events, reading.counts.malformed)
    assert "active" == reading.migration.progress.state


def test_colours_are_kept_in_a_checkpoint() -> None:
    """With the envelope behind them."""
    first, second = (
        f"\x1b[36mvm1  | \x1b[0m{LOGGED.replace('setup', state)}\n".encode() for state in ("setup", "active")
    )
    before, after = new_stream(), new_stream()
    before.feed(first)
    after.restore(before.snapshot())
    after.feed(second)
    assert 1 == after.counts.events
