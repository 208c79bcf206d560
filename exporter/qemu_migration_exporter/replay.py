"""Replay of recordings through the pipeline, and its report.

Files of one log form one stream. Its bytes are fed in chunks, changes go to the same sinks as in a daemon, and at the
end the report, the metrics and the spans are written. With `--speed`, each line waits until its time. A damaged file
costs its own rest and no other file.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest

from qemu_migration_exporter.app import App, replay_sinks
from qemu_migration_exporter.config.schema import Config
from qemu_migration_exporter.core.changes import Change, MigrationEnded
from qemu_migration_exporter.core.model import ClockKind, Migration, SurpriseKind
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.ops.outputs import open_output, write_output
from qemu_migration_exporter.ops.progress import progress
from qemu_migration_exporter.ops.sanitize import decode_filename, escape_control
from qemu_migration_exporter.present import hints
from qemu_migration_exporter.present.reports import REPORTS
from qemu_migration_exporter.present.view import READ_WHOLE, Report
from qemu_migration_exporter.present.view_builder import migration_view, stream_view
from qemu_migration_exporter.sinks import Sinks
from qemu_migration_exporter.sources.errors import DamagedError, SourceError
from qemu_migration_exporter.sources.naming import deduplicate, vm_name
from qemu_migration_exporter.sources.procfs import read_guest
from qemu_migration_exporter.sources.recording import Recording
from qemu_migration_exporter.sources.rotated_recording import RotatedRecording, group_by_log, with_backups
from qemu_migration_exporter.tracing.export.endpoint import OtlpError
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome

#: Interval at which the served page learns of running migrations.
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The recordings and the outputs of a replay, as explained in the help of the command line."""

    files: Sequence[str]
    report: str = "text"
    metrics_out: str | None = None
    spans_out: str | None = None
    listen_address: str | None = None
    vm: str | None = None
    format_name: str | None = None
    start_ns: int | None = None
    speed: float | None = None
    strict: bool = False
    backups: bool = True
    config: Config = field(default_factory=Config)


class Replay:
    """One replay: its streams, its sinks and its findings."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._streams: list[Stream] = []
        self._migrations: list[Migration] = []
        self._problems: list[str] = []
        self._done = False
        self._looked = 0.0
        self._sinks: Sinks

    def run(self) -> int:
        """Replay everything; return the exit status."""
        options = self._options
        with ExitStack() as stack:
            try:
                spans_out = None if options.spans_out is None else stack.enter_context(open_output(options.spans_out))
                self._sinks = replay_sinks(options.config, spans_out=spans_out)
                app = App(config=options.config, sinks=self._sinks, streams=self, is_ready=lambda: self._done)
                registry = app.registry()
                server = None
                if options.listen_address is not None:
                    server = app.server(options.listen_address, registry)
                    stack.callback(server.stop)
            except OtlpError as error:
                _complain(str(error))
                return 1
            except OSError as error:
                _complain(f"{error.filename or options.listen_address}: {error.strerror or error}")
                return 1
            for names in group_by_log(options.files):
                alone = len(names) == 1 and options.backups
                self._replay(with_backups(names[0], self._begins_in_the_middle) if alone else names)
            if self._sinks.spans is not None:
                self._sinks.spans.close()
            self._done = True
            if options.metrics_out is not None:
                self._write_metrics(options.metrics_out, registry)
            self._report()
            status = self._status()
            if server is not None:
                _wait_until_interrupted(server.url)
        return status

    def all(self) -> Sequence[tuple[Stream, bool]]:
        """Return the streams; only the last stream is being read."""
        streams = list(self._streams)
        return [(stream, not self._done and stream is streams[-1]) for stream in streams]

    def problems(self) -> Mapping[str, str]:
        """Return the state of the recordings that are not being read."""
        return {
            stream.name: "damaged" if stream.counts.surprises[SurpriseKind.DAMAGED] else READ_WHOLE
            for stream, is_up in self.all()
            if not is_up
        }

    def notice(self) -> str:
        """Return nothing: the report names what is missing."""
        return ""

    def _replay(self, names: Sequence[str]) -> None:
        """Replay the files of one log, oldest first."""
        options, name = self._options, names[-1]
        try:
            recording = RotatedRecording(names)
        except SourceError as error:
            self._problem(str(error))
            return
        start_ns = options.start_ns if options.start_ns is not None else recording.modified_ns or time.time_ns()
        vm, is_taken = deduplicate(
            decode_filename(options.vm or vm_name(name)), [stream.vm for stream in self._streams]
        )
        stream = Stream(
            decode_filename(name),
            vm=vm,
            format_name=options.format_name,
            untimed=ClockKind.RECONSTRUCTED,
            start_ns=start_ns,
            page_size=options.config.page_size_bytes,
            parser=options.config.parser_options(self._problem),
            policy=options.config.verdict.policy(),
            is_named=options.vm is not None or is_taken,
            # The processes of a file may be long gone and their numbers given to others.
            name_process=read_guest if recording.is_live else None,
        )
        self._streams.append(stream)
        if is_taken:
            self._apply(stream.surprise(SurpriseKind.DUPLICATE_VM, vm))
        pace = _Pace(options.speed) if options.speed else None
        try:
            with progress(recording) as chunks:
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
        self._apply_end(stream.close())
        for message in _remarks(stream):
            _complain(f"{stream.name}: {message}")

    def _begins_in_the_middle(self, name: str) -> bool:
        """Return whether the first migration of a file began before it."""
        if not Path(name).is_file():
            return False
        parser = self._options.config.parser_options(self._problem)
        stream = Stream(name, vm="", format_name=self._options.format_name, parser=parser)
        try:
            recording = Recording(name)
        except SourceError:  # reported when it is replayed
            return False
        try:
            for chunk in recording.chunks():
                changes = stream.feed(chunk)
                ended = next((change.migration for change in changes if isinstance(change, MigrationEnded)), None)
                first = ended or next(iter(stream.running()), None)
                if first is not None:
                    return first.partial and first.setup_ns is None
        except SourceError:  # reported when it is replayed
            return False
        finally:
            recording.close()
        return False

    def _feed(self, stream: Stream, piece: bytes, pace: _Pace | None) -> None:
        changes = stream.feed(piece)
        if pace is not None and stream.last_event_ns is not None:
            pace.wait_for(stream.last_event_ns)
        self._apply(changes)

    def _apply_end(self, changes: Sequence[Change]) -> None:
        """Apply the end of a recording; a migration without an end stays running in the metrics, and may be stalled."""
        ends = [change for change in changes if isinstance(change, MigrationEnded)]
        cut = [end for end in ends if end.migration.outcome_ns is None]
        self._apply([change for change in changes if change not in cut])
        self._keep(cut)
        self._sinks.cut(cut)

    def _apply(self, changes: Sequence[Change]) -> None:
        self._keep(changes)
        self._sinks.apply(changes)
        if self._options.listen_address is not None and time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._looked = time.monotonic()
            self._sinks.update([migration for stream in self._streams for migration in stream.running()])

    def _keep(self, changes: Sequence[Change]) -> None:
        """Keep ended migrations for the report."""
        if self._options.report != "none":  # a long recording has many
            self._migrations += [change.migration for change in changes if isinstance(change, MigrationEnded)]

    def _report(self) -> None:
        report = Report(
            streams=tuple(stream_view(stream, remarks=_remarks(stream)) for stream in self._streams),
            migrations=tuple(migration_view(migration) for migration in self._migrations),
        )
        REPORTS[self._options.report](report, sys.stdout)
        sys.stdout.flush()

    def _write_metrics(self, path: str, registry: CollectorRegistry) -> None:
        try:
            write_output(path, generate_latest(registry))
        except OSError as error:
            self._problem(f"{path}: {error.strerror or error}")

    def _status(self) -> int:
        spans = self._sinks.spans
        counts = spans.counts() if spans is not None else {}
        failed = sum(spans for outcome, spans in counts.items() if outcome is not SpanOutcome.EXPORTED)
        if failed:
            self._problem(f"{failed} spans were not delivered; replaying again is harmless, it makes the same spans")
        if any(self._sinks.failures.counts().values()):
            self._problem("the exporter failed at a part of this replay; the log has the traceback")
        malformed = sum(stream.counts.malformed for stream in self._streams)
        surprises = sum(stream.counts.surprises.total() for stream in self._streams)
        if malformed or surprises:
            _complain(f"{malformed} malformed lines, {surprises} surprises")
        return 1 if self._problems or (self._options.strict and (malformed or surprises)) else 0

    def _problem(self, message: str) -> None:
        self._problems.append(message)
        _complain(message)


class _Pace:
    """Delays for a replay at a multiple of the recorded speed."""

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


def _remarks(stream: Stream) -> list[str]:
    """Return the remarks on a stream that was read to its end."""
    lines = stream.counts.lines
    if lines == 0:
        return ["is empty"]
    has_events = stream.format_name is not None
    found = hints.warnings(stream.hints, lines=lines, has_events=has_events)
    silence = None if found or has_events else hints.silence(stream.hints, lines=lines)
    return [silence] if silence else found


def _wait_until_interrupted(url: str) -> None:
    _print(f"serving {url}/metrics until interrupted")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:  # as asked
        pass


def _complain(message: str) -> None:
    _print(f"qemu-migration-exporter: {message}")


def _print(message: str) -> None:
    """Write a message to standard error; standard output is for results."""
    sys.stderr.write(f"{escape_control(message)}\n")
    sys.stderr.flush()
