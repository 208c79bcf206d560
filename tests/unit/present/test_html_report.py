"""The HTML report: valid, self-contained, and with the same sentences and numbers as the text report."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime

import html5lib
import pytest
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import ClockKind, DowntimePartName, PauseCause
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.html.report import html_report, migration_page
from qemu_migration_exporter.present.view import DowntimePartView, MigrationView, PauseView, Report, StreamView
from qemu_migration_exporter.present.wording.sentences import headline_text, notes

from tests.support.paths import DATA
from tests.support.recordings import RECORDINGS
from tests.support.web_helpers import migration, view

NOW = datetime(2026, 11, 27, tzinfo=UTC)
NONCONVERGING = "qemu-7.2-log-nonconverging"
HOSTILE = "</title></style><script>alert(1)</script>'\"&amp;\x00\x1b[31m\u202e\udc80"


def _report(*views: MigrationView) -> str:
    html = html_report(Report(streams=(), migrations=views), NOW)
    html5lib.HTMLParser(strict=True).parse(html)
    return html


def _words(html: str) -> str:
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL).replace("\N{NO-BREAK SPACE}", " ")
    return " ".join(text.replace("&#39;", "'").replace("&lt;", "<").split())


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_report_has_every_sentence(recording: object) -> None:
    of = view(migration(recording.name))  # type: ignore[attr-defined]
    words = _words(_report(of))

    for sentence in (headline_text(of), *notes(of)):
        assert sentence in words


def test_loads_of_destination_have_no_share() -> None:
    """Its downtime is the source's: a column of dashes says nothing."""
    stream = Stream("x", vm="web-42")
    changes = [*stream.feed((DATA / "streams" / "A01b-dst-setup-timed-ok.log").read_bytes()), *stream.close()]
    (of,) = [view(change.migration) for change in changes if isinstance(change, MigrationEnded)]
    html = _report(of)

    assert "loading the last memory 0.900 ms cpu 0.150 ms" in _words(html)
    assert "\N{EN DASH}" not in _words(html)


def test_report_loads_nothing() -> None:
    """One file for a ticket: no script, and no address of anything."""
    html = _report(view(migration(NONCONVERGING)))

    assert not re.search(r"<script|<link|<img|\ssrc=|\shref=|url\(|https?:", html)


def test_empty_report_is_page() -> None:
    assert "No migration was found." in _words(_report())


def test_report_without_migration_has_reasons() -> None:
    """The same as on the terminal, where the reasons are on standard error."""
    stream = StreamView(
        name="a.log",
        format=None,
        clock=ClockKind.PROBE,
        lines=9,
        events=4,
        noise=5,
        malformed=0,
        remarks=("because <x>",),
    )
    words = _words(html_report(Report(streams=(stream,), migrations=()), NOW))
    assert "No migration was found: none of the events that were read begins one." in words
    assert "5 noise because <x>" in words.replace("&gt;", ">")


def test_report_lists_phases_and_rounds() -> None:
    words = _words(_report(view(migration(NONCONVERGING))))

    assert "What would have ended it virsh migrate-setspeed web-42 173" in words
    assert 'QMP: {"execute":"migrate-set-parameters"' in words.replace("&#34;", '"')
    assert "complete_precopy 12.3 s 31 ms downtime 12.3 s 31 ms cleanup" in words
    assert "0000:00:01.3/piix4_pm 0.3 ms 1 %" in words
    assert "16 12.2 s 17 ms 40.7 47.0 2394.0 47.0" in words
    assert "stalled from 6.3 s to 12.3 s" in _report(view(migration(NONCONVERGING)))


def test_report_lists_parts_and_pauses() -> None:
    stop = DowntimePartView(name=DowntimePartName.STOP, device=None, start_seconds=12.2, duration_seconds=0.030851)
    pause = PauseView(start_seconds=1.0, end_seconds=3.0, by=PauseCause.SUSPENDED)
    words = _words(_report(view(migration(NONCONVERGING), downtime_parts=(stop,), pauses=(pause,))))

    assert "Downtime 31 ms, by its parts stopping the CPUs, flushing disks 30.9 ms 100 %" in words
    assert "guest suspended 1.0 s 2.0 s" in words


def test_report_of_many_rounds_is_cut() -> None:
    of = view(migration(NONCONVERGING))
    rounds = tuple(replace(of.rounds[1], number=number, start_seconds=number / 10) for number in range(1, 5_001))
    html = _report(replace(of, rounds=rounds))

    assert "more" in _words(html)
    assert len(html) < 150_000


def test_hostile_words_stay_words() -> None:
    of = view(migration(NONCONVERGING), vm=HOSTILE, uuid=HOSTILE, stream=HOSTILE, error=HOSTILE, trace_id=HOSTILE)
    html = _report(of)

    assert "<script" not in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800-\udfff]", html)


def test_running_migration_page_refreshes() -> None:
    running = migration_page(view(migration(NONCONVERGING, part=0.7), is_running=True), NOW)
    ended = migration_page(view(migration(NONCONVERGING)), NOW)

    html5lib.HTMLParser(strict=True).parse(running)
    assert 'data-refresh="5"' in running
    assert "refresh" not in re.sub(r"<style>.*?</style>", "", ended, flags=re.DOTALL)
    assert '<a href="../">All migrations</a>' in ended
