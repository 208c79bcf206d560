"""Source `fifo`: read as long as the daemon lives, from any writer; standard input is read to its end."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest
from qemu_migration_exporter.sources import Data, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.fifo import Fifo
from qemu_migration_exporter.sources.standard_input import StandardInput

from tests.support.source_reader import Reader, as_root, unprivileged


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Return the path of a FIFO."""
    path = tmp_path / "probe.fifo"
    os.mkfifo(path)
    return path


def _write(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as out:
        out.write(data)


def test_writers_come_and_go(fifo: Path) -> None:
    """The stream goes on when a writer leaves, and nothing is readable when none is there."""
    with Reader(Fifo(str(fifo))) as reader:
        for number in range(3):
            _write(fifo, b"writer %d\n" % number)
            reader.settle()
            assert not reader.turn()
            reader.tick()
        with fifo.open("wb", buffering=0) as one, fifo.open("wb", buffering=0) as two:
            one.write(b"one ")
            two.write(b"two")
            reader.settle()
    assert reader.data() == b"writer 0\nwriter 1\nwriter 2\none two"
    assert reader.ups() == [StatusChanged(str(fifo), up=True, reason="")]
    assert not reader.ended()


def test_no_writer_is_no_input(fifo: Path) -> None:
    """Selecting waits: an open FIFO without a writer does not keep the daemon busy."""
    with Reader(Fifo(str(fifo))) as reader:
        assert not reader.turn(0.05)
        _write(fifo, b"x")
        reader.settle()
        assert not reader.turn(0.05)


def test_fifo_may_appear_late_or_be_replaced(tmp_path: Path) -> None:
    """A missing FIFO is waited for. The rest of a replaced one is read, then its stream ends."""
    path = tmp_path / "probe.fifo"
    with Reader(Fifo(str(path))) as reader:
        path.write_bytes(b"no")
        reader.tick()
        path.unlink()
        os.mkfifo(path)
        reader.tick()
        _write(path, b"one")
        path.unlink()
        reader.items += reader.source.tick(1.0)
        os.mkfifo(path)
        reader.items += reader.source.tick(2.0)
        _write(path, b"two")
        reader.settle()
    name = str(path)
    assert [item if not isinstance(item, Data) else item.data for item in reader.items] == [
        StatusChanged(name, up=False, reason="No such file or directory"),
        StatusChanged(name, up=False, reason="is no FIFO"),
        StatusChanged(name, up=True, reason=""),
        StatusChanged(name, up=False, reason="No such file or directory"),
        b"one",
        StreamClosed(name),
        StatusChanged(name, up=True, reason=""),
        b"two",
    ]


def test_permissions_lost_and_regained() -> None:
    """An open file is read on; an unreadable path is logged once, and once more when it is readable again."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # pytest's own are root's alone
        path = Path(directory, "private", "probe.fifo")
        path.parent.mkdir()
        os.mkfifo(path)
        path.chmod(0o666)
        with unprivileged(), Reader(Fifo(str(path))) as reader:
            with as_root():
                path.parent.chmod(0)
            reader.tick()
            reader.tick()
            with as_root():
                _write(path, b"one\n")
            reader.settle()
            with as_root():
                path.chmod(0)
                path.parent.chmod(0o755)
            reader.tick()
            with as_root():
                _write(path, b"two\n")
            reader.settle()
    assert reader.data() == b"one\ntwo\n"
    assert [each.up for each in reader.ups()] == [True, False, True]
    assert reader.ups()[1].reason.startswith("Permission denied")
    assert not reader.ended()


def test_one_call_gives_bounded_amount(fifo: Path) -> None:
    """A writer that is faster than the reader gets its turn again with the next call."""
    with Reader(Fifo(str(fifo))) as reader, fifo.open("wb", buffering=0) as out:
        os.set_blocking(out.fileno(), False)
        written = 0
        while written < 1_000_000:
            written += out.write(b"x" * 65536) or 0
            assert reader.turn()
        reader.settle()
    assert len(reader.data()) == written
    assert all(item.position is None for item in reader.items if isinstance(item, Data))


def test_standard_input_pipe() -> None:
    """A pipe is read as data comes, without being made non-blocking, and ends once."""
    read, write = os.pipe()
    with Reader(StandardInput(read)) as reader:
        assert not reader.turn()
        os.write(write, b"one\n")
        reader.settle()
        assert os.get_blocking(read)
        os.write(write, b"two\n")
        os.close(write)
        reader.settle()
        assert not reader.turn()
    os.close(read)
    assert reader.data("-") == b"one\ntwo\n"
    assert reader.items[0] == StatusChanged("-", up=True, reason="")
    assert reader.items[-1] == StreamClosed("-")


def test_standard_input_file(tmp_path: Path) -> None:
    """A file cannot be waited for: it is pending to its end."""
    path = tmp_path / "recording.log"
    path.write_bytes(b"x" * 600_000)
    with path.open("rb") as file, Reader(StandardInput(file.fileno())) as reader:
        assert reader.source.pending
        reader.settle()
        assert reader.reads == 3
        assert not reader.turn(0.01)
    assert reader.data() == b"x" * 600_000
    assert reader.ended() == ["-"]


def test_closed_fifo_is_left(fifo: Path) -> None:
    """A writer notices that no reader is left."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Reader(Fifo(str(fifo))):
        pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("is_file", [False, True])
def test_closed_standard_input_gives_nothing(tmp_path: Path, *, is_file: bool) -> None:
    """The descriptor itself stays open."""
    path = tmp_path / "lines.log"
    path.write_bytes(b"one\n")
    read, write = os.pipe()
    os.write(write, b"one\n")
    with path.open("rb") as file:
        fd = file.fileno() if is_file else read
        source = StandardInput(fd)
        source.tick(0.0)
        source.close()

        assert (source.read(), source.pending, source.behind) == ([], False, ())
        assert os.read(fd, 10) == b"one\n"
    os.close(read)
    os.close(write)


def test_standard_input_unreadable(tmp_path: Path) -> None:
    """A directory is rejected and ends; a reset connection, too; a closed descriptor is down."""
    directory = os.open(tmp_path, os.O_RDONLY)
    with Reader(StandardInput(directory)) as reader:
        reader.settle()
    os.close(directory)
    assert reader.items[1:] == [StatusChanged("-", up=False, reason="Is a directory"), StreamClosed("-")]
    with Reader(StandardInput(1_000_000)) as closed:
        closed.tick()
    assert closed.items == [StatusChanged("-", up=False, reason="Bad file descriptor")]


def test_standard_input_socket() -> None:
    """A socket works like a pipe, also a non-blocking one."""
    ours, theirs = socket.socketpair()
    ours.settimeout(0)
    with ours, theirs, Reader(StandardInput(ours.fileno())) as reader:
        theirs.sendall(b"one")
        reader.settle()
        theirs.close()
        reader.settle()
        assert stat.S_ISSOCK(os.fstat(ours.fileno()).st_mode)
    assert reader.data() == b"one"
    assert reader.ended() == ["-"]
