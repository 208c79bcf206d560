"""Targets of the fuzzer: functions that take any bytes and assert the rules for all of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample
from qemu_migration_exporter.core.changes import Change
from qemu_migration_exporter.core.model import ClockKind
from qemu_migration_exporter.core.parsing.decoder import Decoder, Malformed
from qemu_migration_exporter.core.parsing.formats import FORMATS, detect, detection_prefilter
from qemu_migration_exporter.core.parsing.line_splitter import MAX_LINE_BYTES
from qemu_migration_exporter.core.parsing.prefilter import LinePrefilter
from qemu_migration_exporter.core.tracking.snapshot import StreamState
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.metrics.collector import MetricsSink
from qemu_migration_exporter.metrics.self_collector import ExporterCollector
from qemu_migration_exporter.present.document import report_document
from qemu_migration_exporter.present.history import MigrationHistory
from qemu_migration_exporter.present.view import Report
from qemu_migration_exporter.present.view_builder import migration_view, stream_view
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.property.test_properties import check
from tests.support.core_helpers import Reading
from tests.support.kept_spans import KeptSpans

_NAMES: Final = tuple(FORMATS)

#: The wall's time of the fuzzed streams, in the middle of those of the recordings.
_NOW_NS: Final = 1_795_387_133_000_000_000


#: By the name of their format, None for the one of a stream whose format is not known yet.
_SIEVES: Final[Mapping[str | None, LinePrefilter]] = {
    **{name: make(Decoder()).prefilter for name, make in FORMATS.items()},
    None: detection_prefilter(Decoder().vocabulary),
}


def formats(data: bytes) -> None:
    """Parse lines in a format, which the first byte chooses: no prefilter drops more than noise.

    A line that a format is detected by is no noise in it, unless it is a mark of SystemTap without use.
    """
    how, lines = data[:1], [line.removesuffix(b"\r")[:MAX_LINE_BYTES] for line in data[1:].split(b"\n")]
    name = _NAMES[how[0]] if how and how[0] < len(_NAMES) else None
    kept = set(_SIEVES[name].keep(b"\n" + b"".join(line + b"\n" for line in lines)))
    decoder = Decoder()
    form = None if name is None else FORMATS[name](decoder)
    for line in filter(None, lines):
        told = detect(line, decoder) if form is None else name
        if told is None:
            continue
        parsed = (form or FORMATS[told](Decoder())).parse(line)
        assert parsed is None or isinstance(parsed, Malformed) or hasattr(parsed, "at_ns"), parsed
        assert parsed is None or line in kept, (told, line)
        assert parsed is not None or form is not None or told == "systemtap", (told, line)


def machine(data: bytes) -> None:
    """Read a stream to its end and apply its changes to every sink.

    The first two bytes choose the format, the clock, the checks, the size of the pieces, and the place of a restart.
    """
    how, lines = (data[:2] + b"\0\0")[:2], data[2:]
    reader = _Reader(how[0])
    size = (1 << (how[1] & 15)) or 1
    places = range(0, len(lines), max(size, len(lines) // 16, 1))
    for number, start in enumerate(places):
        reader.feed(lines[start : start + places.step])
        if number == how[1] >> 4:
            reader.continue_from_a_snapshot()
        if number % 4 == 0:
            reader.tick()
    reader.close(lines)


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {"formats": formats, "machine": machine}


class _Reader:
    """A stream and all its sinks."""

    def __init__(self, how: int) -> None:
        self._is_live = bool(how & 8)
        # Parsing the metrics takes ten times as long as all the rest, and collecting them three times as long.
        self._is_shown = how & 0xF0 == 0xF0
        self._is_scraped = how & 0xC0 == 0x40
        name = _NAMES[how & 7] if how & 7 < len(_NAMES) else None
        self._stream = self._new_stream(name)
        self._changes: list[Change] = []
        self._resumed = False
        self._metrics, self._board, self._delivery = MetricsSink(max_vms=3), MigrationHistory(), KeptSpans()
        self._spans = SpansSink([self._delivery])
        self._registry = CollectorRegistry(auto_describe=True)
        self._registry.register(self._metrics)
        self._registry.register(
            ExporterCollector(lambda: [(self._stream, True)], self._spans, lambda: self._metrics.limited)
        )
        self._before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self._now_ns = _NOW_NS

    def _new_stream(self, format_name: str | None) -> Stream:
        untimed = ClockKind.ARRIVAL if self._is_live else ClockKind.RECONSTRUCTED
        return Stream("guest.log", vm="guest", format_name=format_name, untimed=untimed, start_ns=_NOW_NS)

    def feed(self, chunk: bytes) -> None:
        self._now_ns += 1_000_000_000
        self._take(self._stream.feed(chunk, self._now_ns if self._is_live else 0))

    def tick(self) -> None:
        if self._is_live:
            self._take(self._stream.tick(self._now_ns))
        self._board.set_running(self._stream.running())
        self._metrics.update(self._stream.running())
        self._metrics.expire(self._now_ns, 10_000_000_000)
        self._spans.tick(self._now_ns)
        if self._is_scraped or self._is_shown:
            self._counters_only_rise()

    def continue_from_a_snapshot(self) -> None:
        """Continue as after a restart: the state is data, and comes back unchanged."""
        snapshot: StreamState = pickle.loads(pickle.dumps(self._stream.snapshot()))  # noqa: S301 - just made
        counts, self._stream = self._stream.counts, self._new_stream(snapshot.format_name)
        self._stream.counts = counts
        self._stream.restore(snapshot)
        assert self._stream.snapshot().tail == snapshot.tail

    def close(self, lines: bytes) -> None:
        """End the stream; assert the rules for it as a whole."""
        self._take(self._stream.close(self._now_ns if self._is_live else 0))
        assert self._stream.counts.lines == lines.count(b"\n") + (not lines.endswith(b"\n") and bool(lines))
        if not self._is_live:
            check(Reading(self._stream, self._changes))
        self.tick()
        if not self._is_shown:
            return
        migrations = Reading(self._stream, self._changes).migrations
        report = Report(
            streams=(stream_view(self._stream),), migrations=tuple(migration_view(each) for each in migrations)
        )
        json.dumps(report_document(report), allow_nan=False)
        encode_spans(self._delivery.spans).SerializeToString()
        list(parse_text(generate_latest(self._registry).decode()))
        text = generate_openmetrics(self._registry).decode()  # type: ignore[no-untyped-call]  # the library's
        list(parse_openmetrics(text))  # type: ignore[no-untyped-call]

    def _take(self, changes: list[Change]) -> None:
        self._changes += changes
        for sink in (self._metrics, self._board, self._spans):
            sink.apply(changes)

    def _counters_only_rise(self) -> None:
        now = {_key(sample): sample.value for sample in self._samples() if sample.name.endswith(("_total", "_count"))}
        fallen: dict[Any, Any] = {
            key: (value, now[key]) for key, value in self._before.items() if key in now and now[key] < value
        }
        assert not fallen, fallen
        self._before = now

    def _samples(self) -> list[Sample]:
        return [sample for family in self._registry.collect() for sample in family.samples]


def _key(sample: Sample) -> tuple[str, frozenset[tuple[str, str]]]:
    return sample.name, frozenset(sample.labels.items())
