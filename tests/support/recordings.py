"""The recordings the tests replay, and the whole pipeline over one of them without files, clocks or processes."""

from __future__ import annotations

import gzip
import io
import json
import re
import time
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from qemu_migration_exporter.core.changes import MigrationEnded
from qemu_migration_exporter.core.model import Migration
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.present.document import report_document
from qemu_migration_exporter.present.text.report import print_report
from qemu_migration_exporter.present.view import Report
from qemu_migration_exporter.present.view_builder import migration_view, stream_view
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.spans import SpansSink
from rich.console import Console

from tests.support.paths import DATA

#: OTLP's code of a span's status.
_STATUS_ERROR = 2

#: Where the clock of a recording without times begins: 2026-01-01T00:00:00Z.
START_NS = 1_767_225_600_000_000_000


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording of a real migration, with QEMU's own answers about it."""

    path: Path

    @property
    def name(self) -> str:
        """Its file's name without ending."""
        return self.path.name.partition(".log")[0]

    @property
    def data(self) -> bytes:
        """Its bytes."""
        raw = self.path.read_bytes()
        return gzip.decompress(raw) if self.path.suffix == ".gz" else raw

    @property
    def truth(self) -> dict[str, Any]:
        """The answer of query-migrate; times in ms."""
        truth: dict[str, Any] = tomllib.loads((DATA / f"{self.name}.toml").read_text(encoding="utf-8"))["truth"]
        return truth


def as_of_now(log: bytes) -> bytes:
    """Date a log of `-msg timestamp=on` to end now: a daemon takes one that has been silent for a day for over."""
    seconds = [int(each) for each in re.findall(rb"^\d+@(\d+)\.\d{6}:", log, re.MULTILINE)]
    later = int(time.time()) - seconds[-1]
    return re.sub(rb"^(\d+)@(\d+)", lambda match: b"%s@%d" % (match[1], int(match[2]) + later), log, flags=re.MULTILINE)


RECORDINGS = [Recording(path) for path in sorted(DATA.glob("*.log*"))]
SMALL = [recording for recording in RECORDINGS if recording.path.suffix != ".gz"]


@dataclass(frozen=True, slots=True)
class Output:
    """Everything the program makes of a recording."""

    migrations: list[Migration]
    report: dict[str, Any]
    text: str
    metrics: str
    spans: str
    view: Report

    @property
    def all_spans(self) -> list[dict[str, Any]]:
        """The spans of all requests, in the order they ended."""
        return [
            span
            for line in self.spans.splitlines()
            for resource in json.loads(line)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


def run(chunks: Iterable[bytes], *, vm: str) -> Output:
    """Put bytes through the whole pipeline."""
    stream = Stream(f"{vm}.log", vm=vm, start_ns=START_NS)
    metrics, written = MetricsSink(), io.StringIO()
    spans = SpansSink([BlockingSpanProcessor(OtlpJsonWriter(written))])
    migrations: list[Migration] = []
    for changes in (*(stream.feed(chunk) for chunk in chunks), stream.close()):
        metrics.apply(changes)
        spans.apply(changes)
        migrations += [change.migration for change in changes if isinstance(change, MigrationEnded)]
    spans.close()
    registry = CollectorRegistry(auto_describe=True)
    registry.register(metrics)
    console = Console(file=io.StringIO(), width=80, no_color=True, highlight=False, force_terminal=False)
    report = Report(streams=(stream_view(stream),), migrations=tuple(migration_view(each) for each in migrations))
    print_report(report, console)
    assert isinstance(console.file, io.StringIO)
    return Output(
        migrations=migrations,
        report=dict(report_document(report)),
        text=console.file.getvalue(),
        metrics=generate_latest(registry).decode(),
        spans=written.getvalue(),
        view=report,
    )


def tree(spans: list[dict[str, Any]]) -> str:
    """Draw spans as an indented tree with offsets and durations, for people."""
    known = {span["spanId"] for span in spans}
    start = min((int(span["startTimeUnixNano"]) for span in spans), default=0)
    lines: list[str] = []

    def draw(parent: str | None, indent: str) -> None:
        below = [span for span in spans if span.get("parentSpanId") == parent]
        for span in sorted(below, key=lambda each: (int(each["startTimeUnixNano"]), int(each["endTimeUnixNano"]))):
            begin, end = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            head = f"{indent}{span['name']}"
            lines.append(
                f"{head:<34}{(begin - start) / 1e9:>12.6f} s {(end - begin) / 1e9:>12.6f} s{_attributes(span)}"
            )
            draw(span["spanId"], f"{indent}  ")

    draw(None, "")
    assert len(lines) == len(spans), f"orphans: {[s['name'] for s in spans if s.get('parentSpanId') not in known]}"
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _attributes(span: dict[str, Any]) -> str:
    pairs = [
        f"{each['key'].removeprefix('qemu.migration.')}={next(iter(each['value'].values()))}".replace("\n", " | ")
        for each in span.get("attributes", [])
        if each["key"] != "code.stacktrace"
    ]
    for link in span.get("links", []):
        (relation,) = link["attributes"]
        pairs.append(f"-> {relation['value']['stringValue']} {link['traceId'][:8]}")
    status = span.get("status", {}).get("code") == _STATUS_ERROR
    return "".join(f"  {pair}" for pair in (["ERROR"] if status else []) + pairs)
