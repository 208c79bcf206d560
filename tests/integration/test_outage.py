"""Spans and receivers that are not there: what is kept back in memory and on disk, sent later, dropped and counted."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.export.codec import decode, encode
from qemu_migration_exporter.tracing.export.otlp import otlp
from qemu_migration_exporter.tracing.export.outcomes import (
    EXPORTED,
    QUEUE_FULL,
    REFUSED,
    SHUTDOWN,
    SPOOL_DAMAGED,
    SPOOL_FULL,
)
from qemu_migration_exporter.tracing.export.queued import BatchConfig, QueuedSpanProcessor
from qemu_migration_exporter.tracing.export.spool import Spool
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.kept_spans import KeptSpans
from tests.support.qemu import wait_for
from tests.support.receiver import Answer, Receiver, receiving
from tests.support.recordings import SMALL
from tests.support.rotel import free_port

_QUICK = BatchConfig(queue_spans=1_000, batch_spans=100, linger_seconds=0.02)
_RESOURCE = Resource({"service.name": "qemu-migration"})
_SCOPE = InstrumentationScope("qemu-migration-exporter", "0")


def span(number: int) -> ReadableSpan:
    """Make a span that is told by its id."""
    return ReadableSpan(
        "iterate",
        context=SpanContext(7, number, is_remote=False),
        resource=_RESOURCE,
        instrumentation_scope=_SCOPE,
        attributes={"qemu.migration.round": number},
        start_time=number,
        end_time=number + 1,
    )


def numbers(receiver: Receiver) -> list[int]:
    """Say which spans came, in order of their ids; one that came twice is there twice."""
    return sorted(int.from_bytes(each.span_id) for each in receiver.spans)


@contextmanager
def delivering(
    url: str, *, pace: BatchConfig = _QUICK, spool: Spool | None = None, timeout: float = 0.3
) -> Iterator[QueuedSpanProcessor]:
    """Deliver to an address until the test is over."""
    exporter = otlp(url, timeout=timeout)
    assert exporter is not None
    if spool is not None:
        spool.open()
    delivery = QueuedSpanProcessor(exporter, pace=pace, spool=spool)
    try:
        yield delivery
    finally:
        delivery.shutdown()


def spool_of(directory: Path, max_bytes: int = 1 << 20) -> Spool:
    """Make a spool."""
    return Spool(directory / "spool", max_bytes=max_bytes)


def put(delivery: QueuedSpanProcessor, spans: range) -> None:
    """Let spans end."""
    for number in spans:
        delivery.on_end(span(number))


@pytest.mark.parametrize("spooled", [False, True])
def test_an_outage_loses_nothing_that_there_is_room_for(tmp_path: Path, *, spooled: bool) -> None:
    """In memory or on disk they wait; when the receiver is back all of them come, once."""
    port = free_port()
    spool = spool_of(tmp_path) if spooled else None
    with delivering(f"http://127.0.0.1:{port}", spool=spool) as delivery:
        put(delivery, range(1, 501))
        wait_for(lambda: not spooled or any((tmp_path / "spool").glob("*.otlp")), 20, "the outage is noticed")

        with receiving(Receiver(), port) as receiver:
            wait_for(lambda: delivery.counts()[EXPORTED] == 500, 20, "all of them came")

        assert numbers(receiver) == list(range(1, 501))
        assert sum(delivery.counts().values()) == 500
        assert not list(tmp_path.glob("spool/*.otlp"))


def test_what_does_not_fit_into_memory_is_dropped_and_counted() -> None:
    """The newest first: the beginning of a trace is worth more than its middle."""
    port = free_port()
    with delivering(f"http://127.0.0.1:{port}") as delivery:
        put(delivery, range(1, 3_001))
        dropped = delivery.counts()[QUEUE_FULL]
        assert 1_900 <= dropped <= 2_000

        with receiving(Receiver(), port) as receiver:
            wait_for(lambda: delivery.counts()[EXPORTED] == 3_000 - dropped, 20, "the others came")
        assert numbers(receiver)[:900] == list(range(1, 901))


@pytest.mark.parametrize(
    "answer", [Answer(503), Answer(429, headers={"Retry-After": "0"}), Answer(503, headers={"Retry-After": "1"})]
)
def test_a_receiver_that_is_too_busy_is_asked_again(answer: Answer) -> None:
    """And nothing is lost by it."""
    answers = iter([answer] * 2)
    with receiving(Receiver(lambda: next(answers, 200))) as receiver, delivering(receiver.url) as delivery:
        put(delivery, range(1, 51))
        wait_for(lambda: delivery.counts()[EXPORTED] == 50, 20, "all of them came")

        assert numbers(receiver) == list(range(1, 51))


def test_a_receiver_that_is_slow_gets_everything() -> None:
    """Spans that end meanwhile wait, and nothing waits for it."""
    gate = threading.Semaphore(0)

    def answer() -> int:
        gate.acquire(timeout=5)
        return 200

    with receiving(Receiver(answer)) as receiver, delivering(receiver.url, timeout=5) as delivery:
        put(delivery, range(1, 901))
        for came in range(100, 901, 100):
            assert delivery.counts()[EXPORTED] < came
            gate.release()
            wait_for(lambda came=came: delivery.counts()[EXPORTED] == came, 20, f"{came} came")  # type: ignore[misc]

        assert numbers(receiver) == list(range(1, 901))


def test_a_receiver_that_asks_for_a_minute_gets_it() -> None:
    """It is not asked again before."""
    with (
        receiving(Receiver(lambda: Answer(503, headers={"Retry-After": "60"}))) as receiver,
        delivering(receiver.url) as delivery,
    ):
        put(delivery, range(1, 51))
        wait_for(lambda: len(receiver.paths) == 1, 20, "it was asked")
        receiver.answer = lambda: 200
        put(delivery, range(51, 301))  # enough for a batch, which would leave at once

        delivery.stop(5)  # the end of the program is the exception

        assert len(receiver.paths) >= 2
        assert numbers(receiver) == list(range(1, 301))


def test_a_receiver_that_refuses_gets_the_next_batch() -> None:
    """The spans are counted as refused, for it would refuse them for ever."""
    answers = iter([400])
    with receiving(Receiver(lambda: next(answers, 200))) as receiver, delivering(receiver.url) as delivery:
        put(delivery, range(1, 101))
        wait_for(lambda: delivery.counts()[REFUSED] == 100, 20, "the first batch is refused")
        put(delivery, range(101, 201))
        wait_for(lambda: delivery.counts()[EXPORTED] == 100, 20, "the second one came")


@pytest.mark.parametrize("spooled", [False, True])
def test_a_receiver_that_hangs_blocks_nobody_and_what_is_lost_at_the_end_is_counted(
    tmp_path: Path, *, spooled: bool
) -> None:
    """Putting a span in takes no time; the end of the program does not wait for the receiver either."""
    spool = spool_of(tmp_path) if spooled else None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with ExitStack() as connections, delivering(url, spool=spool, timeout=60) as delivery:
            put(delivery, range(1, 101))
            connections.enter_context(silent.accept()[0])  # the thread is in the middle of it
            began = time.monotonic()
            put(delivery, range(101, 501))
            assert time.monotonic() - began < 2
            delivery.stop(0.1)
            assert time.monotonic() - began < 4

            assert delivery.counts()[SHUTDOWN] == (0 if spooled else 500)
            put(delivery, range(501, 502))
            assert delivery.counts()[SHUTDOWN] == (1 if spooled else 501)

    if spooled:
        with receiving(Receiver()) as receiver, delivering(receiver.url, spool=spool_of(tmp_path)) as delivery:
            wait_for(lambda: delivery.counts()[EXPORTED] == 500, 20, "the next run sends them")
            assert numbers(receiver) == list(range(1, 501))


def test_the_spool_outlives_the_program_and_is_sent_oldest_first(tmp_path: Path) -> None:
    """With the resource they were made with."""
    with delivering(f"http://127.0.0.1:{free_port()}", spool=spool_of(tmp_path)) as delivery:
        put(delivery, range(1, 301))
        delivery.stop(5)
        assert delivery.counts()[SHUTDOWN] == 0

    with receiving(Receiver()) as receiver, delivering(receiver.url, spool=spool_of(tmp_path)) as delivery:
        wait_for(lambda: delivery.counts()[EXPORTED] == 300, 20, "all of them came")
        assert [int.from_bytes(each.span_id) for each in receiver.spans] == list(range(1, 301))
        assert receiver.resources[0] == {"service.name": "qemu-migration"}


def test_a_spool_that_is_full_drops_the_oldest_and_counts_them(tmp_path: Path) -> None:
    """Its files never take more than they may, in whole blocks of the disk."""
    spool = spool_of(tmp_path, max_bytes=64 * 1024)
    spool.open()
    for first in range(1, 3_001, 100):
        assert spool.put([span(number) for number in range(first, first + 100)])
        used = sum(-(-path.stat().st_size // 4_096) * 4_096 for path in tmp_path.glob("spool/*.otlp"))
        assert used <= 64 * 1024

    batch = spool.first()
    assert batch is not None
    assert spool.counts()[SPOOL_FULL] + len(spool) == 3_000
    assert batch.spans[0].context.span_id == spool.counts()[SPOOL_FULL] + 1


def test_a_batch_that_never_fits_into_the_spool_is_dropped_alone(tmp_path: Path) -> None:
    """It does not push the others out."""
    spool = spool_of(tmp_path, max_bytes=8 * 1024)
    spool.open()
    assert spool.put([span(1)])
    assert spool.put([span(number) for number in range(1_000)])

    assert (len(spool), spool.counts()[SPOOL_FULL]) == (1, 1_000)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 4_000),
        lambda path: path.write_bytes(b"\n\x04\x12\x02\x12\x00" * 3),
        lambda path: path.unlink(),
    ],
    ids=["torn", "empty", "garbage", "another request", "gone"],
)
def test_a_file_that_cannot_be_read_is_counted_and_the_next_is_sent(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Its name says how many spans were in it."""
    spool = spool_of(tmp_path)
    spool.open()
    for first in (1, 11):
        spool.put([span(number) for number in range(first, first + 10)])
    damage(min((tmp_path / "spool").glob("*.otlp")))

    batch = spool.first()

    assert batch is not None
    assert [each.context.span_id for each in batch.spans if each.context] == list(range(11, 21))
    assert spool.counts()[SPOOL_DAMAGED] == 10
    assert len(list(tmp_path.glob("spool/*.otlp"))) == 1


def test_what_does_not_belong_to_the_spool_is_left_alone(tmp_path: Path) -> None:
    """Only what was being written when the program ended is taken away."""
    (tmp_path / "spool").mkdir()
    others = ["notes.txt", "1-2.otlp", "0000000000000001-3.otlp.bak"]
    for name in (*others, "0000000000000009-3.otlp.tmp"):
        (tmp_path / "spool" / name).write_text("x")
    (tmp_path / "spool" / "0000000000000001-3.otlp").symlink_to("/dev/zero")
    spool = spool_of(tmp_path)
    spool.open()

    assert not spool
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == sorted(
        [*others, "0000000000000001-3.otlp", "lock"]
    )


def test_a_spool_is_one_programs(tmp_path: Path) -> None:
    """Two would send each other's spans, and drop them."""
    first, second = spool_of(tmp_path), spool_of(tmp_path)
    first.open()

    with pytest.raises(OSError, match="another exporter has it"):
        second.open()
    first.close()
    second.open()


def test_a_disk_that_is_full_is_no_loss_while_there_is_memory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, the spans wait in memory, and go to the disk when it has room again."""
    port, spool = free_port(), spool_of(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with delivering(f"http://127.0.0.1:{port}", spool=spool) as delivery:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # a file of more is refused, as by a full disk
        try:
            put(delivery, range(1, 301))
            wait_for(lambda: "spans wait in memory: " in caplog.text, 20, "the disk refuses")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with receiving(Receiver(), port) as receiver:
            wait_for(lambda: delivery.counts()[EXPORTED] == 300, 20, "all of them came")

        assert numbers(receiver) == list(range(1, 301))
        assert caplog.text.count("spans wait in memory: ") == 1


def test_a_batch_that_a_receiver_never_takes_does_not_hold_the_others_up(tmp_path: Path) -> None:
    """It may be too large for it, or break it: the others go first."""
    with receiving(Picky(13)) as receiver:
        with delivering(receiver.url, spool=spool_of(tmp_path), timeout=0.1) as delivery:
            put(delivery, range(1, 1_001))
            wait_for(lambda: delivery.counts()[EXPORTED] == 900, 30, "the others came")
        assert 13 not in numbers(receiver)


class Picky(Receiver):
    """A receiver that is always busy when one span comes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self._span_id = number.to_bytes(8)

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """Take one request."""
        return Answer(503) if self._span_id in body else super().handle(path, headers, body)


@pytest.mark.parametrize(
    ("configured", "variables", "expected"),
    [
        (None, {}, BatchConfig()),
        (2_000, {}, BatchConfig(queue_spans=2_000)),
        (
            None,
            {"OTEL_BSP_MAX_QUEUE_SIZE": "300", "OTEL_BSP_SCHEDULE_DELAY": "250"},
            BatchConfig(queue_spans=300, batch_spans=300, linger_seconds=0.25),
        ),
        (2_000, {"OTEL_BSP_MAX_QUEUE_SIZE": "300", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64"}, BatchConfig(queue_spans=2_000, batch_spans=64)),
        (None, {"OTEL_BSP_MAX_QUEUE_SIZE": "many", "OTEL_BSP_SCHEDULE_DELAY": "0"}, BatchConfig()),
    ],
)  # fmt: skip
def test_opentelemetrys_variables_set_the_pace(
    monkeypatch: pytest.MonkeyPatch, configured: int | None, variables: dict[str, str], expected: BatchConfig
) -> None:
    """Where the configuration says nothing; what is no number is told and ignored."""
    for name in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY"):
        monkeypatch.delenv(f"OTEL_BSP_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert BatchConfig.of(configured) == expected


def test_what_is_stored_is_what_would_have_been_sent() -> None:
    """Statuses, links, every type of attribute: the same request, byte by byte."""
    for recording in SMALL:
        kept = KeptSpans()
        sink = SpansSink([kept])
        stream = Stream("x", vm="web-42")
        sink.apply([*stream.feed(recording.data), *stream.close()])

        assert encode(decode(encode(kept.spans))) == encode(kept.spans)
        assert len(kept.spans) > 2
