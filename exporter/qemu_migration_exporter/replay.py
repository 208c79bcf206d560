"""Run recordings through the pipeline and show what came out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from qemu_migration_exporter.config.schema import Config
from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.model import ClockKind, Migration, SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.ops.sanitize import printable, readable
from qemu_migration_exporter.present.document import document
from qemu_migration_exporter.present.summary import StreamSummary
from qemu_migration_exporter.present.text import render
from qemu_migration_exporter.sources.procfs import read_guest
from qemu_migration_exporter.sources.recording import DamagedError, Recording, SourceError, deduplicate, vm_name
from qemu_migration_exporter.tracing import Sink
from qemu_migration_exporter.tracing.export.blocking import PATIENCE_SECONDS, BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.export.otlp import OtlpError, otlp
from qemu_migration_exporter.tracing.export.outcomes import EXPORTED
from qemu_migration_exporter.tracing.spans import SpansSink
from qemu_migration_exporter.tracing.trace_limits import TraceLimits
from qemu_migration_exporter.web import Endpoints, Server

#: A progress bar for less would only flicker.
_PROGRESS_AFTER_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to replay and what to make of it; see the command line's help for each."""

    files: Sequence[str]
    report: Literal["text", "json", "none"] = "text"
    metrics_out: str | None = None
    spans_out: str | None = None
    otlp_endpoint: str | None = None
    listen_address: str | None = None
    vm: str | None = None
    format_name: str | None = None
    start_ns: int | None = None
    speed: float | None = None
    strict: bool = False
    config: Config = field(default_factory=Config)


class Replay:
    """One replay: its streams, its sinks and what it found."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._streams: list[Stream] = []
        self._migrations: list[Migration] = []
        self._problems: list[str] = []
        self._done = False
        self._metrics = MetricsSink()
        self._spans: SpansSink | None = None
        self._sinks: list[Sink] = [self._metrics]

    def run(self) -> int:
        """Replay everything; return the exit status."""
        options = self._options
        with ExitStack() as stack:
            try:
                self._open_spans(stack)
                registry = self._registry()
                server = self._serve(stack, registry)
            except OtlpError as error:
                _complain(str(error))
                return 1
            except OSError as error:
                _complain(f"{error.filename or options.listen_address}: {error.strerror or error}")
                return 1
            for name in options.files:
                self._replay(name)
            if self._spans is not None:
                self._spans.close()
            self._done = True
            self._report()
            if options.metrics_out is not None:
                self._write_metrics(options.metrics_out, registry)
            status = self._status()
            if server is not None:
                _wait_until_interrupted(server.url)
        return status

    def _open_spans(self, stack: ExitStack) -> None:
        options = self._options
        deliveries: list[BlockingSpanProcessor] = []
        if options.spans_out is not None:
            path = Path(options.spans_out)
            out = stack.enter_context(path.open("w", encoding="utf-8"))
            deliveries.append(BlockingSpanProcessor(OtlpJsonWriter(out)))
        spans = options.config.spans
        exporter = otlp(options.otlp_endpoint, spans.otlp_protocol, PATIENCE_SECONDS)
        if exporter is not None:
            deliveries.append(BlockingSpanProcessor(exporter))
        if deliveries:
            self._spans = SpansSink(
                deliveries,
                limits=TraceLimits(
                    max_rounds=spans.max_rounds, max_devices=spans.max_devices, max_spans=spans.max_spans
                ),
            )
            self._sinks.append(self._spans)

    def _registry(self) -> CollectorRegistry:
        registry = CollectorRegistry(auto_describe=True)
        registry.register(self._metrics)
        registry.register(
            ExporterCollector(
                lambda: [(stream, not self._done and stream is self._streams[-1]) for stream in list(self._streams)],
                self._spans,
                lambda: self._metrics.limited,
            )
        )
        return registry

    def _serve(self, stack: ExitStack, registry: CollectorRegistry) -> Server | None:
        if self._options.listen_address is None:
            return None
        server = Server(self._options.listen_address, Endpoints(registry=registry, is_ready=lambda: self._done))
        server.start()
        stack.callback(server.stop)
        return server

    def _replay(self, name: str) -> None:
        options = self._options
        try:
            recording = Recording(name)
        except SourceError as error:
            self._problem(str(error))
            return
        start_ns = options.start_ns if options.start_ns is not None else recording.modified_ns or time.time_ns()
        vm, is_taken = deduplicate(readable(options.vm or vm_name(name)), [stream.vm for stream in self._streams])
        stream = Stream(
            readable(name),
            vm=vm,
            format_name=options.format_name,
            untimed=ClockKind.RECONSTRUCTED,
            start_ns=start_ns,
            page_size=options.config.page_size_bytes,
            rows=options.config.rows(),
            # The processes of a file may be long gone and their numbers given to others.
            name_process=read_guest if recording.is_live else None,
        )
        self._streams.append(stream)
        if is_taken:
            self._apply(stream.surprise(SurpriseKind.DUPLICATE_VM, vm))
        pace = _Pace(options.speed) if options.speed else None
        try:
            with _progress(recording) as chunks:
                for chunk in chunks:
                    for piece in chunk.splitlines(keepends=True) if pace else (chunk,):
                        self._feed(stream, piece, pace)
        except DamagedError as error:
            _complain(str(error))
            self._apply(stream.surprise(SurpriseKind.DAMAGED, str(error)))
        except SourceError as error:
            self._problem(str(error))
        finally:
            recording.close()
        self._apply(stream.close())
        if stream.format_name is None:
            _complain(_nothing_in(stream))

    def _feed(self, stream: Stream, piece: bytes, pace: _Pace | None) -> None:
        changes = stream.feed(piece)
        if pace is not None and stream.last_event_ns is not None:
            pace.wait_for(stream.last_event_ns)
        self._apply(changes)

    def _apply(self, changes: list[Change]) -> None:
        if self._options.report != "none":  # else nobody asks for them, and a long recording has many
            self._migrations += [change.migration for change in changes if isinstance(change, MigrationEnded)]
        for sink in self._sinks:
            sink.apply(changes)

    def _report(self) -> None:
        match self._options.report:
            case "text":
                summaries = [
                    StreamSummary(
                        name=stream.name, format=stream.format_name, clock=stream.clock_kind, counts=stream.counts
                    )
                    for stream in self._streams
                ]
                render.render(summaries, self._migrations, console=Console(highlight=False))
            case "json":
                json.dump(document(self._streams, self._migrations), sys.stdout, indent=2, ensure_ascii=False)
                sys.stdout.write("\n")
            case "none":
                pass
        sys.stdout.flush()

    def _write_metrics(self, path: str, registry: CollectorRegistry) -> None:
        """Write the metrics beside their place and move them there: a textfile collector never sees half of them."""
        unfinished = Path(f"{path}.{os.getpid()}.tmp")
        try:
            unfinished.write_bytes(generate_latest(registry))
            unfinished.replace(path)
        except OSError as error:
            unfinished.unlink(missing_ok=True)
            self._problem(f"{path}: {error.strerror or error}")

    def _status(self) -> int:
        counts = self._spans.counts() if self._spans is not None else {}
        failed = sum(spans for fate, spans in counts.items() if fate != EXPORTED)
        if failed:
            self._problem(f"{failed} spans were not delivered; replaying again is harmless, it makes the same spans")
        malformed = sum(stream.counts.malformed for stream in self._streams)
        surprises = sum(stream.counts.surprises.total() for stream in self._streams)
        if malformed or surprises:
            _complain(f"{malformed} malformed lines, {surprises} surprises")
        return 1 if self._problems or (self._options.strict and (malformed or surprises)) else 0

    def _problem(self, message: str) -> None:
        self._problems.append(message)
        _complain(message)


class _Pace:
    """Hold changes back until their time has come, at a multiple of the speed they were recorded at."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._offset: float | None = None

    def wait_for(self, at_ns: int) -> None:
        due = at_ns / 1e9 / self._speed
        if self._offset is None:
            self._offset = time.monotonic() - due
        remaining = due + self._offset - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


@contextmanager
def _progress(recording: Recording) -> Iterator[Iterator[bytes]]:
    """Give a recording's chunks, with a progress bar on a terminal if they take long."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task(printable(recording.name), total=recording.size)
    began = time.monotonic()
    visible = False

    def chunks() -> Iterator[bytes]:
        nonlocal visible
        for chunk in recording.chunks():
            yield chunk
            if console.is_terminal and not visible and time.monotonic() - began > _PROGRESS_AFTER_SECONDS:
                visible = True
                bar.start()
            bar.update(task, completed=recording.read)

    try:
        yield chunks()
    finally:
        if visible:
            bar.stop()


def _nothing_in(stream: Stream) -> str:
    if stream.counts.lines == 0:
        return f"{stream.name}: is empty"
    return (
        f"{stream.name}: none of its {stream.counts.lines} lines is a trace event of a QEMU migration;"
        " `qemu-migration-exporter probe log` says what to enable"
    )


def _wait_until_interrupted(url: str) -> None:
    _say(f"serving {url}/metrics until interrupted")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:  # as asked
        pass


def _complain(message: str) -> None:
    _say(f"qemu-migration-exporter: {message}")


def _say(message: str) -> None:
    """Speak to the person at the terminal; standard output is for results."""
    sys.stderr.write(f"{printable(message)}\n")
    sys.stderr.flush()
