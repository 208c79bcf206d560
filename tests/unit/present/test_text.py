"""The text report: quantities, the first sentence, and lines that fit any terminal."""

from __future__ import annotations

import gzip
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import (
    ClockKind,
    Device,
    Migration,
    PhaseName,
    Result,
    Round,
    StallReason,
)
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.text.layout import command
from qemu_migration_exporter.present.text.report import print_report
from qemu_migration_exporter.present.units import (
    MIB,
    cell,
    duration,
    duration_cell,
    limit,
    part_of,
    rate,
    share,
    size,
    sizes_apart,
)
from qemu_migration_exporter.present.view import Report, StreamView
from qemu_migration_exporter.present.view_builder import migration_view, stream_view
from qemu_migration_exporter.present.wording.styled import literal
from rich.cells import cell_len
from rich.console import Console

from tests.support.paths import DATA

RECORDINGS = sorted([*DATA.glob("*.log*"), *DATA.glob("made/*.log")], key=lambda path: path.name)
STUCK = "qemu-7.2-log-nonconverging.log"

DASH = "\N{EN DASH}"


def read(name: str, *, first: float = 0, last: float = 1, vm: str = "web-42") -> tuple[StreamView, list[Migration]]:
    """Run a part of a recording through the core, between two shares of its lines."""
    path = DATA / name
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = data.splitlines(keepends=True)
    stream = Stream(path.name, vm=vm)
    changes = stream.feed(b"".join(lines[int(len(lines) * first) : int(len(lines) * last)])) + stream.close()
    return stream_view(stream), [change.migration for change in changes if isinstance(change, MigrationEnded)]


def one(name: str, *, first: float = 0, last: float = 1) -> Migration:
    """Return the only migration of a recording."""
    (migration,) = read(name, first=first, last=last)[1]
    return migration


def printed(*migrations: Migration, streams: tuple[StreamView, ...] = (), width: int = 80, colour: bool = False) -> str:
    """Render a report as a terminal of this width shows it."""
    file = io.StringIO()
    console = Console(
        file=file,
        width=width,
        force_terminal=colour,
        no_color=not colour,
        color_system="standard" if colour else None,
    )
    print_report(Report(streams=streams, migrations=tuple(migration_view(each) for each in migrations)), console)
    return file.getvalue()


def stream_with(**given: Any) -> StreamView:  # noqa: ANN401 - any of its fields
    """Return the view of a stream that nothing was read of, with some of its fields replaced."""
    nothing: dict[str, Any] = {"lines": 0, "events": 0, "noise": 0, "malformed": 0}
    return StreamView(**{"name": "x.log", "format": None, "clock": ClockKind.PROBE, **nothing, **given})


def paragraph(report: str) -> str:
    """Return the first paragraph of the report, on one line."""
    return " ".join(report.partition("\n\n")[0].split("\n"))


def made_round(number: int, pending: int, *, bandwidth: float = 32 * MIB, sent: int = 40 * MIB) -> Round:
    """Make a round of a second."""
    return Round(
        number=number,
        start_ns=number * 10**9,
        end_ns=(number + 1) * 10**9,
        iterations=10,
        transferred_bytes=sent,
        pending_at_start_bytes=pending,
        pending_at_end_bytes=pending // 4,
        dirtied_bytes=sent,
        bandwidth_bytes_per_second=bandwidth,
    )


def with_rounds(*pending: int) -> Migration:
    """Return a migration whose rounds began with these bytes pending, the bulk round first."""
    rounds = tuple(made_round(number, size) for number, size in enumerate(pending, start=1))
    migration = one(STUCK, last=0.6)
    identity = replace(migration.identity, start_ns=10**9)
    return replace(migration, identity=identity, rounds=rounds, end_ns=rounds[-1].end_ns or 0)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, DASH),
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4.0 KiB"),
        (840_843, "0.8 MiB"),
        (49_283_072, "47.0 MiB"),
        (10 * 1024 * MIB - MIB, "10239.0 MiB"),
        (512 * 1024 * MIB, "512.0 GiB"),
        (12 * 1024 * 1024 * MIB, "12.0 TiB"),
    ],
)
def test_size_prefers_mib(count: int | None, expected: str) -> None:
    """Bytes are written in MiB with one decimal; other units appear at the far ends only."""
    assert size(count) == expected


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (8_094 * MIB, 24 * 1024 * MIB, "7.9 GiB of 24.0 GiB"),
        (12 * MIB, 24 * 1024 * MIB, "12.0 MiB of 24.0 GiB"),
        (1_100 * MIB, 4 * 1024 * MIB, "1100.0 MiB of 4096.0 MiB"),
    ],
)
def test_part_has_unit_of_its_whole(part: int, whole: int, expected: str) -> None:
    assert part_of(part, whole) == expected


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (10_096_640, 10_071_270, ("9.63 MiB", "9.60 MiB")),
        (49_283_072, 10_071_270, ("47.0 MiB", "9.6 MiB")),
        (49_283_072, 49_283_072, ("47.0 MiB", "47.0 MiB")),
        (49_283_072, 49_283_073, ("47.000 MiB", "47.000 MiB")),
    ],
)
def test_compared_sizes_read_differently(left: int, right: int, expected: tuple[str, str]) -> None:
    """Two sizes in one sentence get the decimals that tell them apart, to a limit."""
    assert sizes_apart(left, right) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, DASH),
        (0.0, "0 ms"),
        (0.000_004, "<0.1 ms"),
        (0.000_604, "0.6 ms"),
        (0.009_96, "10 ms"),
        (0.030_851, "31 ms"),
        (0.999_4, "999 ms"),
        (0.999_6, "1.0 s"),
        (12.288_874, "12.3 s"),
        (119.94, "119.9 s"),
        (119.96, "2 min 0 s"),
        (3_661.0, "61 min 1 s"),
        (7_500.0, "2 h 5 min"),
    ],
)
def test_duration_has_about_three_digits(seconds: float | None, expected: str) -> None:
    """An unknown duration is a dash and never 0."""
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(None, DASH), (1.2, "1.2 s "), (0.904, "904 ms"), (125.0, "2m 5s"), (7_500.0, "2h 5m")],
)
def test_durations_of_column_align(seconds: float | None, expected: str) -> None:
    """In a column, s is as wide as ms, and a duration of two units is short."""
    assert duration_cell(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "beside", "expected"),
    [
        (None, None, DASH),
        (0.3, None, "300 ms"),
        (0.3, 0.031, "300 ms"),
        (0.3, 1.5, "0.3 s"),
        (0.35, 200.0, "0.35 s"),
        (0.3, 8_000.0, "0.3 s"),
        (2.0, 0.031, "2 s"),
        (0.299_999_9, 0.1, "300 ms"),
    ],
)
def test_limit_has_unit_beside_it(seconds: float | None, beside: float | None, expected: str) -> None:
    """0.3 s beside 1.5 s, and 300 ms beside 31 ms."""
    assert limit(seconds, beside) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(None, DASH), (0, "0.0"), (1_000, "<0.1"), (160.5 * MIB, "160.5"), (2394 * MIB, "2394.0")]
)
def test_cell_has_no_unit(count: float | None, expected: str) -> None:
    """The caption names the unit; a little is not 0."""
    assert cell(count, MIB) == expected


def test_rates_and_shares() -> None:
    """Unknown values are dashes."""
    assert (rate(33_570_000), rate(None)) == ("32.0 MiB/s", DASH)
    assert (share(1, 4), share(1, 1_000), share(0, 4), share(1, None)) == ("25 %", "<1 %", "0 %", DASH)


@pytest.mark.parametrize(
    ("words", "cells", "expected"),
    [
        ("web-42", 20, "web-42"),
        ("[red]x[/red]", 20, "[red]x[/red]"),
        ("a\nb\tc\x1b[31m", 40, r"a\nb\tc\x1b[31m"),
        ("\u202egnp.exe", 40, r"\u202egnp.exe"),
        ("\udc80", 40, r"\udc80"),
        ("0123456789abcdef", 9, "0123…cdef"),
        ("日本語日本語日本語", 9, "日本…本語"),
    ],
)
def test_tenants_words_are_harmless(words: str, cells: int, expected: str) -> None:
    """Control characters are escaped, and both ends of long words stay."""
    assert literal(words, cells) == expected
    assert cell_len(literal(words, cells)) <= cells


SENTENCES = [
    (
        "qemu-7.2-log-nonconverging.log",
        (
            "web-42 completed in 12.3 s: 31 ms of downtime within its limit of 300 ms, 659.7 MiB sent in 16 rounds. "
            f"It was stalled from 6.3 s to 12.3 s: rounds 2{DASH}16 began with 47.0 MiB or more pending: at 31.7 MiB/s "
            "that needed 1.5 s of downtime and the limit was 0.3 s; then the bandwidth rose to 2394.0 MiB/s."
        ),
    ),
    (
        "qemu-10.0-log-nonconverging.log.gz",
        (
            "web-42 completed in 8.2 s: 21 ms of downtime within its limit of 300 ms, 290.1 MiB sent in 7 rounds. "
            f"It was stalled from 7.6 s to 8.2 s: rounds 3{DASH}7 began with 47.0 MiB or more pending: at 32.5 MiB/s "
            "that needed 1.4 s of downtime and the limit was 0.3 s; then the bandwidth rose to 221.7 MiB/s."
        ),
    ),
    (
        "qemu-7.2-log-idle.log",
        "web-42 completed in 28 ms: 1.1 ms of downtime within its limit of 300 ms, 1 round.",
    ),
    (
        "qemu-7.2-log-postcopy.log",
        (
            "web-42 completed in 5.2 s: 1.6 ms of downtime within its limit of 300 ms, "
            "118 ms of post-copy with 1069 page requests, at least 250.0 MiB sent in 2 rounds."
        ),
    ),
    (
        "qemu-7.2-log-cancelled.log",
        (
            "web-42 was cancelled after 4.0 s, in round 1, the bulk round: 9.63 MiB were still pending, "
            "below 9.60 MiB the guest would have been stopped; 124.9 MiB sent."
        ),
    ),
    (
        "qemu-7.2-log-destination-killed.log",
        (
            "web-42 failed after 4.1 s, in round 1, the bulk round, with 128.1 MiB sent and 35.0 MiB pending; "
            "QEMU says “Unable to write to socket: Broken pipe”."
        ),
    ),
    (
        "qemu-7.2-log-refused.log",
        (
            "web-42 failed after 0.6 ms, in setup; QEMU says "
            "“Failed to connect to '/run/migration/nobody.sock': No such file or directory”."
        ),
    ),
    (
        "qemu-kvm-2.6-systemtap.log",
        (
            "web-42 completed, as far as the trace shows, after iterating for 2.0 s: unknown downtime (limit 300 ms), "
            "at least 251.9 MiB sent in 1 round. The stream has no times: durations are reconstructed from time_spent; "
            "setup, downtime and device times are unknown."
        ),
    ),
    ("made/made-7.2-destination.log", "web-42 (incoming) completed in 100 ms."),
    (
        "made/made-7.2-pre-switchover.log",
        "web-42 completed in 1.6 s: 1.5 s of downtime, over the limit of 0.3 s, 12.5 MiB sent in 1 round.",
    ),
    (
        "made/made-7.2-joined.log",
        (
            "web-42 completed in at least 111 ms: 10 ms of downtime within its limit of 300 ms, "
            "at least 12.5 MiB sent in 1 round. "
            "The beginning is missing from the recording: times and counts start where it does."
        ),
    ),
    (
        "made/made-7.2-failed-in-completion.log",
        (
            "web-42 failed after 110 ms, in the switchover, with 12.5 MiB sent and 10.0 MiB pending; "
            "QEMU says “Unable to write to socket: Connection reset by peer”."
        ),
    ),
    (
        "made/made-7.2-cancelled-after-switchover.log",
        "web-42 was cancelled after 106 ms, in the switchover: 10.0 MiB were still pending; 12.5 MiB sent.",
    ),
    ("made/made-7.2-cancelled-in-setup.log", "web-42 was cancelled after 2.7 ms, before its first round."),
    (
        "made/made-7.2-cut.log",
        (
            "web-42 is unfinished: the recording ends 103 ms into it, in round 1, the bulk round, "
            "with 10.0 MiB still pending; QEMU would stop the guest below 37.5 MiB."
        ),
    ),
    (
        "made/made-stateless-aborted.log",
        "web-42 ended after 149 ms, and the recording does not show how; 12.5 MiB sent in 1 round.",
    ),
    (
        "made/made-2.4-failed.log",
        "web-42 failed after 50 ms, in round 1, the bulk round, with 256.0 MiB pending; QEMU gave no reason.",
    ),
]


@pytest.mark.parametrize(("name", "expected"), SENTENCES, ids=[name for name, _ in SENTENCES])
def test_report_begins_with_verdict(name: str, expected: str) -> None:
    """VM, end, and the first numbers to ask for."""
    words, _, identification = paragraph(printed(one(name), width=80)).rpartition("trace ")

    assert words.removesuffix(" ").startswith(expected)
    assert identification == one(name).identity.trace_id


def test_stalled_sentence_has_needs() -> None:
    """The commands follow the sentence."""
    report = printed(one(STUCK, last=0.6), width=100)

    assert paragraph(report).startswith(
        f"web-42 is stalled where the recording ends, 8.5 s into it, in round 7: rounds 2{DASH}7 began with 47.0 MiB or "
        "more pending; sending that takes 1.5 s of downtime and the limit is 0.3 s; the guest dirties 31.5 MiB/s and "
        "31.6 MiB/s are sent; at best it would take more than another hour."
    )
    assert "  What would end it\n  virsh migrate-setspeed web-42 173\n" in report
    assert "  virsh migrate-setmaxdowntime web-42 1700\n    the guest stands still for up to 1.7 s\n" in report


def test_unfinished_sentence_has_needs() -> None:
    """Before it counts as stalled."""
    words = paragraph(printed(one(STUCK, last=0.35)))

    assert words.startswith(
        "web-42 is unfinished: the recording ends 4.9 s into it, in round 4, which began with 47.0 MiB pending; QEMU "
        "would stop the guest below 9.6 MiB, but sending 47.0 MiB at 31.7 MiB/s needs 1.5 s of downtime and the limit is "
        "0.3 s. "
    )


@pytest.mark.parametrize(
    ("converging", "eta", "expected"),
    [
        (True, (4.0, 9.0), "; at this rate it ends in 4.0 s to 9.0 s."),
        (True, (4.0, 4.0), "; at this rate it ends in 4.0 s."),
        (True, (0.2, 9.0), "; at this rate it ends within 9.0 s."),
        (None, (0.0, 60.0), "; so near, it can end at any moment, and does most likely within 60.0 s."),
        (True, (0.2, 0.4), "the limit is 0.3 s."),
        (None, None, "the limit is 0.3 s."),
    ],
)
def test_eta_is_in_words(*, converging: bool | None, eta: tuple[float, float] | None, expected: str) -> None:
    stuck = one(STUCK, last=0.35)
    verdict = replace(stuck.progress.verdict, converging=converging, eta_seconds=eta)
    words = paragraph(printed(replace(stuck, progress=replace(stuck.progress, verdict=verdict))))
    assert expected in words


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (StallReason.NO_THROUGHPUT, "nothing has been sent for 5.0 s; it goes on when the network carries data again."),
        (
            StallReason.BLOCKED_SETUP,
            "setup has not ended for 5.0 s; it goes on when the destination accepts the connection.",
        ),
        (
            StallReason.BLOCKED_WAIT_UNPLUG,
            "the guest has not given up its network device for 5.0 s; it goes on when the guest's driver releases the failover device.",
        ),
        (
            StallReason.BLOCKED_PRE_SWITCHOVER,
            "has been stopped, waiting for migrate-continue, for 5.0 s; it goes on with migrate-continue, which libvirt sends when the disks are copied.",
        ),
        (
            StallReason.SWITCHOVER_ACK,
            "the destination has not acknowledged the switchover for 5.0 s; QEMU stops the guest when the destination is ready",
        ),
        (
            StallReason.POSTCOPY_PAUSED,
            "post-copy has been without its network for 5.0 s; it goes on with a resume, once the network is back.",
        ),
    ],
)
def test_waiting_sentence_names_wait(reason: StallReason, expected: str) -> None:
    """With its length, and what ends it."""
    stuck = one(STUCK, last=0.6)
    stall = replace(stuck.stalls[0], reason=reason, since_ns=stuck.end_ns - 5_000_000_000)

    assert expected in paragraph(printed(replace(stuck, stalls=(stall,))))


def test_longest_stall_is_reported() -> None:
    """With their number; a stall that nothing cleared lasted to the end."""
    whole = one(STUCK)
    first = whole.stalls[0]
    waited = replace(first, number=2, reason=StallReason.NO_THROUGHPUT, start_ns=first.start_ns + 9, end_ns=None)
    words = paragraph(printed(replace(whole, stalls=(first, waited))))
    once = paragraph(printed(replace(whole, stalls=(waited,))))

    assert "It was stalled 2 times, for 12.0 s in all; the longest from 6.3 s on: nothing was sent for 10.9 s." in words
    assert "It was stalled from 6.3 s on: nothing was sent for 10.9 s." in once


def test_stall_without_numbers_is_reported() -> None:
    """The rounds are evidence enough."""
    stuck = one(STUCK, last=0.6)
    verdict = replace(stuck.progress.verdict, required_downtime_seconds=None, best_case_seconds=None)
    blind = replace(stuck, progress=replace(stuck.progress, verdict=verdict, dirty_bytes_per_second=None))
    unlimited = replace(stuck, progress=replace(stuck.progress, downtime_limit_seconds=None))
    whole = one(STUCK)
    past = replace(whole, stalls=(replace(whole.stalls[0], required_downtime_seconds=None),))

    assert f"rounds 2{DASH}7 began with 47.0 MiB or more pending. " in paragraph(printed(blind))
    assert "sending that takes 1.5 s of downtime; the guest dirties" in paragraph(printed(unlimited))
    assert f"rounds 2{DASH}16 began with 47.0 MiB or more pending; then the bandwidth rose" in paragraph(printed(past))


@pytest.mark.parametrize("width", [30, 80, 200])
def test_wrapped_command_runs_in_shell(width: int) -> None:
    """With long names and on narrow terminals."""
    whole = one(STUCK)
    option = migration_view(whole).verdict.past_advice[-1]
    lines = [line.plain for line in command(option.virsh, "  ", width, continuation=" \\")]

    assert all(len(line) <= width for line in lines)
    assert "\n".join(lines).replace("\\\n", " ").split() == option.virsh.split()


def test_phase_outside_rounds_is_named() -> None:
    """There is no boundary to calculate with."""
    post_copy = one("qemu-7.2-log-postcopy.log", last=0.5)
    paused = replace(post_copy, progress=replace(post_copy.progress, state="postcopy-paused"))

    assert "the recording ends 5.1 s into it, in post-copy. " in paragraph(printed(post_copy))
    assert "in post-copy, which is paused. " in paragraph(printed(paused))


def test_throttling_is_mentioned() -> None:
    """It explains a slow guest."""
    stuck = one(STUCK, last=0.6)
    throttled = replace(stuck, progress=replace(stuck.progress, throttle_ratio=0.99))

    assert "QEMU throttles the guest by 99 %." in printed(throttled)
    assert "throttles" not in printed(stuck)


@pytest.mark.parametrize("path", RECORDINGS, ids=[path.name for path in RECORDINGS])
@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_terminal(path: Path, width: int) -> None:
    """Lines are wrapped between words, fit, end without spaces, and are not longer than is good to read."""
    summary, migrations = read(str(path.relative_to(DATA)), vm="a-virtual-machine-with-a-name-of-40-letters")

    lines = printed(*migrations, streams=(summary,), width=width).splitlines()

    assert [line for line in lines if cell_len(line) > min(width, 100)] == []
    assert [line for line in lines if line != line.rstrip()] == []


def test_numbers_stay_with_their_units() -> None:
    """No line break comes between 9.6 and MiB."""
    for width in range(40, 100):
        for line in printed(one(STUCK, last=0.6), width=width).partition("\n\n")[0].splitlines():
            assert not line.startswith(("MiB", "s ", "ms ", "MiB/s"))


def test_markup_in_names_is_literal() -> None:
    """No colours, links, emoji or line breaks come from a name."""
    evil = "[red]x[/red]:smile:\n[link=http://x]y"
    migration = one("qemu-7.2-log-nonconverging.log")
    devices = tuple(replace(device, name=evil) for device in migration.devices)
    identity = replace(migration.identity, vm=evil)
    hostile = replace(
        migration, identity=identity, result=Result.FAILED, error=evil, devices=devices, downtime_parts=()
    )
    escaped = evil.replace("\n", "\\n")
    stream = stream_with(name=evil)

    words = " ".join(printed(hostile, streams=(stream,)).splitlines())

    assert words.startswith(f"{escaped} failed")
    assert f"QEMU says “{escaped}”" in words
    assert words.count("[red]x[/red]") == 12  # four of them in commands
    assert f"{escaped}: unknown format" in words


def test_long_words_are_shortened() -> None:
    """Neither a long name nor an error that quotes a whole command fills the screen."""
    migration = one("qemu-7.2-log-destination-killed.log")
    wordy = replace(migration, identity=replace(migration.identity, vm="v" * 300), error="e" * 5_000)

    lines = printed(wordy).partition("\n\n")[0].splitlines()
    narrow = printed(wordy, width=40).splitlines()

    assert len(lines) < 9
    assert all(len(line) <= 80 for line in lines)
    assert (narrow[0], narrow[1]) == ("v" * 24 + "…" + "v" * 15, "vvvvvvvv failed after 4.1 s, in round 1,")


def test_only_failure_is_red() -> None:
    """Red is for failures."""
    red = "\x1b[1;31m"

    assert red in printed(one("qemu-7.2-log-refused.log"), colour=True)
    for name in ("qemu-7.2-log-nonconverging.log", "qemu-7.2-log-cancelled.log"):
        assert ";31m" not in printed(one(name), colour=True)


def test_waterfall_marks_downtime() -> None:
    """The downtime has a line of its own, below the phase it begins in, and a bar to scale."""
    lines = printed(one("made/made-7.2-pre-switchover.log")).splitlines()
    names = [line.split()[0] for line in lines if line.startswith("  ") and ("━" in line or "█" in line or "│" in line)]
    (bar,) = [line for line in lines if line.startswith("  downtime")]

    assert names == ["setup", "iterate", "complete_precopy", "downtime", "cleanup"]
    assert bar.split()[1:5] == ["103", "ms", "1.5", "s"]
    assert bar.count("█") == 36


def test_short_phase_has_thin_mark() -> None:
    (line,) = [line for line in printed(one(STUCK)).splitlines() if line.startswith("  setup")]

    assert line.endswith("4.1 ms  │")


def test_open_phase_has_arrow() -> None:
    (line,) = [line for line in printed(one(STUCK, last=0.6)).splitlines() if line.startswith("  iterate")]

    assert line.endswith("━▸")


def test_untimed_phases_are_dashes() -> None:
    """On a reconstructed clock; the devices are one line."""
    report = printed(one("qemu-kvm-2.6-systemtap.log"))
    phases = {line.split()[0]: line.split()[1:3] for line in report.splitlines() if "━" in line or "│" in line}

    assert phases["setup"] == phases["complete_precopy"] == phases["cleanup"] == [DASH, DASH]
    assert phases["iterate"] == ["0", "ms"]
    assert "Devices  43 devices saved; their times are not in the stream\n" in report
    assert "downtime  " not in report


def test_bulk_and_open_rounds_are_marked() -> None:
    rows = [line.split() for line in printed(one(STUCK, last=0.6)).splitlines() if line.strip()[:1].isdigit()]
    bulk, *_, last = [row for row in rows if row[0].isdigit()]

    assert bulk == ["1", "7.2", "ms", "1.4", "s", "45.6", "47.0", "32.0", "160.5", "114.9", "bulk"]
    assert last == ["7", "7.4", "s", "1.1", "s", "35.2", DASH, "32.0", "47.0", "11.9", "not", "over"]


def test_joined_migration_has_no_bulk_round() -> None:
    """The first round of a recording that was joined is not the migration's first."""
    assert "bulk" not in printed(one("made/made-7.2-joined.log"))


def test_many_rounds_are_cut() -> None:
    """The first, the best and the last rounds stay."""
    migration = with_rounds(160 * MIB, *(20 * MIB + number * 7_919 * 4096 % MIB for number in range(3_000)))
    verdict = replace(migration.progress.verdict, best_round=1_000)
    lines = printed(replace(migration, progress=replace(migration.progress, verdict=verdict))).splitlines()

    assert "  … and 994 more" in lines
    assert "  … and 1993 more" in lines
    (best,) = [line for line in lines if line.endswith("best")]
    assert best.split()[0] == "1000"
    assert len(lines) < 55
    assert max(cell_len(line) for line in lines) <= 80


def test_terabytes_are_in_gib() -> None:
    """The table changes its unit before its columns become too wide."""
    lines = printed(with_rounds(3 * MIB * MIB, 9_000 * MIB, 8_000 * MIB)).splitlines()

    assert "  Rounds  in GiB and GiB/s" in lines
    assert [line.split()[-2] for line in lines if line.endswith("bulk")] == ["768.0"]
    assert max(cell_len(line) for line in lines) <= 80


def test_sparkline_omits_bulk_round() -> None:
    """One scale that begins at zero."""
    assert f"pending at start, rounds 2{DASH}4  ▇▄▁  40.0 MiB → 0.4 MiB" in printed(
        with_rounds(160 * MIB, 40 * MIB, 20 * MIB, 400 * 1024)
    )
    assert "each time" in printed(with_rounds(160 * MIB, 40 * MIB, 40 * MIB))
    assert "pending at start," not in printed(with_rounds(160 * MIB, 40 * MIB))


def test_slowest_devices_are_listed() -> None:
    """Five devices, slowest first, with their share; the rest is one line, and instances are told apart."""
    migration = one(STUCK)

    def device(name: str | None, instance: int | None, duration_ns: int | None) -> Device:
        return Device(number=1, name=name, vmsd_name=None, instance=instance, start_ns=0, duration_ns=duration_ns)

    devices = (
        *(device("cpu", instance, 1_000_000 * (instance + 1)) for instance in range(6)),
        device(None, None, 15_425_500),
        device("late", None, None),
    )

    lines = printed(replace(migration, devices=devices, downtime_ns=30_851_000, downtime_parts=())).splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("  Devices"))

    assert [line.strip() for line in lines[start : start + 8]] == [
        "Devices  7 took 36 ms of the downtime of 31 ms",
        f"{DASH}                     15.4 ms  50 %",
        "cpu #5                 6.0 ms  19 %",
        "cpu #4                 5.0 ms  16 %",
        "cpu #3                 4.0 ms  13 %",
        "cpu #2                 3.0 ms  10 %",
        "and 2 more, together   3.0 ms  10 %",
        "the times of 1 more are not in the stream",
    ]


def test_streams_come_last_and_quietly() -> None:
    """One line for each stream, without zeros."""
    summary, migrations = read("qemu-7.2-log-idle.log")

    assert printed(*migrations, streams=(summary,)).splitlines()[-1] == (
        "qemu-7.2-log-idle.log: qemu-log, 131 lines, 127 events, 4 noise"
    )


def test_malformed_and_surprises_are_marked() -> None:
    """The kinds are listed, in colour."""
    stream = stream_with(
        format="qemu-log", lines=10, events=5, noise=3, malformed=2, surprises={"duplicate": 1, "unpaired": 3}
    )

    assert printed(streams=(stream,)) == (
        "No migration was found: none of the events that were read begins one.\n\n"
        "x.log: qemu-log, 10 lines, 5 events, 3 noise, 2 malformed, 4 surprises\n(1 duplicate, 3 unpaired)\n"
    )
    assert "\x1b[36m2 malformed\x1b[0m" in printed(streams=(stream,), colour=True)


def test_unknown_numbers_are_left_out() -> None:
    """A migration with next to no known numbers has a report."""
    full = one(STUCK)
    progress = replace(
        full.progress,
        pending_bytes=None,
        threshold_bytes=None,
        bandwidth_bytes_per_second=None,
        downtime_limit_seconds=None,
        transferred_bytes=None,
    )
    identity = replace(full.identity, side=None, start_ns=10**21)
    bare = replace(
        full,
        identity=identity,
        progress=progress,
        rounds=(),
        phases=(),
        devices=(),
        stalls=(),
        outcome_ns=None,
        downtime_ns=None,
        downtime_start_ns=None,
    )

    starts = {result: paragraph(printed(replace(bare, result=result, end_ns=10**21 + 10**9))) for result in Result}
    side = "The stream does not show whether it was outgoing or incoming."

    assert starts == {
        Result.COMPLETED: f"web-42 completed: unknown downtime. {side} trace {identity.trace_id}",
        Result.FAILED: f"web-42 failed; QEMU gave no reason. {side} trace {identity.trace_id}",
        Result.CANCELLED: f"web-42 was cancelled. {side} trace {identity.trace_id}",
        Result.UNKNOWN: f"web-42 is unfinished: the recording ends 1.0 s into it. {side} trace {identity.trace_id}",
    }


def test_unknown_needs_are_left_out() -> None:
    stuck = one(STUCK, last=0.35)
    unlimited = replace(stuck, progress=replace(stuck.progress, threshold_bytes=None, downtime_limit_seconds=None))
    blind = replace(stuck, rounds=(replace(stuck.rounds[-1], pending_at_start_bytes=None),))

    assert "began with 47.0 MiB pending, and sending 47.0 MiB at 31.7 MiB/s needs 1.5 s of downtime. " in paragraph(
        printed(unlimited)
    )
    assert "is unfinished: the recording ends 4.9 s into it, in round 4. " in paragraph(printed(blind))


def test_unknown_downtime_is_not_made_up() -> None:
    """A downtime without a limit, and devices without a share."""
    full = one("qemu-7.2-log-idle.log")
    unlimited = replace(full, progress=replace(full.progress, downtime_limit_seconds=None))
    unknown = printed(replace(full, downtime_ns=None, downtime_parts=()))

    assert "completed in 28 ms: 1.1 ms of downtime, 1 round. " in paragraph(printed(unlimited))
    assert "completed in 28 ms: unknown downtime (limit 300 ms), 1 round. " in paragraph(unknown)
    assert [line.split()[-1] for line in unknown.splitlines() if "piix4_pm" in line] == [DASH]


def test_arrival_times_are_mentioned() -> None:
    migration = one("qemu-7.2-log-idle.log")
    arrived = replace(migration, identity=replace(migration.identity, clock=ClockKind.ARRIVAL))

    assert "The stream has no times: they are those at which its lines arrived." in paragraph(printed(arrived))


def test_lost_lines_are_mentioned() -> None:
    migration = replace(one("qemu-7.2-log-idle.log"), partial=True)

    assert "Lines of it are missing from the recording." in paragraph(printed(migration))


def test_phase_of_end_is_not_cleanup() -> None:
    """A migration fails in the phase that was open."""
    migration = one("qemu-7.2-log-destination-killed.log")

    assert migration.phases[-1].name is PhaseName.CLEANUP
    assert ", in round 1, the bulk round," in paragraph(printed(migration))
