"""Batches on disk: their order, their limit, and files that cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.tracing.export.codec import encode
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome
from qemu_migration_exporter.tracing.export.sender import SpanBatch
from qemu_migration_exporter.tracing.export.spool import BLOCK_BYTES, Spool
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.core_helpers import made, new_stream
from tests.support.kept_spans import KeptSpans
from tests.support.spans import batch_of, numbers_in


def _open(directory: Path, max_bytes: int = 1 << 20, failures: ErrorCounter | None = None) -> Spool:
    spool = Spool(directory / "spool", max_bytes=max_bytes, failures=failures)
    spool.open()
    return spool


def _first(spool: Spool) -> list[int]:
    stored = spool.first()
    return [] if stored is None else numbers_in(stored.batch)


def _files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("spool/*.otlp"))


def test_batches_come_back_in_their_order(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    for number in range(1, 12):
        assert spool.put(batch_of([number])) == f"{number:016d}-1.otlp"

    for number in range(1, 12):
        stored = spool.first()
        assert stored is not None
        assert numbers_in(stored.batch) == [number]
        spool.remove(stored.name)
    assert spool.first() is None
    assert not spool
    assert _files(tmp_path) == []


def test_file_is_encoded_request(tmp_path: Path) -> None:
    kept, stream, spool = KeptSpans(), new_stream(), _open(tmp_path)
    SpansSink([kept]).apply([*stream.feed(made("7.2-two-attempts")), *stream.close()])
    batch = encode(kept.spans)
    name = spool.put(batch)

    stored = spool.first()

    assert stored == (name, batch)
    assert (tmp_path / "spool" / str(name)).read_bytes() == batch.content


def test_next_run_continues_numbers(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    spool.put(batch_of([1]))
    spool.put(batch_of([2, 3]))
    spool.remove("0000000000000001-1.otlp")
    spool.close()

    spool = _open(tmp_path)

    assert len(spool) == 2
    assert spool.put(batch_of([4])) == "0000000000000003-1.otlp"
    assert _first(spool) == [2, 3]


def test_deferred_batch_is_last(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    for number in (1, 2, 3):
        spool.put(batch_of([number]))

    spool.defer("0000000000000001-1.otlp")
    spool.defer("not there")

    assert _first(spool) == [2]
    spool.remove("0000000000000002-1.otlp")
    spool.remove("0000000000000003-1.otlp")
    assert _first(spool) == [1]


def _padded(spans: int, size: int) -> SpanBatch:
    """Return a batch of exactly this size; protobuf skips the unknown field that pads it."""
    content = batch_of(range(1, spans + 1)).content
    padding = size - len(content)
    header = b"\xfa\x7f" + bytes([padding - 4 & 0x7F | 0x80, padding - 4 >> 7])
    return SpanBatch(content + header + b"\0" * (padding - 4), spans)


@pytest.mark.parametrize(("size", "blocks"), [(BLOCK_BYTES - 1, 1), (BLOCK_BYTES, 1), (BLOCK_BYTES + 1, 2)])
def test_batch_counts_as_whole_blocks(tmp_path: Path, size: int, blocks: int) -> None:
    """The limit is on the disk space of the directory."""
    spool = _open(tmp_path, max_bytes=2 * BLOCK_BYTES)
    assert spool.put(_padded(1, size))
    assert spool.put(_padded(1, BLOCK_BYTES))

    assert spool.counts()[SpanOutcome.SPOOL_FULL] == blocks - 1


def test_full_spool_drops_oldest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = _open(tmp_path, max_bytes=64 * 1024)
    for first in range(1, 3_001, 100):
        assert spool.put(batch_of(range(first, first + 100)))
        used = sum(-(-path.stat().st_size // 4_096) * 4_096 for path in tmp_path.glob("spool/*.otlp"))
        assert used <= 64 * 1024

    dropped = spool.counts()[SpanOutcome.SPOOL_FULL]
    assert dropped + len(spool) == 3_000
    assert _first(spool)[0] == dropped + 1
    assert caplog.text.count("spool full") == 1


def test_full_spool_drops_deferred_first(tmp_path: Path) -> None:
    """The oldest is the one that was written first, whatever is sent next."""
    spool = _open(tmp_path, max_bytes=2 * BLOCK_BYTES)
    spool.put(batch_of([1]))
    spool.put(batch_of([2]))
    spool.defer("0000000000000001-1.otlp")

    spool.put(batch_of([3]))

    assert _files(tmp_path) == ["0000000000000002-1.otlp", "0000000000000003-1.otlp"]


@pytest.mark.parametrize(
    ("ended", "kept"),
    [
        (lambda _spool, _name: None, [1, 3]),
        (lambda spool, name: spool.defer(name), [2, 3]),
        (lambda spool, name: spool.remove(name), [2, 3]),
    ],
    ids=["sending", "deferred", "sent"],
)
def test_batch_being_sent_is_not_dropped(
    tmp_path: Path, ended: Callable[[Spool, str], object], kept: list[int]
) -> None:
    """It would be counted as dropped, and as sent."""
    spool = _open(tmp_path, max_bytes=2 * BLOCK_BYTES)
    spool.put(batch_of([1]))
    spool.put(batch_of([2]))
    stored = spool.first()
    assert stored is not None
    ended(spool, stored.name)

    spool.put(batch_of([3]))

    assert [int(name[:16]) for name in _files(tmp_path)] == kept


def test_batch_beside_one_being_sent_needs_room(tmp_path: Path) -> None:
    spool = _open(tmp_path, max_bytes=2 * BLOCK_BYTES)
    spool.put(batch_of([1]))
    assert spool.first() is not None

    assert spool.put(_padded(1, 2 * BLOCK_BYTES)) is None
    assert (len(spool), spool.counts()[SpanOutcome.SPOOL_FULL]) == (1, 0)


def test_emptied_spool_warns_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = _open(tmp_path, max_bytes=BLOCK_BYTES)
    for number in (1, 2, 3):
        spool.put(batch_of([number]))
    assert caplog.text.count("spool full") == 2  # each batch emptied it

    spool.remove("0000000000000003-1.otlp")
    spool.put(batch_of([4]))
    assert caplog.text.count("spool full") == 2
    spool.put(batch_of([5]))
    assert caplog.text.count("spool full") == 3


def test_smaller_limit_drops_at_start(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    for number in range(1, 5):
        spool.put(batch_of([number, 100 + number]))
    spool.close()

    spool = _open(tmp_path, max_bytes=2 * BLOCK_BYTES)

    assert (len(spool), spool.counts()[SpanOutcome.SPOOL_FULL]) == (4, 4)


def test_oversized_batch_is_refused(tmp_path: Path) -> None:
    """It stays in memory and drops no other."""
    spool = _open(tmp_path, max_bytes=2 * BLOCK_BYTES)
    assert spool.put(batch_of([1]))

    assert spool.put(batch_of(range(1_000))) is None
    assert (len(spool), spool.counts()[SpanOutcome.SPOOL_FULL], spool.is_failing) == (1, 0, False)


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
def test_damaged_file_is_skipped(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """Its name has the number of its spans."""
    spool = _open(tmp_path)
    for first in (1, 11):
        spool.put(batch_of(range(first, first + 10)))
    damage(min((tmp_path / "spool").glob("*.otlp")))

    assert _first(spool) == list(range(11, 21))
    assert spool.counts() == {SpanOutcome.SPOOL_FULL: 0, SpanOutcome.SPOOL_DAMAGED: 10}
    assert len(_files(tmp_path)) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES])
def test_machine_error_keeps_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    spool = _open(tmp_path)
    spool.put(batch_of([1]))
    spool.put(batch_of([2]))

    def fail(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            spool.first()

    assert (len(spool), _first(spool)) == (2, [2])


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    """The batch is not taken, and the next one is when the disk works again."""
    failures = ErrorCounter()
    spool = _open(tmp_path, failures=failures)
    (tmp_path / "spool" / "0000000000000001-1.otlp.tmp").mkdir()  # cannot be opened for writing

    assert spool.put(batch_of([1])) is None
    assert (spool.is_failing, failures.counts()[Component.SPOOL]) == (True, 1)

    (tmp_path / "spool" / "0000000000000001-1.otlp.tmp").rmdir()
    assert spool.put(batch_of([1])) == "0000000000000001-1.otlp"
    assert (spool.is_failing, len(spool)) == (False, 1)


def test_planted_link_is_not_followed(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "spool" / "0000000000000001-1.otlp.tmp").symlink_to(victim)

    spool.put(batch_of([1]))

    assert victim.read_text() == "precious"


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    """Only a half-written batch of a program that was killed is deleted."""
    (tmp_path / "spool").mkdir()
    others = ["notes.txt", "1-2.otlp", "0000000000000001-3.otlp.bak"]
    for name in (*others, "0000000000000009-3.otlp.tmp"):
        (tmp_path / "spool" / name).write_text("x")
    (tmp_path / "spool" / "0000000000000001-3.otlp").symlink_to("/dev/zero")

    assert not _open(tmp_path)
    assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == sorted(
        [*others, "0000000000000001-3.otlp", "lock"]
    )


def test_spool_has_one_program(tmp_path: Path) -> None:
    """Two would send each other's batches."""
    first = _open(tmp_path)

    with pytest.raises(OSError, match="locked by another exporter"):
        _open(tmp_path)
    first.close()
    first.close()
    _open(tmp_path)


def test_spool_is_private(tmp_path: Path) -> None:
    """Spans name machines. The directories are made, and may exist."""
    for _ in range(2):
        spool = _open(tmp_path / "a" / "b")
        spool.put(batch_of([1]))
        spool.close()
    directory = tmp_path / "a" / "b" / "spool"

    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_skipped_batch_stays(tmp_path: Path) -> None:
    """It waits for its release, and the batches behind it are sent."""
    spool = _open(tmp_path)
    first, second = (spool.put(batch_of([number])) for number in (1, 2))
    assert first is not None
    assert second is not None

    stored = spool.first({first})
    assert stored is not None
    assert (stored.name, spool.batches) == (second, 2)
    assert spool.first({first, second}) is None
