"""The landing page: its words on real migrations, and hostile names that must not become code."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import html5lib
import pytest
from qemu_migration_exporter.core.model import ClockKind, Kind, PhaseName, Result, Side, StallReason
from qemu_migration_exporter.present.html.card import card
from qemu_migration_exporter.present.html.chart import CARD, FULL, pending_chart, share_of
from qemu_migration_exporter.present.view import READ_WHOLE, MigrationView, Page, PhaseView, RoundView, StreamView
from qemu_migration_exporter.present.wording.states import ago

from tests.support.recordings import START_NS
from tests.support.web_helpers import get, migration, serving, view

NOW = datetime.fromtimestamp(START_NS / 1e9 + 60, UTC)
STREAM = StreamView(
    name="/var/log/libvirt/qemu/web-42.log", format="qemu-log", clock=ClockKind.PROBE, is_up=True,
    last_event_time=NOW - timedelta(seconds=5), lines=1_048_576, events=10, noise=0, malformed=2,
    surprises={"unpaired": 1},
)  # fmt: skip
NONCONVERGING = "qemu-7.2-log-nonconverging"
DASH = "\N{EN DASH}"

#: The control characters are what a terminal and a browser would act on; the rest is what HTML, URLs and text do.
HOSTILE = "</title></style><script>alert(1)</script>'\"&amp;\x00\x1b[31m\x7f\u202e\u2066\u2028\udc80"


def _page(*running: MigrationView, **given: Any) -> str:  # noqa: ANN401 - any of the page's fields
    page = Page(**{"now": NOW, "running": running, **given})
    with serving(page=lambda: page) as server:
        answer = get(server.url)
    assert answer.status == 200
    html5lib.HTMLParser(strict=True).parse(answer.text)
    return answer.text


def _words(html: str) -> str:
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", html, flags=re.DOTALL)
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").replace("&#39;", "'").split())


def _source(html: str, tag: str) -> str:
    """Return the hash by which the content of an element is allowed."""
    content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    assert content is not None
    return f"'sha256-{base64.b64encode(hashlib.sha256(content[1].encode()).digest()).decode()}'"


@pytest.mark.parametrize(("notice", "expected"), [("", "No migration is running."), ("No <event>", "No &lt;event&gt;")])
def test_absence_of_migrations_is_explained(notice: str, expected: str) -> None:
    assert f'<p class="empty">{expected}</p>' in _page(notice=notice)


def test_page_runs_only_own_script() -> None:
    """Style and script are allowed by their hashes; the browser refuses everything else."""
    with serving(page=lambda: Page(now=NOW), migrations=list) as server:
        answer = get(server.url)

    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src {_source(answer.text, 'style')}; script-src {_source(answer.text, 'script')}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script |<link|<img|\son\w+=|\sstyle=|\ssrc=|https?:", answer.text)


def test_page_refreshes_without_script() -> None:
    """With one, it keeps the scroll position."""
    html = _page()

    assert '<noscript><meta http-equiv="refresh" content="5"></noscript>' in html
    assert '<html lang="en" data-refresh="5">' in html


def test_empty_page_has_links() -> None:
    words = _words(_page())

    assert "0 running · 0 recent · 0 streams as of 00:01:00 UTC" in words
    assert "No migration is running." in words
    assert "No stream is configured." in words
    assert re.search(r"Metrics Health Readiness qemu-migration-exporter \d", words)


def test_page_without_data_has_links_only() -> None:
    with serving() as server:
        text = get(server.url).text
    html5lib.HTMLParser(strict=True).parse(text)

    assert 'href="metrics"' in text
    assert "refresh" not in text
    assert "running" not in _words(text)


def test_stalled_migration_shows_advice() -> None:
    """Commands can be copied as they are; a hostile name in them is harmless."""
    of = migration(NONCONVERGING, part=0.7)
    words = _words(_page(view(of, is_running=True)))
    hostile = view(replace(of, identity=replace(of.identity, vm=HOSTILE)), is_running=True)

    assert "web-42 stalled" in words
    assert "web-42 is stalled after" in words
    assert "virsh migrate-setmaxdowntime web-42 1700 the guest stands still for up to 1.7 s" in words
    assert "<script>alert" not in _page(hostile)


def test_bandwidth_has_its_window() -> None:
    """The sentence, the number beside it and the required downtime agree."""
    of = view(migration(NONCONVERGING, part=0.7), is_running=True)
    words = _words(_page(of))
    (sent,) = re.findall(r"and ([\d.]+ MiB/s) are sent", words)

    assert f"sending, mean of 2 s {sent}" in words
    assert of.bandwidth_bytes_per_second is not None
    assert of.verdict.required_downtime_seconds == pytest.approx(49_283_072 / of.bandwidth_bytes_per_second)


def test_running_migration_is_drawn() -> None:
    """Pending at the start of each round against the threshold, never a share of what is sent."""
    of = view(migration(NONCONVERGING, part=0.8), is_running=True)
    html = _page(of, trace_url="https://jaeger.example/trace/{trace_id}", streams=(STREAM,))
    words = _words(html)

    assert "1 running · 1 stalled · 0 recent · 1 stream" in words
    assert re.search(r"web-42 stalled trace outgoing · iterating · round 10 · since \d\d:\d\d:\d\d UTC", words)
    assert "needs a downtime of 1.5 s (limit 0.3 s)" in words
    assert "least pending 47.0 MiB in round 2" in words
    assert f"pending at the start of rounds 2{DASH}10, the last 47.0 MiB" in words
    assert "QEMU stops the guest below 9.6 MiB" in words
    assert html.count('class="threshold"') == 1
    assert "still to send" not in words
    assert f'href="https://jaeger.example/trace/{of.trace_id}"' in html
    assert f'href="migrations/{of.trace_id}"' in html
    assert "reading qemu-log, probe clock 5 s ago 1 048 576 2 1" in words


def test_only_growing_shares_are_drawn() -> None:
    words = _words(
        _page(
            view(migration("qemu-7.2-log-postcopy", part=0.75), is_running=True),
            view(migration("qemu-7.2-log-cancelled", part=0.5), is_running=True),
        )
    )

    assert "outgoing · post-copy" in words
    assert "downtime 1.6 ms (limit 300 ms)" in words
    assert "post-copy: 47.2 MiB of 160.5 MiB still to send" in words
    assert "first pass over memory: 61.6 MiB of 160.5 MiB" in words


def test_ended_migration_shows_end() -> None:
    """Result, duration, downtime against its limit, past stalls, and when it was."""

    def ended(name: str, seconds_ago: float) -> MigrationView:
        of = view(migration(name))
        start = NOW - timedelta(seconds=seconds_ago + (of.duration_seconds or 0))
        return replace(of, start_time=start)

    lost = view(migration(NONCONVERGING, part=0.8), side=None)
    recent = [ended(NONCONVERGING, 3), ended("qemu-7.2-log-refused", 90), ended("qemu-7.2-log-cancelled", 7_300)]
    words = _words(_page(recent=(*recent, lost)))

    assert "web-42 completed outgoing · 16 rounds · 3 s ago" in words
    assert "It was stalled from 6.3 s to 12.3 s" in words
    assert "web-42 failed outgoing · 90 s ago" in words
    assert words.count("No such file or directory") == 1
    assert "web-42 cancelled outgoing · 1 round · 2 h ago" in words
    assert "web-42 end not seen direction unknown · 10 rounds · began" in words
    assert re.search(r"downtime \d[^ ]* ms \(limit \d+ m?s\)", words)


def test_stalled_migrations_come_first() -> None:
    healthy = view(migration("qemu-7.2-log-idle", part=0.5), is_running=True, vm="healthy")
    stalled = view(migration(NONCONVERGING, part=0.7), is_running=True, vm="stalled-one")
    words = _words(_page(healthy, stalled))

    assert words.index("stalled-one") < words.index("healthy")


@pytest.mark.parametrize(
    ("is_up", "problem", "light", "state", "summary"),
    [
        (True, None, "good", "reading", "1 stream"),
        (False, None, "bad", "not read", "1 stream, 1 not read"),
        (False, "permission denied", "bad", "permission denied", "1 stream, 1 not read"),
        (False, READ_WHOLE, "plain", "read to its end", "1 stream"),
    ],
)
def test_stream_shows_light_and_state(
    light: str, state: str, summary: str, *, is_up: bool, problem: str | None
) -> None:
    """A recording that was read to its end is no failure. The light cannot break away from its word."""
    page = _page(streams=(replace(STREAM, is_up=is_up, problem=problem),))

    assert f'<span class="state"><span class="light {light}"></span>{state}</span>' in page
    assert f"<p>0 running · 0 recent · {summary}</p>" in page


@pytest.mark.parametrize("where", ["running", "recent"])
def test_hostile_words_stay_words(where: str) -> None:
    """A tenant's name becomes no element, no attribute and no control character."""
    of = migration(NONCONVERGING)
    given = {"vm": HOSTILE, "uuid": HOSTILE, "trace_id": HOSTILE, "error": HOSTILE, "result": Result.FAILED}
    hostile = view(of, is_running=where == "running", **given)
    stream = replace(STREAM, name=HOSTILE, is_up=False, problem=HOSTILE, format=HOSTILE)
    html = _page(**{where: (hostile,)}, streams=(stream,), trace_url="https://x.example/{trace_id}?a='\"<>")

    assert "<script>alert" not in html
    assert "alert(1)" in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]", html)
    assert r"\x1b[31m\x7f\u202e\u2066\u2028\udc80" in html
    (link,) = re.findall(r'href="(https:[^"]*)"', html)
    assert "%3Cscript%3E" in link
    assert re.fullmatch(r"[A-Za-z0-9:/?=%.()_~&#;\[\]@!$*+,-]+", link)


def test_bad_link_template_makes_no_link() -> None:
    """The configuration refuses it; the page does not rely on that."""
    assert "javascript:" not in _page(view(migration(NONCONVERGING)), trace_url="javascript:alert('{trace_id}')")


def test_long_names_are_cut() -> None:
    assert len(_page(view(migration(NONCONVERGING), vm="x" * 1_000_000))) < 25_000


def test_long_lists_are_cut() -> None:
    """The page counts those that are left out."""
    of = view(migration("qemu-7.2-log-idle"))
    words = _words(_page(*([of] * 105), recent=(of,) * 51, streams=(STREAM,) * 501))

    assert "and 5 more" in words
    assert words.count("and 1 more") == 2


def _rounds(*pending: int | None, threshold: int | None = 100_000) -> tuple[RoundView, ...]:
    first = view(migration(NONCONVERGING)).rounds[0]
    return tuple(
        replace(
            first, number=number, start_seconds=float(number), duration_seconds=1.0,
            pending_at_start_bytes=size, threshold_bytes=threshold,
        )
        for number, size in enumerate(pending, start=1)
    )  # fmt: skip


def test_chart_needs_boundary() -> None:
    """The bulk round begins with all memory, which is none."""
    assert pending_chart(view(migration(NONCONVERGING), rounds=_rounds(1_000)), CARD) is None


def test_chart_marks_last_low_boundary() -> None:
    drawn = pending_chart(view(migration(NONCONVERGING), rounds=_rounds(10**9, 10**6, None, 50_000)), FULL)
    assert drawn is not None

    assert [(dot.is_last, dot.is_below) for dot in drawn.dots] == [(False, False), (True, True)]
    assert drawn.threshold_words.replace("\N{NO-BREAK SPACE}", " ") == "QEMU stopped the guest below 97.7 KiB"


def test_chart_breaks_at_unknown_threshold() -> None:
    rounds = _rounds(10**9, 10**6, 10**6, 10**6)
    unknown = replace(rounds[2], threshold_bytes=None)
    drawn = pending_chart(view(migration(NONCONVERGING), rounds=(*rounds[:2], unknown, rounds[3])), FULL)

    assert drawn is not None
    assert (drawn.threshold.count("M"), drawn.pending.count("M")) == (2, 1)


def test_chart_of_many_rounds_is_thinned() -> None:
    """The lowest boundary of each stretch stays, and the last round."""
    drawn = pending_chart(view(migration(NONCONVERGING), rounds=_rounds(*range(10_000, 20_000))), FULL)

    assert drawn is not None
    assert drawn.pending.count("H") <= 600
    assert drawn.caption.startswith(f"pending at the start of rounds 2{DASH}10000")


def test_share_needs_running_migration() -> None:
    of = view(migration("qemu-7.2-log-cancelled", part=0.5), is_running=True)

    assert share_of(of) is not None
    assert share_of(replace(of, running=False, result=Result.FAILED)) is None


@pytest.mark.parametrize(
    ("phase", "state", "converging", "badge"),
    [
        (None, None, None, "running"),
        (PhaseName.POSTCOPY, "postcopy-paused", True, "paused"),
        (PhaseName.POSTCOPY, None, True, "post-copy"),
        (PhaseName.COMPLETE_PRECOPY, None, True, "converging"),
        (PhaseName.ITERATE, None, False, "stalled"),
    ],
)
def test_badge_is_worst_state(phase: PhaseName | None, state: str, converging: bool | None, badge: str) -> None:
    of = view(migration(NONCONVERGING), is_running=True, state=state, throttle_ratio=0.4)
    verdict = replace(of.verdict, converging=converging, reason=StallReason.DIRTY_RATE, eta_seconds=(1.0, 5.0))
    phases = () if phase is None else (PhaseView(name=phase, start_seconds=0.0, duration_seconds=None, is_open=True),)
    made = card(replace(of, verdict=verdict, phases=phases), NOW, None)

    assert made.badge == badge
    assert {("guest throttled", "40 %"), ("ends", "in 1.0 s to 5.0 s")} <= {(f.name, f.value) for f in made.facts}


def test_card_makes_up_no_numbers() -> None:
    """An incoming migration has neither chart nor link."""
    made = card(view(migration("qemu-7.2-log-refused"), is_running=True, side=Side.DESTINATION, joined=True), NOW, None)

    assert (made.chart, made.share, made.trace) == (None, None, None)
    assert made.kind == "incoming"
    assert made.at.startswith("seen since")


def test_card_names_other_jobs() -> None:
    assert card(view(migration("qemu-7.2-log-idle"), kind=Kind.DUMP), NOW, None).kind == "memory dump"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "just now"),
        (1, "just now"),
        (2, "2 s ago"),
        (119, "119 s ago"),
        (120, "2 min ago"),
        (7_200, "2 h ago"),
        (200_000, "2 days ago"),
    ],
)
def test_ago_makes_no_future(seconds: int, words: str) -> None:
    assert ago(NOW - timedelta(seconds=seconds), NOW) == words
