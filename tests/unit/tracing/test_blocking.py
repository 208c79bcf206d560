"""Span delivery of a replay: batches, retries, and the outcome of every span."""

from __future__ import annotations

import errno
import io
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.endpoint import connect, find_endpoint
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome
from qemu_migration_exporter.tracing.export.sender import (
    ACCEPTED,
    RETRYABLE,
    ExportResult,
    ExportStatus,
    Sender,
    SpanBatch,
)
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.paths import DATA
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.spans import batch_of

SPAN = ReadableSpan(
    "iterate", context=SpanContext(1, 2, is_remote=False), resource=Resource({}), start_time=1, end_time=2
)


class _Scripted:
    """A sender with given results; the last one is repeated."""

    def __init__(self, *results: ExportResult) -> None:
        self._results = list(results)
        self.batches: list[int] = []

    def send(self, batch: SpanBatch) -> ExportResult:
        self.batches.append(batch.spans)
        return self._results.pop(0) if len(self._results) > 1 else self._results[0]

    def close(self) -> None:
        """Close nothing."""


def _sender(url: str) -> Sender:
    endpoint = find_endpoint(url)
    assert endpoint is not None
    return connect(endpoint)


def _deliver(spans: int, processor: BlockingSpanProcessor) -> dict[SpanOutcome, int]:
    for _ in range(spans):
        processor.on_end(SPAN)
    processor.shutdown()
    return {outcome: number for outcome, number in processor.counts().items() if number}


def test_full_batches_leave_at_once() -> None:
    sender = _Scripted(ACCEPTED)
    processor = BlockingSpanProcessor(sender)
    for _ in range(1_100):
        processor.on_end(SPAN)
    assert sender.batches == [512, 512]

    processor.shutdown()

    assert sender.batches == [512, 512, 76]
    assert processor.counts()[SpanOutcome.EXPORTED] == 1_100


def test_no_spans_make_no_request() -> None:
    sender = _Scripted(ACCEPTED)

    assert _deliver(0, BlockingSpanProcessor(sender)) == {}
    assert sender.batches == []


def test_failed_batch_is_sent_again() -> None:
    sender = _Scripted(RETRYABLE, RETRYABLE, ACCEPTED)
    processor = BlockingSpanProcessor(sender, attempts=3, first_pause_seconds=0)

    assert _deliver(10, processor) == {SpanOutcome.EXPORTED: 10}
    assert sender.batches == [10, 10, 10]


def test_undeliverable_batch_ends_attempts() -> None:
    """A receiver that is gone does not delay a replay for every batch."""
    sender = _Scripted(RETRYABLE)
    processor = BlockingSpanProcessor(sender, attempts=2, first_pause_seconds=0)

    assert _deliver(1_000, processor) == {SpanOutcome.UNREACHABLE: 1_000}
    assert sender.batches == [512, 512]
    assert not processor.force_flush()


def test_flush_sends_queued_spans() -> None:
    sender = _Scripted(ACCEPTED)
    processor = BlockingSpanProcessor(sender)
    processor.on_end(SPAN)

    assert processor.force_flush()
    assert sender.batches == [1]


def test_bug_in_sender_rejects_batch(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(_Scripted):
        def send(self, batch: SpanBatch) -> ExportResult:
            raise RuntimeError(batch.spans)

    assert _deliver(3, BlockingSpanProcessor(Broken(ACCEPTED))) == {SpanOutcome.REFUSED: 3}
    assert "span export failed: 3 spans" in caplog.text


def _replay(recording: str, copies: int, *processors: BlockingSpanProcessor) -> SpansSink:
    sink = SpansSink(processors)
    for copy in range(copies):
        stream = Stream("x", vm=f"vm-{copy}")
        sink.apply([*stream.feed((DATA / recording).read_bytes()), *stream.close()])
    sink.close()
    return sink


def test_json_lines_have_hexadecimal_ids() -> None:
    """OTLP's JSON differs from protobuf's in the ids."""
    out = io.StringIO()

    _replay("qemu-7.2-log-refused.log", 1, BlockingSpanProcessor(OtlpJsonWriter(out)))

    (line,) = out.getvalue().splitlines()
    spans = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert {(len(span["traceId"]), len(span["spanId"])) for span in spans} == {(32, 16)}
    assert spans[0]["parentSpanId"] == spans[-1]["spanId"]
    assert spans[-1]["status"] == {
        "code": 2,
        "message": "Failed to connect to '/run/migration/nobody.sock': No such file or directory",
    }


@pytest.mark.parametrize("status", [503, 500])
def test_receiver_that_recovers_gets_every_span(status: int) -> None:
    """30 migrations arrive whole and in order."""
    answers = iter([status, status])
    with receiving(Receiver(lambda: next(answers, 200))) as receiver:
        processor = BlockingSpanProcessor(_sender(receiver.url), first_pause_seconds=0.01)

        sink = _replay("qemu-7.2-log-nonconverging.log", 30, processor)

        assert sink.counts() == {**dict.fromkeys(SpanOutcome, 0), SpanOutcome.EXPORTED: len(receiver.spans)}
        assert [span.name for span in receiver.spans].count("migrate") == 30
        assert len({(span.trace_id, span.span_id) for span in receiver.spans}) == len(receiver.spans) > 1_500


def test_rejected_spans_are_counted() -> None:
    """The next batches are still tried; a receiver may also reject some spans of a batch."""
    partial = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=3))
    answers = iter([Answer(400), Answer(200, partial.SerializeToString()), Answer(200)])
    with receiving(Receiver(lambda: next(answers))) as receiver:
        counts = _deliver(1_200, BlockingSpanProcessor(_sender(receiver.url)))

    assert counts == {SpanOutcome.EXPORTED: 512 - 3 + 176, SpanOutcome.REFUSED: 512 + 3}


@pytest.mark.parametrize(
    ("asked", "pauses"),
    [
        (None, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]),
        (3.0, [3.0, 3.0, 3.0, 4.0, 8.0, 16.0]),
        (3_600.0, [60.0] * 6),
    ],
    ids=["not requested", "requested", "endless"],
)
def test_pauses_double_or_are_requested(
    monkeypatch: pytest.MonkeyPatch, asked: float | None, pauses: list[float]
) -> None:
    """A requested pause is at most a minute, and after the last attempt there is none."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    sender = _Scripted(ExportResult(ExportStatus.RETRYABLE, retry_after_seconds=asked))

    assert _deliver(1, BlockingSpanProcessor(sender))[SpanOutcome.UNREACHABLE] == 1

    assert (slept, sender.batches) == (pauses, [1] * 7)


def test_written_batch_can_be_read_at_once(tmp_path: Path) -> None:
    """The Collector may follow the file."""
    path = tmp_path / "spans.json"
    with path.open("w", encoding="utf-8") as out:
        assert OtlpJsonWriter(out).send(batch_of([1])) == ACCEPTED
        assert path.read_text(encoding="utf-8").count("\n") == 1


class _FullOnce(io.StringIO):
    """A file on a disk that has no room for the first write."""

    def write(self, text: str) -> int:
        if not self.tell():
            super().write(text[:10])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(text)


def test_writer_gives_up_after_failed_write() -> None:
    """A second attempt could write half a line twice, and later batches would follow half a line."""
    out = _FullOnce()
    writer = OtlpJsonWriter(out)

    results = [writer.send(batch_of([number])) for number in (1, 2)]

    assert results == [ExportResult(ExportStatus.RETRYABLE, give_up_after_seconds=0.0)] * 2
    assert len(out.getvalue()) == 10


def test_full_disk_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as out:
        processor = BlockingSpanProcessor(OtlpJsonWriter(out))
        _replay("qemu-7.2-log-nonconverging.log", 30, processor)

        assert processor.counts()[SpanOutcome.EXPORTED] == 0
        assert processor.counts()[SpanOutcome.UNREACHABLE] > 1_500
        assert [record.message for record in caplog.records] == ["span file write failed: No space left on device"]
        with suppress(OSError):  # the buffer cannot be flushed
            out.close()
