"""The landing page: what it says of real migrations, and what hostile names cannot make of it."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from typing import Any

import html5lib
import pytest
from qemu_migration_exporter.core.model import ClockKind, PhaseName, Result, Round, Side, StallReason
from qemu_migration_exporter.present.advice import migration_advice
from qemu_migration_exporter.present.html.card import ago, card, shown
from qemu_migration_exporter.present.html.chart import MAX_COLUMNS, rounds_of, share_of
from qemu_migration_exporter.web import MigrationView, Page, StreamView

from tests.support.recordings import START_NS
from tests.support.web_helpers import get, migration, serving, view

NOW_NS = START_NS + 60_000_000_000
STREAM = StreamView(
    name="/var/log/libvirt/qemu/web-42.log", format="qemu-log", clock=ClockKind.PROBE, is_up=True,
    last_event_ns=NOW_NS - 5_000_000_000, lines=1_048_576, events=10, malformed=2, surprises=1,
)  # fmt: skip
NONCONVERGING = "qemu-7.2-log-nonconverging"

#: The control characters are what a terminal and a browser would act on; the rest is what HTML, URLs and text do.
HOSTILE = "</title></style><script>alert(1)</script>'\"&amp;\x00\x1b[31m\x7f\u202e\u2066\u2028\udc80"


def _page(*running: MigrationView, **given: Any) -> str:  # noqa: ANN401 - any of the page's fields
    page = Page(**{"now_ns": NOW_NS, "running": running, **given})
    with serving(page=lambda: page) as server:
        answer = get(server.url)
    assert answer.status == 200
    html5lib.HTMLParser(strict=True).parse(answer.text)
    return answer.text


def _words(html: str) -> str:
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    return " ".join(text.replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_page_runs_nothing_and_fetches_nothing() -> None:
    """Its own style is allowed by hash; the browser is told to refuse everything else."""
    with serving(page=lambda: Page(now_ns=NOW_NS), migrations=list) as server:
        answer = get(server.url)
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()

    assert answer.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"<script|<link|<img|\son\w+=|\sstyle=|\ssrc=|https?:", answer.text)
    assert '<meta http-equiv="refresh" content="5">' in answer.text


def test_an_empty_page_says_so() -> None:
    """Nothing runs, nothing ended, nothing is read; the links are there all the same."""
    words = _words(_page())

    assert "0 running · 0 recent · 0 streams as of 00:01:00 UTC" in words
    assert "No migration is running." in words
    assert "No stream is configured." in words
    assert "Metrics Health Readiness qemu-migration-exporter 0.1.0" in words


def test_without_data_there_are_links_only() -> None:
    """And nothing that claims to be up to date."""
    with serving() as server:
        text = get(server.url).text
    html5lib.HTMLParser(strict=True).parse(text)

    assert 'href="metrics"' in text
    assert "refresh" not in text
    assert "running" not in _words(text)


def test_a_stalled_migration_says_what_would_end_it() -> None:
    """The commands can be copied as they are; a hostile name in them is harmless to look at."""
    of = migration(NONCONVERGING, part=0.7)
    advice = tuple(replace(each, virsh=each.virsh.replace("web-42", HOSTILE)) for each in migration_advice(of))
    words, hostile = (
        _words(_page(view(of, is_running=True, advice=migration_advice(of)))),
        _page(view(of, advice=advice)),
    )

    assert "stalled" in words
    assert "virsh migrate-setmaxdowntime web-42 1700 the guest stands still for up to 1.7 s" in words
    assert "<script" not in hostile


def test_a_running_migration_is_shown_by_its_boundaries() -> None:
    """What is pending at the start of each round against the threshold, and never a share of what is sent."""
    of = migration(NONCONVERGING, part=0.8)
    verdict = replace(of.progress.verdict, converging=False, reason=StallReason.DIRTY_RATE, eta_seconds=None)
    html = _page(
        view(of, is_running=True, progress=replace(of.progress, verdict=verdict), sentence="It does not converge."),
        trace_url="https://jaeger.example/trace/{trace_id}",
        streams=(STREAM,),
    )
    words = _words(html)

    assert "1 running · 1 stalled · 0 recent · 1 stream" in words
    assert re.search(
        r"web-42 stalled trace outgoing · iterating · round 10 · since \d\d:\d\d:\d\d UTC It does not converge\.", words
    )
    assert "needs a downtime of 1.5 s (limit 0.3 s)" in words
    assert "least pending 47.0 MiB in round 2" in words
    assert (
        "pending at the start of rounds 2\N{EN DASH}10, the last 47.0 MiB QEMU stops the guest below 9.6 MiB" in words
    )
    assert html.count('class="column') == 9
    assert html.count('class="threshold"') == 1
    assert "still to send" not in words
    assert f'href="https://jaeger.example/trace/{of.identity.trace_id}"' in html
    assert "reading qemu-log, probe clock 5 s ago 1 048 576 2 1" in words


def test_post_copy_and_the_first_pass_are_shown_as_shares() -> None:
    """There the rest can but shrink."""
    words = _words(
        _page(
            view(migration("qemu-7.2-log-postcopy", part=0.75), is_running=True),
            view(migration("qemu-7.2-log-cancelled", part=0.5), is_running=True),
        )
    )

    assert "post-copy trace" not in words
    assert "outgoing · post-copy" in words
    assert "downtime 1.6 ms (limit 300 ms)" in words
    assert "post-copy: 47.2 MiB of 160.5 MiB still to send" in words
    assert "first pass over memory: 61.6 MiB of 160.5 MiB" in words


def test_what_ended_is_shown_with_its_end() -> None:
    """Result, duration, downtime against its limit, and when."""
    ended = [
        view(migration(name), outcome_ns=NOW_NS - ago_s * 1_000_000_000)
        for name, ago_s in [(NONCONVERGING, 3), ("qemu-7.2-log-refused", 90), ("qemu-7.2-log-cancelled", 7_300)]
    ]
    lost = view(migration(NONCONVERGING, part=0.8), identity=replace(ended[0].identity, side=None))
    words = _words(_page(recent=(*ended, lost)))

    assert "web-42 completed outgoing · 16 rounds · 3 s ago" in words
    assert "web-42 failed outgoing · 90 s ago" in words
    assert "web-42 cancelled outgoing · 1 round · 2 h ago" in words
    assert "web-42 end not seen direction unknown · 10 rounds · began" in words
    assert re.search(r"downtime \d[^ ]* ms \(limit \d+ m?s\)", words)


@pytest.mark.parametrize("where", ["running", "recent"])
def test_hostile_words_stay_words(where: str) -> None:
    """Whatever a tenant calls a machine: no element, no attribute and no control character comes of it."""
    of = migration(NONCONVERGING)
    identity = replace(of.identity, vm=HOSTILE, uuid=HOSTILE, trace_id=HOSTILE)
    hostile = view(of, is_running=where == "running", identity=identity, sentence=HOSTILE, error=HOSTILE)
    stream = replace(STREAM, name=HOSTILE, is_up=False, problem=HOSTILE, format=HOSTILE)
    html = _page(**{where: (hostile,)}, streams=(stream,), trace_url="https://x.example/{trace_id}?a='\"<>")

    assert "<script" not in html
    assert "alert(1)" in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\u2028\ud800-\udfff]", html)
    assert r"\x1b[31m\x7f\u202e\u2066\u2028\udc80" in html
    (link,) = re.findall(r'href="(https:[^"]*)"', html)
    assert "%3Cscript%3E" in link
    assert re.fullmatch(r"[A-Za-z0-9:/?=%.()_~&#;\[\]@!$*+,-]+", link)


def test_a_template_that_makes_no_link_makes_none() -> None:
    """The configuration refuses it; the page does not rely on that."""
    assert "javascript:" not in _page(view(migration(NONCONVERGING)), trace_url="javascript:alert('{trace_id}')")


def test_long_words_are_cut() -> None:
    """In the middle, however much of them has to be escaped; a million is not looked at."""
    html = _page(
        view(migration(NONCONVERGING), identity=replace(migration(NONCONVERGING).identity, vm="x" * 1_000_000))
    )

    assert len(html) < 20_000
    assert [shown(text, 9) for text in ("ninechars", "ten charss", "\x00" * 10, "")] == [
        "ninechars", "ten …arss", r"\x00…\x00", "",
    ]  # fmt: skip


def test_many_of_them_are_cut_too() -> None:
    """The page says how many are not on it."""
    of = view(migration("qemu-7.2-log-idle"))
    words = _words(_page(*([replace(of, result=None)] * 105), recent=(of,) * 51, streams=(STREAM,) * 501))

    assert "and 5 more" in words
    assert words.count("and 1 more") == 2


def test_no_round_is_no_chart_and_many_are_the_last_ones() -> None:
    """A boundary that is not known leaves a gap, and the bulk round is none."""
    of = view(migration(NONCONVERGING), is_running=True)
    first = of.rounds[0]

    def rounds(*pending: int | None) -> tuple[Round, ...]:
        return tuple(replace(first, number=i + 1, pending_at_start_bytes=each) for i, each in enumerate(pending))

    assert rounds_of(replace(of, rounds=rounds(1000))) is None
    drawn = rounds_of(replace(of, rounds=rounds(1000, 10, None, 0)))
    assert drawn is not None
    assert [(column.x, column.is_last) for column in drawn.columns] == [("0", False), ("28", True)]
    many = rounds_of(replace(of, rounds=rounds(*range(1000))))
    assert many is not None
    assert (len(many.columns), many.first, many.last) == (MAX_COLUMNS, 941, 1000)


@pytest.mark.parametrize(
    ("changes", "badge"),
    [
        ({"phase": None, "state": None, "round": 0}, "running"),
        ({"state": "postcopy-paused", "phase": PhaseName.POSTCOPY}, "paused"),
        ({"phase": PhaseName.POSTCOPY}, "post-copy"),
        ({"phase": PhaseName.COMPLETE_PRECOPY}, "converging"),
    ],
)
def test_the_badge_is_the_worst_there_is_to_say(changes: dict[str, Any], badge: str) -> None:
    """A word for where it stands."""
    of = migration(NONCONVERGING)
    verdict = replace(of.progress.verdict, converging=None if badge == "running" else True, eta_seconds=(1.0, 5.0))
    made = card(
        view(of, is_running=True, progress=replace(of.progress, verdict=verdict, throttle_ratio=0.4, **changes)),
        NOW_NS,
        None,
    )

    assert made.badge == badge
    assert {("guest throttled", "40 %"), ("ends in", "1.0 s to 5.0 s")} <= {(f.name, f.value) for f in made.facts}


def test_what_is_not_known_is_not_made_up() -> None:
    """Neither numbers nor drawings: an incoming migration has none of them."""
    of = migration("qemu-7.2-log-refused")
    bare = view(
        of, is_running=True, duration_ns=None, identity=replace(of.identity, side=Side.DESTINATION, partial=True)
    )
    made = card(bare, NOW_NS, None)

    assert (made.rounds, made.share, made.trace) == (None, None, None)
    assert made.side == "incoming"
    assert made.at.startswith("seen since")
    assert made.facts[0].value == "\N{EN DASH}"
    assert share_of(replace(bare, result=Result.FAILED)) is None


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
def test_how_long_ago(seconds: int, words: str) -> None:
    """A clock that is ahead of ours makes no future."""
    assert ago(NOW_NS - seconds * 1_000_000_000, NOW_NS) == words
