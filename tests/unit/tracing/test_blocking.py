"""Spans on their way out: batches, waiting, and what is counted when nobody takes them."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.export.otlp import otlp
from qemu_migration_exporter.tracing.export.outcomes import EXPORTED, FATES, REFUSED, UNREACHABLE
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.paths import DATA
from tests.support.receiver import Answer, Receiver, receiving


class _Scripted(SpanExporter):
    """An exporter whose answers are given beforehand; the last one is repeated."""

    def __init__(self, *answers: SpanExportResult) -> None:
        self._answers = list(answers)
        self.batches: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches.append(len(spans))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


_SPAN = ReadableSpan(
    "iterate", context=SpanContext(1, 2, is_remote=False), resource=Resource({}), start_time=1, end_time=2
)
_OK, _NO = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


def _deliver(spans: int, delivery: BlockingSpanProcessor) -> None:
    for _ in range(spans):
        delivery.on_end(_SPAN)
    delivery.shutdown()


def test_spans_leave_in_batches_and_the_rest_at_the_end() -> None:
    """A full batch is sent at once, what is left when the delivery is closed."""
    exporter = _Scripted(_OK)
    delivery = BlockingSpanProcessor(exporter)

    _deliver(1_100, delivery)

    assert exporter.batches == [512, 512, 76]
    assert delivery.counts() == {EXPORTED: 1_100, REFUSED: 0, UNREACHABLE: 0}


def test_nothing_is_sent_when_there_is_nothing() -> None:
    """A recording without a migration makes no request."""
    exporter = _Scripted(_OK)

    _deliver(0, BlockingSpanProcessor(exporter))

    assert exporter.batches == []


def test_a_batch_that_fails_is_sent_again() -> None:
    """A receiver that was away for a while loses nothing."""
    exporter = _Scripted(_NO, _NO, _OK)
    delivery = BlockingSpanProcessor(exporter, attempts=3)

    _deliver(10, delivery)

    assert exporter.batches == [10, 10, 10]
    assert delivery.counts()[EXPORTED] == 10


def test_after_a_batch_that_cannot_be_delivered_the_rest_is_counted_and_not_tried() -> None:
    """A receiver that is gone does not hold a replay up for every batch."""
    exporter = _Scripted(_NO)
    delivery = BlockingSpanProcessor(exporter, attempts=2)

    _deliver(1_000, delivery)

    assert exporter.batches == [512, 512]
    assert delivery.counts() == {EXPORTED: 0, REFUSED: 0, UNREACHABLE: 1_000}
    assert not delivery.force_flush()


def test_flushing_sends_what_is_there() -> None:
    """The SDK's flush reaches the exporter."""
    exporter = _Scripted(_OK)
    delivery = BlockingSpanProcessor(exporter)
    delivery.on_end(_SPAN)

    assert delivery.force_flush()
    assert exporter.batches == [1]


def _spans_of(recording: str, copies: int, *deliveries: BlockingSpanProcessor) -> SpansSink:
    sink = SpansSink(deliveries)
    for copy in range(copies):
        stream = Stream("x", vm=f"vm-{copy}")
        sink.apply([*stream.feed((DATA / recording).read_bytes()), *stream.close()])
    sink.close()
    return sink


def test_json_lines_spell_ids_in_hexadecimal() -> None:
    """OTLP's JSON differs from protobuf's in the ids; whoever reads them back finds the same ones."""
    out = io.StringIO()

    _spans_of("qemu-7.2-log-refused.log", 1, BlockingSpanProcessor(OtlpJsonWriter(out)))

    (line,) = out.getvalue().splitlines()
    spans = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert {(len(span["traceId"]), len(span["spanId"])) for span in spans} == {(32, 16)}
    assert spans[0]["parentSpanId"] == spans[-1]["spanId"]
    assert spans[-1]["status"] == {
        "code": 2,
        "message": "Failed to connect to '/run/migration/nobody.sock': No such file or directory",
    }


def test_a_receiver_gets_every_span_though_it_refuses_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After is waited for; 30 migrations arrive whole and in order."""
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TIMEOUT", raising=False)
    answers = iter([503, 503])
    with receiving(Receiver(lambda: next(answers, 200))) as receiver:
        exporter = otlp(receiver.url)
        assert exporter is not None

        sink = _spans_of("qemu-7.2-log-nonconverging.log", 30, BlockingSpanProcessor(exporter))

        assert sink.counts() == {**dict.fromkeys(FATES, 0), EXPORTED: len(receiver.spans)}
        assert [span.name for span in receiver.spans].count("migrate") == 30
        assert len({(span.trace_id, span.span_id) for span in receiver.spans}) == len(receiver.spans) > 1_500


def test_spans_that_a_receiver_refuses_are_counted_and_the_next_are_tried() -> None:
    """It is this batch that it will not have; some of a batch may be rejected too."""
    partial = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=3))
    answers = iter([Answer(400), Answer(200, partial.SerializeToString()), Answer(200)])
    with receiving(Receiver(lambda: next(answers))) as receiver:
        exporter = otlp(receiver.url)
        assert exporter is not None
        delivery = BlockingSpanProcessor(exporter)
        _deliver(1_200, delivery)

        assert delivery.counts() == {EXPORTED: 512 - 3 + 176, REFUSED: 512 + 3, UNREACHABLE: 0}


def test_a_disk_that_is_full_is_told_once_and_the_spans_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """No traceback, and the replay goes on to its report."""
    with Path("/dev/full").open("w", encoding="utf-8") as out:
        delivery = BlockingSpanProcessor(OtlpJsonWriter(out))
        _spans_of("qemu-7.2-log-nonconverging.log", 30, delivery)

        assert delivery.counts()[EXPORTED] == 0
        assert delivery.counts()[UNREACHABLE] > 1_500
        assert [record.message for record in caplog.records] == ["the spans were not written: No space left on device"]
        with suppress(OSError):
            out.close()
