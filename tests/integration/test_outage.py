"""Span delivery of the daemon while its receiver is away, slow, or rejects: waiting, later and lost spans."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

import pytest
from qemu_migration_exporter.tracing.export.batch_config import BatchConfig
from qemu_migration_exporter.tracing.export.endpoint import connect, find_endpoint
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome
from qemu_migration_exporter.tracing.export.queued import QueuedSpanProcessor
from qemu_migration_exporter.tracing.export.sender import (
    ACCEPTED,
    REJECTED,
    ExportResult,
    ExportStatus,
    Sender,
    SpanBatch,
)
from qemu_migration_exporter.tracing.export.spool import Spool

from tests.support.patience import patience
from tests.support.qemu import wait_for
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.rotel import free_port
from tests.support.spans import numbered_span, numbers_in, received

QUICK = BatchConfig(queue_spans=1_000, batch_spans=100, linger_seconds=0.02)


@contextmanager
def delivering(
    receiver: str | Sender,
    *,
    config: BatchConfig = QUICK,
    spool: Spool | None = None,
    timeout: float = 0.3,
    hold_seconds: float = 0.0,
) -> Iterator[QueuedSpanProcessor]:
    """Deliver to a URL, or through a sender, until the test is over."""
    if isinstance(receiver, str):
        endpoint = find_endpoint(receiver, timeout=timeout)
        assert endpoint is not None
        receiver = connect(endpoint)
    if spool is not None:
        spool.open()
    processor = QueuedSpanProcessor(receiver, config=config, spool=spool, hold_seconds=hold_seconds)
    try:
        yield processor
    finally:
        processor.shutdown()


def spool_of(directory: Path, max_bytes: int = 1 << 20) -> Spool:
    return Spool(directory / "spool", max_bytes=max_bytes)


def end_spans(processor: QueuedSpanProcessor, numbers: Iterable[int]) -> None:
    for number in numbers:
        processor.on_end(numbered_span(number))


def wait_exported(processor: QueuedSpanProcessor, number: int) -> None:
    wait_for(lambda: processor.counts()[SpanOutcome.EXPORTED] == number, 20, f"{number} spans are exported")


class Gate:
    """A sender that waits for permission for every batch and keeps the numbers it sent."""

    def __init__(self, results: Callable[[], ExportResult] = lambda: ACCEPTED) -> None:
        self._results = results
        self._permits = threading.Semaphore(0)
        self.asked = threading.Semaphore(0)
        self.sent: list[list[int]] = []

    def send(self, batch: SpanBatch) -> ExportResult:
        self.asked.release()
        self._permits.acquire(timeout=patience(20))
        result = self._results()
        if result.status is ExportStatus.ACCEPTED:
            self.sent.append(numbers_in(batch))
        return result

    def open(self, batches: int = 1) -> None:
        self._permits.release(batches)

    def close(self) -> None:
        """Close nothing."""


# Outages


@pytest.mark.parametrize("spooled", [False, True])
def test_outage_loses_no_span(tmp_path: Path, *, spooled: bool) -> None:
    """Spans wait in memory or on disk and are exported once when the receiver is back."""
    port = free_port()
    spool = spool_of(tmp_path) if spooled else None
    with delivering(f"http://127.0.0.1:{port}", spool=spool) as processor:
        end_spans(processor, range(1, 501))
        wait_for(lambda: not spooled or any((tmp_path / "spool").glob("*.otlp")), 20, "the outage is noticed")

        with receiving(Receiver(), port) as receiver:
            wait_exported(processor, 500)

        assert received(receiver) == list(range(1, 501))
        assert sum(processor.counts().values()) == 500
        assert not list(tmp_path.glob("spool/*.otlp"))


def test_full_queue_drops_newest_spans() -> None:
    """The beginning of a trace is worth more than its middle."""
    port = free_port()
    with delivering(f"http://127.0.0.1:{port}") as processor:
        end_spans(processor, range(1, 3_001))
        assert processor.counts()[SpanOutcome.QUEUE_FULL] == 2_000

        with receiving(Receiver(), port) as receiver:
            wait_exported(processor, 1_000)
        assert received(receiver) == list(range(1, 1_001))

        end_spans(processor, range(3_001, 3_101))  # there is room again
        assert processor.counts()[SpanOutcome.QUEUE_FULL] == 2_000


@pytest.mark.parametrize(
    "answer",
    [Answer(500), Answer(503), Answer(429, headers={"Retry-After": "0"}), Answer(503, headers={"Retry-After": "1"})],
)
def test_busy_receiver_is_asked_again(answer: Answer) -> None:
    answers = iter([answer] * 2)
    with receiving(Receiver(lambda: next(answers, 200))) as receiver, delivering(receiver.url) as processor:
        end_spans(processor, range(1, 51))
        wait_exported(processor, 50)

        assert received(receiver) == list(range(1, 51))


def test_slow_receiver_gets_every_span() -> None:
    gate = Gate()
    with delivering(gate) as processor:
        end_spans(processor, range(1, 901))
        for exported in range(100, 901, 100):
            assert processor.counts()[SpanOutcome.EXPORTED] < exported
            gate.open()
            wait_exported(processor, exported)

        assert list(chain(*gate.sent)) == list(range(1, 901))


def test_retry_after_is_respected() -> None:
    with (
        receiving(Receiver(lambda: Answer(503, headers={"Retry-After": "60"}))) as receiver,
        delivering(receiver.url) as processor,
    ):
        end_spans(processor, range(1, 51))
        wait_for(lambda: len(receiver.paths) == 1, 20, "the receiver was asked")
        receiver.answer = lambda: 200
        end_spans(processor, range(51, 301))  # enough for a batch, which would leave at once

        processor.stop(5)  # the end of the program makes one more attempt

        assert len(receiver.paths) >= 2
        assert received(receiver) == list(range(1, 301))


def test_rejected_batch_is_counted() -> None:
    answers = iter([400])
    with receiving(Receiver(lambda: next(answers, 200))) as receiver, delivering(receiver.url) as processor:
        end_spans(processor, range(1, 101))
        wait_for(lambda: processor.counts()[SpanOutcome.REFUSED] == 100, 20, "the first batch is rejected")
        end_spans(processor, range(101, 201))
        wait_exported(processor, 100)


@pytest.mark.parametrize("spooled", [False, True])
def test_limited_retries_end_in_refused(tmp_path: Path, *, spooled: bool) -> None:
    """A receiver that answers 500 for good loses the batch after a while, and gets the next one."""
    failed = ExportResult(ExportStatus.RETRYABLE, give_up_after_seconds=0.5)
    gate = Gate(lambda: failed)
    gate.open(100)
    spool = spool_of(tmp_path) if spooled else None
    with delivering(gate, spool=spool) as processor:
        end_spans(processor, range(1, 101))
        wait_for(lambda: processor.counts()[SpanOutcome.REFUSED] == 100, 20, "the batch is given up")

    assert sum(processor.counts().values()) == 100
    assert not list(tmp_path.glob("spool/*.otlp"))


def test_poison_batch_delays_no_other(tmp_path: Path) -> None:
    """A batch that its receiver never accepts goes to the end of the order."""
    with receiving(Picky(13)) as receiver:
        with delivering(receiver.url, spool=spool_of(tmp_path), timeout=0.1) as processor:
            end_spans(processor, range(1, 1_001))
            wait_exported(processor, 900)
        assert 13 not in received(receiver)


class Picky(Receiver):
    """A receiver that is always busy for the batch with one span."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._span_id = number.to_bytes(8)

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        return Answer(503) if self._span_id in body else super().handle(path, headers, body)


def test_full_disk_keeps_spans_in_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, and the spans are exported when the receiver is back."""
    port, spool = free_port(), spool_of(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with delivering(f"http://127.0.0.1:{port}", spool=spool) as processor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # a larger file is refused, as by a full disk
        try:
            end_spans(processor, range(1, 301))
            wait_for(lambda: "spans stay in memory: " in caplog.text, 20, "the disk refuses")
            assert sum(batch.spans for batch in processor.commit().unsent) == 300
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with receiving(Receiver(), port) as receiver:
            wait_exported(processor, 300)

        assert received(receiver) == list(range(1, 301))
        assert caplog.text.count("spans stay in memory: ") == 1


def test_unencodable_span_costs_its_batch(caplog: pytest.LogCaptureFixture) -> None:
    """OTLP has 64 bits for a time."""
    gate = Gate()
    gate.open(10)
    with delivering(gate) as processor:
        impossible = numbered_span(1)
        impossible._start_time = 2**70  # noqa: SLF001 - nothing in this program makes such a span
        processor.on_end(impossible)
        wait_for(lambda: processor.counts()[SpanOutcome.REFUSED] == 1, 20, "it is counted")
        end_spans(processor, [2])
        wait_exported(processor, 1)
    assert "span encoding failed" in caplog.text


# Commits and restarts


def test_commit_puts_every_span_on_disk(tmp_path: Path) -> None:
    """Spans that are open, that wait, and that are being sent; nothing is left for the checkpoint."""
    gate = Gate()
    with delivering(gate, spool=spool_of(tmp_path)) as processor:
        end_spans(processor, range(1, 251))
        gate.asked.acquire(timeout=patience(20))  # the first batch is under way

        assert processor.commit().unsent == ()

        on_disk = [path.name.partition("-")[2] for path in sorted(tmp_path.glob("spool/*.otlp"))]
        assert sorted(on_disk) == ["100.otlp", "100.otlp", "50.otlp"]
        gate.open(10)
        wait_exported(processor, 250)
        assert sorted(chain(*gate.sent)) == list(range(1, 251))
        wait_for(lambda: not list(tmp_path.glob("spool/*.otlp")), 20, "the spool is empty")


def test_commit_without_spool_returns_all() -> None:
    gate = Gate()
    with delivering(gate) as processor:
        end_spans(processor, range(1, 251))
        gate.asked.acquire(timeout=patience(20))

        unsent = processor.commit().unsent

        assert sorted(chain(*map(numbers_in, unsent))) == list(range(1, 251))
        gate.open(10)
        wait_exported(processor, 250)
        assert processor.commit().unsent == ()


def test_restored_batches_are_sent_first() -> None:
    with delivering(Gate()) as processor:
        end_spans(processor, range(1, 251))
        unsent = processor.commit().unsent

    gate = Gate()
    with delivering(gate) as processor:
        processor.restore(unsent)
        end_spans(processor, range(251, 301))
        gate.open(10)
        wait_exported(processor, 300)

    assert sorted(gate.sent[0] + gate.sent[1] + gate.sent[2]) == list(range(1, 251))


@pytest.mark.parametrize("spooled", [False, True])
def test_span_waits_for_its_release(tmp_path: Path, *, spooled: bool) -> None:
    """No span of lines that a crash would have read again is sent before, also none that is in the spool."""
    gate = Gate()
    gate.open(10)
    with delivering(gate, spool=spool_of(tmp_path) if spooled else None, hold_seconds=60) as processor:
        end_spans(processor, range(1, 101))
        first = processor.commit()
        end_spans(processor, range(101, 201))
        second = processor.commit()
        end_spans(processor, range(201, 301))
        processor.release(first.number - 1)
        assert not gate.asked.acquire(timeout=0.2)
        assert len(list(tmp_path.glob("spool/*.otlp"))) == (2 if spooled else 0)

        processor.release(second.number)

        wait_exported(processor, 200)
        assert not list(tmp_path.glob("spool/*.otlp"))
        assert sorted(chain(*gate.sent)) == list(range(1, 201))


def test_later_commit_is_not_released() -> None:
    """Its positions are not saved yet."""
    gate = Gate()
    gate.open(10)
    with delivering(gate, hold_seconds=60) as processor:
        end_spans(processor, range(1, 101))
        first = processor.commit()
        end_spans(processor, range(101, 201))
        processor.commit()
        processor.release(first.number)

        wait_exported(processor, 100)
        assert gate.sent == [list(range(1, 101))]


def test_hold_ends_without_commit() -> None:
    gate = Gate()
    gate.open(10)
    with delivering(gate, hold_seconds=0.05) as processor:
        end_spans(processor, range(1, 101))
        wait_exported(processor, 100)


def test_outage_does_not_store_held_batches(tmp_path: Path) -> None:
    """Only a commit does: the next run would send them before the positions that made them."""
    answers = iter([Answer(503, headers={"Retry-After": "60"})])
    with (
        receiving(Receiver(lambda: next(answers, 503))) as receiver,
        delivering(receiver.url, spool=spool_of(tmp_path), hold_seconds=60) as processor,
    ):
        end_spans(processor, range(1, 101))
        processor.release(processor.commit().number)
        wait_for(lambda: len(receiver.paths) == 1, 20, "the receiver was asked")
        end_spans(processor, range(101, 301))
        time.sleep(0.1)
        assert len(list(tmp_path.glob("spool/*.otlp"))) == 1

        processor.commit()
        assert len(list(tmp_path.glob("spool/*.otlp"))) == 3


@pytest.mark.parametrize("spooled", [False, True])
def test_hanging_receiver_blocks_nothing(tmp_path: Path, *, spooled: bool) -> None:
    """Neither the end of a span nor the end of the program waits for it; lost spans are counted."""
    spool = spool_of(tmp_path) if spooled else None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with ExitStack() as connections, delivering(url, spool=spool, timeout=60) as processor:
            end_spans(processor, range(1, 101))
            connections.enter_context(silent.accept()[0])  # a request is under way
            began = time.monotonic()
            end_spans(processor, range(101, 501))
            assert time.monotonic() - began < patience(2)
            processor.stop(0.1)
            processor.shutdown()
            assert time.monotonic() - began < patience(4)

            assert processor.counts()[SpanOutcome.SHUTDOWN] == (0 if spooled else 500)
            end_spans(processor, [501])
            assert processor.counts()[SpanOutcome.SHUTDOWN] == (1 if spooled else 501)

    if spooled:
        with receiving(Receiver()) as receiver, delivering(receiver.url, spool=spool_of(tmp_path)) as processor:
            wait_exported(processor, 500)
            assert received(receiver) == list(range(1, 501))


def test_stop_ends_with_last_answer() -> None:
    """The end of the program waits for the answer under way and the spans after it, and no longer."""
    gate = Gate()
    with delivering(gate) as processor:
        end_spans(processor, range(1, 101))
        gate.asked.acquire(timeout=patience(20))
        end_spans(processor, range(101, 111))
        opening = threading.Timer(0.1, gate.open, [2])
        opening.start()
        began, limit = time.monotonic(), patience(4)
        processor.stop(limit)
        assert time.monotonic() - began < limit / 2
        opening.join()

    assert gate.sent == [list(range(1, 101)), list(range(101, 111))]


def test_last_commit_saves_unsent_spans() -> None:
    """With a state file, nothing is counted as lost."""
    with delivering(f"http://127.0.0.1:{free_port()}") as processor:
        end_spans(processor, range(1, 301))
        processor.stop(5)

        assert sum(batch.spans for batch in processor.commit().unsent) == 300

        processor.shutdown()
        assert processor.counts()[SpanOutcome.SHUTDOWN] == 0


def test_next_run_sends_oldest_first(tmp_path: Path) -> None:
    with delivering(f"http://127.0.0.1:{free_port()}", spool=spool_of(tmp_path)) as processor:
        end_spans(processor, range(1, 301))
        processor.stop(5)
        assert processor.counts()[SpanOutcome.SHUTDOWN] == 0

    with receiving(Receiver()) as receiver, delivering(receiver.url, spool=spool_of(tmp_path)) as processor:
        wait_exported(processor, 300)
        assert sorted(int.from_bytes(span.span_id) for span in receiver.spans) == list(range(1, 301))
        assert receiver.resources[0] == {"service.name": "qemu-migration"}


def test_final_answer_rejects_batch() -> None:
    gate = Gate(lambda: REJECTED)
    gate.open(10)
    with delivering(gate) as processor:
        end_spans(processor, range(1, 11))
        wait_for(lambda: processor.counts()[SpanOutcome.REFUSED] == 10, 20, "it is counted")


def test_committed_batch_is_stored_once(tmp_path: Path) -> None:
    """Though it was being sent when the program stopped."""
    gate = Gate()
    with delivering(gate, spool=spool_of(tmp_path)) as processor:
        end_spans(processor, range(1, 101))
        gate.asked.acquire(timeout=patience(20))
        processor.commit()
        processor.stop(0.05)
        gate.open()
        for thread in [thread for thread in threading.enumerate() if thread.name == "spans"]:
            thread.join()

        assert len(list(tmp_path.glob("spool/*.otlp"))) == 1
        assert processor.counts()[SpanOutcome.EXPORTED] == 0  # the next run sends it, and counts it
