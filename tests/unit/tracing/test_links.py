"""Links between traces: a retry and the attempt before, and the two ends of one migration."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.core.tracking import trace_ids
from qemu_migration_exporter.core.tracking.processes import ProcessResolver
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.core_helpers import made
from tests.support.paths import DATA


def _at(data: bytes, seconds: int) -> bytes:
    """Shift the times of a log."""
    return re.sub(rb"@(\d+)\.", lambda match: b"@%d." % (int(match[1]) + seconds), data)


SOURCE = made("8.2-completed")
#: It began to listen an hour earlier.
DESTINATION = _at(made("8.2-destination"), -3_600)


def _links(spans: list[dict[str, Any]]) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Return the relation and the trace that the first and the last span of every trace link to."""
    return {
        (span["name"], span["traceId"]): [
            (link["attributes"][0]["value"]["stringValue"], link["traceId"]) for link in span.get("links", [])
        ]
        for span in spans
        if span["name"] in {"migrate", "migrate.start"}
    }


def _read(*streams: tuple[str, bytes], name_process: ProcessResolver | None = None) -> list[dict[str, Any]]:
    """Read streams by name, one after the other, into one sink; return the spans."""
    out = io.StringIO()
    sink = SpansSink([BlockingSpanProcessor(OtlpJsonWriter(out))])
    for vm, data in streams:
        stream = Stream(vm, vm=vm, name_process=name_process)
        sink.apply([*stream.feed(data), *stream.close()])
    sink.close()
    requests = map(json.loads, out.getvalue().splitlines())
    return [span for request in requests for span in request["resourceSpans"][0]["scopeSpans"][0]["spans"]]


def test_retry_links_to_attempt_before() -> None:
    """Only from the root: Jaeger would list a running retry under a span without a reference, `setup`."""
    spans = _read(("web-42", made("7.2-two-attempts")))
    first, second = [span["traceId"] for span in spans if span["name"] == "migrate"]

    assert _links(spans) == {
        ("migrate.start", first): [],
        ("migrate", first): [],
        ("migrate.start", second): [],
        ("migrate", second): [("retry_of", first)],
    }
    starts = [span for span in spans if span["name"] == "migrate.start"]
    retries = [pair["value"]["stringValue"] for pair in starts[1]["attributes"] if pair["key"].endswith(".retry_of")]
    assert retries == [first]
    (link,) = next(span for span in spans if span["name"] == "migrate" and span["traceId"] == second)["links"]
    assert link["spanId"] == trace_ids.root_span(first)


@pytest.mark.parametrize(
    ("vms", "seconds", "is_linked"),
    [
        (("web-42", "web-42"), 0, True),
        (("web-42", "web-42#2"), 0, True),
        (("web-42", "db-7"), 0, False),
        (("web-42", "web-42"), 3_600, False),
        (("web-42", "web-42"), -3_600, False),
    ],
)
def test_two_ends_of_migration_are_linked(vms: tuple[str, str], seconds: int, *, is_linked: bool) -> None:
    """The same machine at the same time; the end that is read later links to the other."""
    spans = _read((vms[0], SOURCE), (vms[1], _at(DESTINATION, seconds)))
    source, destination = [span["traceId"] for span in spans if span["name"] == "migrate"]

    links = _links(spans)
    assert links["migrate", source] == []
    assert links["migrate", destination] == ([("source", source)] if is_linked else [])


def test_both_ends_link_if_both_run() -> None:
    """A guest may move within a host."""
    recording = (DATA / "qemu-10.0-bpftrace-nonconverging.log").read_bytes()

    spans = _read(("probe", recording), name_process=lambda _process: ("web-42", "3f5c"))

    source, destination = [span["traceId"] for span in spans if span["name"] == "migrate.start"]
    assert _links(spans) == {
        ("migrate.start", source): [],
        ("migrate.start", destination): [],
        ("migrate", source): [("destination", destination)],
        ("migrate", destination): [("source", source)],
    }


def test_uuids_distinguish_equal_names() -> None:
    recording = (DATA / "qemu-10.0-bpftrace-nonconverging.log").read_bytes()

    spans = _read(("probe", recording), name_process=lambda process: ("web-42", f"uuid of {process}"))

    assert not any(_links(spans).values())


def test_replay_of_both_logs_links_them(tmp_path: Path) -> None:
    for name, data in (("a", SOURCE), ("b", DESTINATION)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "web-42.log").write_bytes(data)
    out = tmp_path / "spans.jsonl"

    status = main(
        ["replay", f"{tmp_path}/a/web-42.log", f"{tmp_path}/b/web-42.log", f"--spans.out={out}", "--report=none"]
    )

    assert status == 0
    assert '"links"' in out.read_text()
