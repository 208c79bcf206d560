"""Every connection to the socket is a stream of its own; writers over the limit are turned away."""

from __future__ import annotations

import os
import resource
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest
import qemu_migration_exporter.sources.unix_socket
from qemu_migration_exporter.sources import StatusChanged, StreamClosed
from qemu_migration_exporter.sources.unix_socket import UnixSocket

from tests.support.source_reader import Reader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where to listen."""
    return tmp_path / "probe.sock"


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(path))
    return connection


def test_two_writers_interleaved(path: Path) -> None:
    """Their lines are not mixed; each writer has its number, and ends by itself."""
    with Reader(UnixSocket(str(path))) as reader:
        assert reader.items == [StatusChanged(str(path), up=True, reason="")]
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        with _connect(path) as one, _connect(path) as two:
            for number in range(3):
                one.sendall(b"one %d\n" % number)
                two.sendall(b"two %d\n" % number)
                reader.settle()
            one.close()
            reader.settle()
            assert reader.ended() == [f"{path}#1"]
            two.sendall(b"last\n")
            reader.settle()
        reader.settle()
        with _connect(path) as three:
            three.sendall(b"three\n")
            reader.settle()
    assert reader.data(f"{path}#1") == b"one 0\none 1\none 2\n"
    assert reader.data(f"{path}#2") == b"two 0\ntwo 1\ntwo 2\nlast\n"
    assert reader.data(f"{path}#3") == b"three\n"
    assert reader.items[1] == StatusChanged(f"{path}#1", up=True, reason="")
    assert StreamClosed(f"{path}#2") in reader.items
    assert not path.exists()


def test_too_many_writers(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They see their connection close, and are counted once a tick; a place that gets free is given away."""
    monkeypatch.setattr(qemu_migration_exporter.sources.unix_socket, "MAX_CONNECTIONS", 2)
    with Reader(UnixSocket(str(path))) as reader:
        kept = [_connect(path) for _ in range(2)]
        reader.settle()
        for _ in range(3):
            with _connect(path) as refused:
                reader.settle()
                assert refused.recv(1) == b""
        reader.tick()
        reader.tick()
        assert reader.lost() == ["3 writers turned away: 2 are connected"]
        kept.pop().close()
        reader.settle()
        kept.append(_connect(path))
        kept[-1].sendall(b"welcome")
        reader.settle()
        assert reader.data() == b"welcome"
        for connection in kept:
            connection.close()


def _fill(connection: socket.socket) -> None:
    with suppress(BlockingIOError):
        while True:
            connection.send(b"x" * 65536)


def test_busy_writer_delays_no_other(path: Path) -> None:
    """A line comes with the second call at the latest, while another connection is always full."""
    with Reader(UnixSocket(str(path))) as reader, _connect(path) as much, _connect(path) as little:
        reader.settle()
        much.settimeout(0)
        for turn in range(50):
            _fill(much)
            if turn == 25:
                little.sendall(b"hello\n")
                before = reader.reads
            assert reader.turn()
            if turn > 25 and not reader.data(f"{path}#2"):
                assert reader.reads - before < 2
        assert reader.data(f"{path}#2") == b"hello\n"


def test_stale_socket_is_replaced(path: Path) -> None:
    """The socket of a killed process is no obstacle; a listening process is one until it ends."""
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Reader(UnixSocket(str(path))) as reader:
        assert reader.items == [StatusChanged(str(path), up=True, reason="")]
        with Reader(UnixSocket(str(path))) as second:
            assert second.items == [StatusChanged(str(path), up=False, reason="another process listens there")]
            reader.source.close()
            second.tick()
            assert second.ups()[-1].up


def test_nothing_else_is_replaced(path: Path) -> None:
    """A file at the path stays, and the source is down until it is gone; a path may be too long."""
    path.write_bytes(b"precious")
    with Reader(UnixSocket(str(path))) as reader:
        assert reader.items == [StatusChanged(str(path), up=False, reason="exists and is no socket")]
        reader.tick()
        assert len(reader.items) == 1
    assert path.read_bytes() == b"precious"
    with Reader(UnixSocket("/tmp/" + "x" * 200)) as reader:  # noqa: S108 - nothing is made there
        assert reader.items[0].reason == "AF_UNIX path too long"  # type: ignore[union-attr]


def test_deleted_socket_is_recreated(path: Path) -> None:
    """When something cleaned up, writers that are connected stay, and new ones find the socket again."""
    with Reader(UnixSocket(str(path))) as reader, _connect(path) as old:
        reader.settle()
        path.unlink()
        reader.tick()
        with _connect(path) as new:
            old.sendall(b"old")
            new.sendall(b"new")
            reader.settle()
    assert reader.data(f"{path}#1") == b"old"
    assert reader.data(f"{path}#2") == b"new"


def test_no_descriptors_left(path: Path) -> None:
    """No writer is accepted then, which is logged and does not spin; the writer waits until a descriptor is free."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Reader(UnixSocket(str(path))) as reader, _connect(path) as writer:
        writer.sendall(b"patience")
        free = os.dup(writer.fileno())  # the lowest free descriptor: none is below it, so with this limit there is none
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
        try:
            reader.settle()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        reader.tick()
        assert [each.up for each in reader.ups() if each.stream == str(path)] == [True, False, True]
        assert reader.data() == b"patience"


def test_closing_closes_everything(path: Path) -> None:
    """Writers see the end, and no descriptor is left."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Reader(UnixSocket(str(path))) as reader:
        writer = _connect(path)
        reader.settle()
    assert writer.recv(1) == b""
    writer.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not os.path.lexists(path)
