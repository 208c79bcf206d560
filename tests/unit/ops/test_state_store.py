"""State file of a running daemon: saves in parts, and the thread that writes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.checkpoint_data import StreamCheckpoint
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.sources import Position
from qemu_migration_exporter.state_store import StateStore

from tests.support.patience import patience


class Kept:
    """A store, and the streams that it encoded."""

    def __init__(self, path: Path) -> None:
        self.path, self.failures = path, ErrorCounter()
        self.store = StateStore(path, self.failures)
        self.encoded: list[str] = []
        self.saved: list[int] = []

    def commit(self, *names: str, kept: tuple[str, ...] = (), number: int = 0, seconds: float = 0.0) -> None:
        """Commit streams, each of which takes some seconds to encode."""
        streams = {name: self._stream(name, number, seconds) for name in names}
        self.store.commit(streams, ["logs"], (), kept=(*names, *kept), on_saved=lambda: self.saved.append(number))

    def offsets(self) -> dict[str, int]:
        """Return the numbers of the commits of the streams on disk."""
        return {name: kept.position.offset for name, kept in checkpoint.load(self.path, self.failures).streams.items()}

    def _stream(self, name: str, number: int, seconds: float) -> Callable[[], StreamCheckpoint]:
        def encode() -> StreamCheckpoint:
            time.sleep(seconds)
            self.encoded.append(name)
            return StreamCheckpoint(position=Position(1, 2, number), state=Stream(name, vm=name).snapshot())

        return encode


@pytest.fixture(name="kept")
def _kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "state")
    yield kept
    kept.store.close()


def test_save_is_encoded_in_parts(kept: Kept) -> None:
    """A part takes a millisecond; a stream that is about to change is encoded before, and once."""
    kept.commit("a", "b", "c", "d", seconds=0.002)
    assert (len(kept.encoded), kept.store.is_encoding) == (1, True)

    kept.store.encode("b")
    kept.store.encode("b")
    kept.store.encode("not there")
    while kept.store.is_encoding:
        kept.store.encode_some()

    assert sorted(kept.encoded) == ["a", "b", "c", "d"]
    assert kept.store.seconds >= 0.006


def test_flush_waits_for_disk_only(kept: Kept) -> None:
    """The streams that are not encoded yet are in it."""
    kept.commit(*"abcd", number=7, seconds=0.002)
    began, limit = time.monotonic(), patience(4)

    kept.store.flush(limit)

    assert time.monotonic() - began < limit / 2
    assert kept.offsets() == dict.fromkeys("abcd", 7)


def test_close_writes_last_commit(kept: Kept) -> None:
    kept.commit(*"abcd", number=7, seconds=0.002)

    kept.store.close()

    assert (kept.offsets(), kept.saved) == (dict.fromkeys("abcd", 7), [7])


def test_next_commit_ends_the_present(kept: Kept) -> None:
    """Unchanged streams are saved as they were; streams that are not kept are dropped."""
    kept.commit("a", "b", "c", number=1, seconds=0.002)
    kept.commit("a", kept=("b",), number=2)
    kept.store.flush(patience(4))

    assert kept.offsets() == {"a": 2, "b": 1}
    assert kept.saved[-1] == 2


def test_failed_save_releases_nothing(tmp_path: Path) -> None:
    """It is worth committing again, until the disk works."""
    kept = Kept(tmp_path / "later" / "state")
    kept.commit("a", number=1)
    kept.store.flush(patience(4))
    assert (kept.store.is_failing, kept.saved, kept.failures.counts()[Component.STATE]) == (True, [], 1)

    (tmp_path / "later").mkdir()
    kept.commit(kept=("a",), number=2)
    kept.store.close()

    assert (kept.store.is_failing, kept.saved, kept.offsets()) == (False, [2], {"a": 1})
