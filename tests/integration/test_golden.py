"""Every recording through the whole program, against files that a person has read."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.present.html.report import html_report
from qemu_migration_exporter.present.text.report import print_report
from qemu_migration_exporter.present.view import Report
from qemu_migration_exporter.present.view_builder import migration_view, stream_view
from rich.console import Console

from tests.support.core_helpers import made
from tests.support.pictures import PICTURE
from tests.support.recordings import RECORDINGS, SMALL, Recording, run, tree

Check = Callable[[str, str], None]

#: A stall that was ended, a failure, post-copy.
_IN_HTML = {"qemu-7.2-log-nonconverging", "qemu-7.2-log-destination-killed", "qemu-10.0-bpftrace-postcopy"}


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_recording_matches_golden_files(recording: Recording, assert_golden: Check) -> None:
    """The output for a recording changes only on purpose."""
    output = run([recording.data], vm=recording.name)

    assert_golden(f"{recording.name}/report.json", json.dumps(output.report, indent=2) + "\n")
    assert_golden(f"{recording.name}/report.txt", output.text)
    assert_golden(f"{recording.name}/metrics.prom", output.metrics)
    assert_golden(f"{recording.name}/spans.txt", tree(output.all_spans))
    assert_golden(f"{recording.name}/spans.jsonl", output.spans)


@pytest.mark.parametrize(
    "recording", [each for each in RECORDINGS if each.name in _IN_HTML], ids=lambda recording: recording.name
)
def test_html_report_matches_golden_file(recording: Recording, assert_golden: Check) -> None:
    """Without the style sheet, and at a fixed time."""
    view = run([recording.data], vm=recording.name).view
    page = html_report(view, datetime(2026, 11, 28, tzinfo=UTC))

    assert_golden(f"{recording.name}/report.html", re.sub(r"(?s)(?<=<style>).*?(?=</style>)", "", page))


@pytest.mark.parametrize("name", ["7.2-two-attempts", "7.2-pre-switchover", "8.2-completed", "9.2-postcopy"])
def test_synthetic_log_matches_golden_spans(name: str, assert_golden: Check) -> None:
    """These cases are in no recording: a retry, the wait before the switchover, QEMU's own checkpoints of the downtime."""
    assert_golden(f"made-{name}/spans.txt", tree(run([made(name)], vm="web-42").all_spans))


@pytest.mark.parametrize("recording", SMALL, ids=lambda each: each.name)
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(min_value=1, max_value=9_000))
def test_chunk_sizes_do_not_matter(recording: Recording, size: int) -> None:
    """Bytes are cut anywhere, in the middle of a line too."""
    data = recording.data
    chunks = [data[start : start + size] for start in range(0, len(data), size)]

    assert run(chunks, vm=recording.name) == run([data], vm=recording.name)


def test_large_recording_in_odd_chunks() -> None:
    """The long recording too, once."""
    recording = next(each for each in RECORDINGS if each not in SMALL)
    data = recording.data
    chunks = [data[start : start + 65_521] for start in range(0, len(data), 65_521)]

    assert run(chunks, vm=recording.name) == run([data], vm=recording.name)


def test_recordings_share_no_id() -> None:
    """Trace and span ids tell recordings apart; the same recording gives the same ones."""
    seen: set[tuple[str, str]] = set()
    for recording in SMALL:
        spans = {(span["traceId"], span["spanId"]) for span in run([recording.data], vm=recording.name).all_spans}

        assert seen.isdisjoint(spans)
        assert {trace for trace, _ in seen}.isdisjoint({trace for trace, _ in spans})

        seen |= spans


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_spans_lie_inside_their_parents(recording: Recording) -> None:
    """No span ends before it starts, no child leaves its parent, one root a trace, a trace a migration, no id twice."""
    output = run([recording.data], vm=recording.name)
    spans = output.all_spans
    by_id = {span["spanId"]: span for span in spans}
    roots = [span for span in spans if "parentSpanId" not in span]

    assert len(by_id) == len(spans)
    assert {span["name"] for span in roots} == {"migrate"}
    assert sorted(span["traceId"] for span in roots) == sorted(each.identity.trace_id for each in output.migrations)
    for span in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        if "parentSpanId" in span:
            parent = by_id[span["parentSpanId"]]
            assert parent["traceId"] == span["traceId"]
            assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"])
            assert int(span["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"])


def test_readme_picture_is_up_to_date(assert_golden: Check) -> None:
    """A migration that does not converge, recorded until its operator looks."""
    recording = next(each for each in RECORDINGS if each.name == "qemu-7.2-log-nonconverging")
    first_lines = b"".join(recording.data.splitlines(keepends=True)[:600])
    stream = Stream("web-42.log", vm="web-42")
    changes = [*stream.feed(first_lines), *stream.close()]
    console = Console(
        file=io.StringIO(), record=True, width=80, force_terminal=True, color_system="truecolor", highlight=False
    )
    migrations = [change.migration for change in changes if isinstance(change, MigrationEnded)]
    report = Report(streams=(stream_view(stream),), migrations=tuple(migration_view(each) for each in migrations))
    print_report(report, console)

    picture = console.export_svg(title="qemu-migration-exporter replay web-42.log", code_format=PICTURE, unique_id="r")

    assert_golden("picture.svg", picture)
