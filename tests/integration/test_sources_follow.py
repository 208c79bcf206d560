"""A file that grows is read once and in order, whatever happens to it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import qemu_migration_exporter.sources.files.follow
import qemu_migration_exporter.sources.files.followed_logs
from qemu_migration_exporter.sources import CaughtUp, Data, HistoryBegins, Position, StatusChanged, StreamClosed
from qemu_migration_exporter.sources.errors import SourceError
from qemu_migration_exporter.sources.files.follow import Follow
from qemu_migration_exporter.sources.files.followed_logs import FollowedLogs
from qemu_migration_exporter.sources.files.inotify import Watches, Written

from tests.support.source_reader import Reader, as_root, unprivileged

# Appends LINES lines, rotating as virtlogd does every LINES / (ROTATIONS + 1) of them: backups numbered from 0, the
# oldest overwritten, the new file opened after the renames. Writes are torn anywhere.
_WRITER = """
import os, sys
path, lines, rotations, backups = sys.argv[1], *map(int, sys.argv[2:5])
out = open(path, "ab", buffering=1000)
for number in range(lines):
    if rotations and number and number % (lines // (rotations + 1)) == 0:
        out.close()
        names = [path] + [f"{path}.{i}" for i in range(backups)]
        for older, newer in zip(names[:0:-1], names[-2::-1]):
            if os.path.exists(newer):
                os.rename(newer, older)
        out = open(path, "ab", buffering=1000)
    out.write(b"line %d\\n" % number)
out.close()
"""


def lines(count: int, start: int = 0) -> bytes:
    """Return numbered lines, as the writer writes them."""
    return b"".join(b"line %d\n" % number for number in range(start, count))


def append(path: Path, data: bytes) -> None:
    """Append to a file, which is made if there is none."""
    with path.open("ab") as out:
        out.write(data)


def rotate(path: Path, backups: int = 3) -> None:
    """Rotate as virtlogd does; the new file is there, and empty."""
    names = [path, *(Path(f"{path}.{number}") for number in range(backups))]
    for newer, older in zip(names[-2::-1], names[:0:-1], strict=True):
        if newer.exists():
            newer.rename(older)
    path.touch()


@contextmanager
def writer(path: Path, count: int, rotations: int, backups: int = 3) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that writes."""
    arguments = [str(path), str(count), str(rotations), str(backups)]
    with subprocess.Popen([sys.executable, "-c", _WRITER, *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet."""
    return tmp_path / "vm.log"


def test_appended_lines_have_positions(log: Path) -> None:
    """Existing lines come first, then appended ones; the position is behind the last byte."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        append(log, b"two\nthr")
        reader.until(lambda: reader.data() == b"one\ntwo\nthr")
        status = log.stat()
        last = reader.items[-1]
    assert last == Data(str(log), b"two\nthr", Position(status.st_dev, status.st_ino, 11, zlib.crc32(b"one\ntwo\nthr")))
    assert reader.ups() == [StatusChanged(str(log), up=True, reason="")]
    assert not reader.lost()


def test_rotation_while_process_writes(log: Path) -> None:
    """All 200,000 lines over five quick rotations come once and in order."""
    with Reader(Follow(str(log))) as reader, writer(log, 200_000, 5, backups=5) as process:
        reader.until(lambda: reader.data().count(b"\n") >= 200_000 and process.poll() == 0, ticking=True)
        reader.tick()
    assert reader.data() == lines(200_000)
    assert reader.streams() == {str(log)}
    assert not reader.lost()
    assert not reader.ended()


@pytest.mark.parametrize("rotations", [1, 2, 3])
@pytest.mark.parametrize("known", [False, True])
def test_rotations_between_two_reads(log: Path, rotations: int, known: bool) -> None:
    """Without a read in between, the files come in the order in which they were written, also of a new path."""
    if known:
        log.touch()
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        for number in range(rotations):
            append(log, b"file %d\n" % number)
            rotate(log)
        append(log, b"last\n")
        reader.settle()
        reader.tick()
    assert reader.data() == b"".join(b"file %d\n" % number for number in range(rotations)) + b"last\n"
    assert not reader.lost()
    assert not reader.ended()


def test_unread_rotated_lines_are_lost(log: Path) -> None:
    """After six rotations with three backups between two reads, missing files are reported as lost and the rest comes in order."""
    append(log, b"first\n")
    with Reader(Follow(str(log))) as reader:
        for number in range(6):
            rotate(log)
            append(log, b"file %d\n" % number)
        reader.settle()
    assert reader.data() == b"first\nfile 2\nfile 3\nfile 4\nfile 5\n"
    assert reader.lost() == ["2 files were gone before they were read"]


def test_rename_alone_ends_no_file(log: Path) -> None:
    """As long as the new file is empty, its writer may still write to the old one."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        with log.open("ab", buffering=0) as old:
            rotate(log)
            reader.settle()
            old.write(b"two\n")
            reader.until(lambda: reader.data() == b"one\ntwo\n")
        append(log, b"three\n")
        reader.until(lambda: reader.data() == b"one\ntwo\nthree\n")
    assert not reader.lost()


def copytruncate(path: Path) -> None:
    """Rotate as logrotate's copytruncate does."""
    Path(f"{path}.1").write_bytes(path.read_bytes())
    os.truncate(path, 0)


def test_truncated_log_is_read_from_start(log: Path) -> None:
    """The bytes that were not read before the truncation are reported as lost."""
    append(log, lines(100))
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        size = log.stat().st_size
        os.truncate(log, 0)
        append(log, b"anew\n")
        reader.settle()
        reader.tick()
    assert reader.data() == lines(100) + b"anew\n"
    assert reader.lost() == [f"truncated from {size} bytes to 5"]


def test_regrown_truncated_log_is_noticed(log: Path) -> None:
    """Its size alone has grown."""
    append(log, lines(10))
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        os.truncate(log, 0)
        append(log, lines(300, 100))
        reader.settle()
    assert reader.data() == lines(10) + lines(300, 100)
    assert len(reader.lost()) == 1


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("unread", [0, 50])
def test_copytruncate_loses_nothing(log: Path, restarted: bool, unread: int) -> None:
    """The rest is read from the copy, also if the log is already longer than before."""
    append(log, lines(100))
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        if not restarted:
            append(log, lines(100 + unread, 100))
            copytruncate(log)
            append(log, lines(500, 100 + unread))
            reader.settle()
            reader.tick()
    data, lost = reader.data(), reader.lost()
    if restarted:
        append(log, lines(100 + unread, 100))
        copytruncate(log)
        append(log, lines(500, 100 + unread))
        second = _read_all(log, {str(log): _position(reader)})
        data, lost = data + second.data(), lost + second.lost()
    assert data == lines(500)
    assert not lost


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("restarted", [False, True])
def test_copytruncate_of_unread_log(log: Path, restarted: bool, copies: int) -> None:
    """No position leads to copies of an unread log: they are newer than the backups that are known."""
    for number in (1, 2):
        Path(f"{log}.{number}").write_bytes(b"long ago\n")
        os.utime(f"{log}.{number}", (1, 1))
    log.touch()
    status = log.stat()

    def write() -> None:
        for number in range(copies):
            append(log, b"%d\n" % number)
            Path(f"{log}.2").rename(f"{log}.3")
            Path(f"{log}.1").rename(f"{log}.2")
            copytruncate(log)
        append(log, b"last\n")

    if restarted:
        write()
        resume = {str(log): Position(status.st_dev, status.st_ino, 0)}
    with Reader(Follow(str(log), resume if restarted else None, since_ns=8_000_000_000)) as reader:
        if not restarted:
            reader.settle()
            write()
        reader.settle()

    assert reader.data() == b"".join(b"%d\n" % number for number in range(copies)) + b"last\n"
    assert not reader.lost()


def test_copytruncate_after_copytruncate(log: Path) -> None:
    """The log was empty since the first one, so the copy that was read last is still the file being read."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        for number in range(4):
            append(log, b"unread %d\n" % number)
            if number:
                Path(f"{log}.1").rename(f"{log}.{number + 1}")
            copytruncate(log)
            reader.settle()
            reader.tick()
        append(log, b"last\n")
        reader.settle()
    assert reader.data() == b"one\nunread 0\nunread 1\nunread 2\nunread 3\nlast\n"
    assert not reader.lost()


def test_copy_of_unread_log_is_not_read(log: Path) -> None:
    """It is no rotation yet, and perhaps none at all."""
    log.touch()
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        append(log, b"one\n")
        Path(f"{log}.1").write_bytes(log.read_bytes())
        append(log, b"two\n")
        reader.settle()
    assert reader.data() == b"one\ntwo\n"


def test_double_copytruncate_loses_nothing(log: Path) -> None:
    """The older copy is found by its content, and the newer ones follow it."""
    append(log, lines(10))
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        for number in range(1, 4):
            append(log, lines(10 + 10 * number, 10 * number))
            for newer, older in ((2, 3), (1, 2)):
                if Path(f"{log}.{newer}").exists():
                    Path(f"{log}.{newer}").rename(f"{log}.{older}")
            copytruncate(log)
        append(log, lines(50, 40))
        reader.settle()
        reader.tick()
    assert reader.data() == lines(50)
    assert not reader.lost()


def test_log_deleted_between_runs_is_new(log: Path) -> None:
    """A migration open in the old log ends."""
    append(log, b"old\n")
    first = _read_all(log)
    keeper = log.open("rb")  # so that the inode is not used again
    log.unlink()
    append(log, b"new\n")
    second = _read_all(log, {str(log): _position(first)})
    keeper.close()
    assert second.ended() == [str(log)]
    assert second.data() == b"new\n"


def _rotate_twice(log: Path, turn: Callable[[Path], None]) -> None:
    """Rotate twice, each time with an unread line; the newest backup cannot be read."""
    append(log, b"two\n")
    turn(log)
    append(log, b"three\n")
    turn(log)
    append(log, b"four\n")


def _copy(log: Path) -> None:
    if Path(f"{log}.1").exists():
        Path(f"{log}.1").rename(f"{log}.2")
    copytruncate(log)


def _rotate_once(log: Path, turn: Callable[[Path], None]) -> None:
    append(log, b"three\n")
    turn(log)
    append(log, b"four\n")


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(
    ("rotations", "turn", "backup", "expected"),
    [
        (_rotate_twice, rotate, "0", b"one\ntwo\nfour\n"),
        (_rotate_twice, _copy, "1", b"one\ntwo\nfour\n"),
        (_rotate_once, _copy, "1", b"one\nfour\n"),
    ],
    ids=["renamed twice", "copied twice", "copied"],
)
def test_unreadable_backup_costs_its_own_lines(
    rotations: Callable[[Path, Callable[[Path], None]], None],
    turn: Callable[[Path], None],
    backup: str,
    expected: bytes,
    *,
    restarted: bool,
) -> None:
    """Its loss is counted once, with the reason."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory, "vm.log")
        log.write_bytes(b"one\n")
        with Reader(Follow(str(log))) as reader:
            reader.settle()
            position, since_ns = _position(reader), time.time_ns() - 1_000_000_000
            if not restarted:
                rotations(log, turn)
                Path(f"{log}.{backup}").chmod(0)
                with unprivileged():
                    reader.tick()
                    reader.tick()
        if restarted:
            rotations(log, turn)
            Path(f"{log}.{backup}").chmod(0)
            with unprivileged(), Reader(Follow(str(log), {str(log): position}, since_ns)) as again:
                again.tick()
                again.tick()
            reader.items += again.items

    assert reader.data() == expected
    assert 1 == len(reader.lost()), reader.lost()
    assert reader.lost()[0].endswith(f"{log}.{backup}: Permission denied")
    assert not reader.ended()


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("readable", [[], ["vm.log.1"]], ids=["none", "the oldest"])
def test_unreadable_newest_files_are_read_later(readable: list[str], *, restarted: bool) -> None:
    """No line is lost as long as no later file was read."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory, "vm.log")
        log.write_bytes(b"one\n")
        first = Reader(Follow(str(log)))
        first.settle()
        resume = {str(log): _position(first)}
        for number in range(3):
            rotate(log)
            append(log, b"%d\n" % number)
        forbidden = [Path(directory, name) for name in ("vm.log", "vm.log.0", "vm.log.1") if name not in readable]
        for path in forbidden:
            path.chmod(0)
        with unprivileged(), first, Reader(Follow(str(log), resume)) as second:
            reader = second if restarted else first
            reader.tick()
            with as_root():
                for path in forbidden:
                    path.chmod(0o644)
            reader.tick()

    assert reader.data().removeprefix(b"one\n") == b"0\n1\n2\n"
    assert reader.lost() == []


@pytest.mark.parametrize("leave", [Path.unlink, lambda log: log.rename(f"{log}-kept")], ids=["deleted", "renamed"])
def test_unreadable_old_backup_is_no_loss(leave: Callable[[Path], object]) -> None:
    """It was one before the log was replaced."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory, "vm.log")
        log.write_bytes(b"one\n")
        Path(f"{log}.1").write_bytes(b"long ago\n")
        Path(f"{log}.1").chmod(0)
        with unprivileged(), Reader(Follow(str(log))) as reader:
            reader.settle()
            with as_root():
                leave(log)
                append(log, b"two\n")
            reader.tick()

    assert (reader.data(), reader.lost()) == (b"one\ntwo\n", [])


def test_unreadable_copy_of_unread_log_is_counted_once() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory, "vm.log")
        log.touch()
        with Reader(Follow(str(log))) as reader:
            reader.settle()
            append(log, b"one\n")
            copytruncate(log)
            Path(f"{log}.1").chmod(0)
            with unprivileged():
                for _ in range(3):
                    reader.tick()
                with as_root():
                    append(log, b"second\n")
                reader.tick()

    assert reader.data() == b"second\n"
    assert reader.lost() == [f"{log}.1: Permission denied"]


def test_unreadable_copy_of_whole_log_is_no_loss() -> None:
    """The copy has the size of the log, which is not truncated yet."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory, "vm.log")
        log.touch()
        with Reader(Follow(str(log))) as reader:
            reader.settle()
            append(log, b"one\n")
            Path(f"{log}.1").write_bytes(b"one\n")
            Path(f"{log}.1").chmod(0)
            with unprivileged():
                reader.tick()

    assert (reader.data(), reader.lost()) == (b"one\n", [])


def test_copy_that_another_log_has_is_closed(tmp_path: Path) -> None:
    """Its lines come once, as those of the other log."""
    log, other = tmp_path / "vm.log", tmp_path / "other.log"
    append(log, b"one\n")
    append(other, b"one\ntwo\n")
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.tick()
        before = _descriptors()
        Path(f"{log}.1").hardlink_to(other)
        os.truncate(log, 0)
        append(log, b"three\n")
        reader.tick()
        assert _descriptors() == before
    assert (reader.data(str(log)), reader.data(str(other))) == (b"one\nthree\n", b"one\ntwo\n")


@pytest.mark.parametrize("copies", [False, True])
def test_truncate_and_rotate_between_runs(log: Path, copies: bool) -> None:
    """The position is gone with its content; everything written after it is read."""
    append(log, b"read\n")
    first = _read_all(log)
    since_ns = time.time_ns()
    time.sleep(0.02)  # the clock of file times is coarse
    os.truncate(log, 0)
    append(log, b"one\n")
    if copies:
        copytruncate(log)
    else:
        log.rename(f"{log}.1")
    append(log, b"two\n")
    with Reader(Follow(str(log), {str(log): _position(first)}, since_ns)) as second:
        second.settle()
        second.tick()
    assert second.data() == b"one\ntwo\n"
    assert len(second.lost()) == 1


def test_new_log_is_read_with_backups(log: Path) -> None:
    """It appeared after the last checkpoint and was rotated before the next start."""
    Path(f"{log}.3").write_bytes(b"before\n")
    os.utime(f"{log}.3", (1, 1))
    for number in range(3):
        append(log, b"%d\n" % number)
        if number < 2:
            rotate(log)
    with Reader(Follow(str(log), since_ns=8_000_000_000)) as reader:
        reader.settle()
    assert reader.data() == b"0\n1\n2\n"


def test_smaller_size_alone_is_no_truncation(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On FUSE an open file can show the size of a newer file of its name; nothing is read twice for that."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        with monkeypatch.context() as shown:
            shown.setattr("qemu_migration_exporter.sources.files.rotation.File.size", property(lambda _: 0))
            append(log, b"two\n")
            reader.settle()
        append(log, b"three\n")
        reader.settle()
    assert reader.data() == b"one\ntwo\nthree\n"
    assert not reader.lost()


def test_hole_of_sparse_file_is_skipped(log: Path) -> None:
    """A writer that does not append leaves one after a truncation, as large as it likes."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        with log.open("r+b") as out:
            out.seek(1 << 40)
            out.write(b"two\n")
        reader.settle()
    assert reader.data().replace(b"\0", b"") == b"one\ntwo\n"
    assert reader.reads < 10


def test_write_is_read_with_one_look(log: Path) -> None:
    """On a host with many running migrations a second look, which finds nothing, is a tenth of the time."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        before = reader.reads
        append(log, b"two\n")
        reader.settle()
        assert reader.reads == before + 1
    assert reader.data() == b"one\ntwo\n"


@pytest.mark.parametrize("settled", [False, True])
def test_delete_and_reappear(log: Path, settled: bool) -> None:
    """A deleted file is read to its end and ends; the next of its name begins at its first byte. Backups stay unread."""
    Path(f"{log}.0").write_bytes(b"long ago\n")
    log.touch()
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        append(log, b"old\n")
        log.unlink()
        if settled:
            reader.settle()
            assert reader.items[-1] == StatusChanged(str(log), up=False, reason="No such file or directory")
        append(log, b"new\n")
        reader.settle()
    kinds = [item for item in reader.items if isinstance(item, Data | StreamClosed)]
    assert [kind.data if isinstance(kind, Data) else "ended" for kind in kinds] == [b"old\n", "ended", b"new\n"]
    assert reader.ups()[-1].up
    assert not reader.lost()


def test_directory_that_comes_later(tmp_path: Path) -> None:
    """A followed log and its directory may be missing at first, and the directory may disappear again."""
    log = tmp_path / "later" / "vm.log"
    with Reader(Follow(str(log))) as reader:
        assert reader.items == [StatusChanged(str(log), up=False, reason="No such file or directory")]
        for number in range(2):
            log.parent.mkdir()
            reader.tick()
            log.write_bytes(b"%d\n" % number)
            reader.settle()
            log.unlink()
            log.parent.rmdir()
            reader.settle()
            reader.tick()
    assert reader.data() == b"0\n1\n"
    assert reader.ended() == [str(log)] * 2


def test_glob(tmp_path: Path) -> None:
    """New files are picked up at once, without a tick; backups, hidden files and other names are not."""
    (tmp_path / "one.log").write_bytes(b"one\n")
    for name in ("one.log.0", ".hidden.log", "notes.txt"):
        (tmp_path / name).write_bytes(b"no\n")
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.settle()
        assert reader.streams() == {f"{tmp_path}/one.log"}
        (tmp_path / "two.log").write_bytes(b"two\n")
        reader.until(lambda: reader.data(f"{tmp_path}/two.log") == b"two\n")
        (tmp_path / "one.log").unlink()
        reader.settle()
    assert reader.data() == b"one\ntwo\n"
    assert reader.ended() == [f"{tmp_path}/one.log"]
    assert [each for each in reader.ups() if not each.up] == []


def test_glob_that_matches_backups_too(tmp_path: Path) -> None:
    """A rotated file is no stream of its own, whatever the pattern; nor is one that was renamed by hand."""
    log = tmp_path / "vm.log"
    log.write_bytes(b"one\n")
    Path(f"{log}.0").write_bytes(b"long ago\n")
    with Reader(Follow(f"{tmp_path}/*")) as reader:
        for number in range(3):
            rotate(log)
            append(log, b"%d\n" % number)
            reader.tick()
        log.rename(tmp_path / "kept.log")
        append(log, b"last\n")
        reader.tick()
        reader.tick()
    assert reader.data() == b"one\n0\n1\n2\nlast\n"
    assert reader.streams() == {str(log)}


def test_two_hundred_files(tmp_path: Path) -> None:
    """All files of a pattern are followed, each in its own order, and rotation of all of them loses nothing."""
    paths = [tmp_path / f"vm{number}.log" for number in range(200)]
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        for turn in range(3):
            for path in paths:
                append(path, b"%d\n" % turn)
            reader.settle()
            for path in paths:
                rotate(path)
        reader.tick()
    assert {reader.data(str(path)) for path in paths} == {b"0\n1\n2\n"}
    assert not reader.lost()
    assert not reader.ended()


FOLLOW = qemu_migration_exporter.sources.files.follow
LOGS = qemu_migration_exporter.sources.files.followed_logs


def _logs(directory: Path, count: int) -> list[Path]:
    """Make logs; the first was written last."""
    paths = [directory / f"{number}.log" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(b"%d\n" % number)
        os.utime(path, (1_000_000 - number, 1_000_000 - number))
    return paths


def test_logs_beyond_descriptors_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those written longest ago are closed, and opened again when they are written, renamed or deleted."""
    monkeypatch.setattr(LOGS, "MAX_OPEN", 3)
    before = _descriptors()
    paths = _logs(tmp_path, 12)
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.settle()
        reader.tick()
        assert {reader.data(str(path)) for path in paths} == {b"%d\n" % number for number in range(12)}
        assert _descriptors() <= before + 2 + 3
        for turn in range(3):
            for path in paths:
                append(path, b"turn %d\n" % turn)
                reader.settle()
                reader.tick()
                if turn == 1:
                    rotate(path)
        assert _descriptors() <= before + 2 + 3 + 3  # an empty file waits behind a rotated one
        paths[5].unlink()
        reader.settle()
        reader.tick()
    for number, path in enumerate(paths):
        assert reader.data(str(path)) == b"%d\nturn 0\nturn 1\nturn 2\n" % number
    assert reader.ended() == [str(paths[5])]
    assert not reader.lost()
    assert all(each.up for each in reader.ups())


def test_idle_logs_resume_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that ends at its position is parked at once."""
    monkeypatch.setattr(LOGS, "MAX_OPEN", 2)
    paths = _logs(tmp_path, 8)
    with Reader(Follow(f"{tmp_path}/*.log")) as first:
        first.settle()
    positions = {item.stream: item.position for item in first.items if isinstance(item, Data) and item.position}
    with Reader(Follow(f"{tmp_path}/*.log", positions)) as second:
        second.settle()
        append(paths[7], b"more\n")
        second.settle()
        second.tick()
    assert second.data() == b"more\n"
    assert {item.stream for item in second.items if isinstance(item, CaughtUp)} == {str(path) for path in paths}


def test_newest_logs_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is bounded, which is reported once; a new log displaces the one written longest ago."""
    monkeypatch.setattr(LOGS, "MAX_OPEN", 2)
    monkeypatch.setattr(FOLLOW, "MAX_LOGS", 4)
    _logs(tmp_path, 6)
    pattern = f"{tmp_path}/*.log"
    with Reader(Follow(pattern)) as reader:
        reader.tick()
        assert reader.streams() == {f"{tmp_path}/{number}.log" for number in range(4)}
        down = [each.reason for each in reader.ups() if not each.up]
        assert down == ["more than 4 files match, the 2 that were written longest ago are not read"]
        for number in range(3, 6):
            (tmp_path / f"{number}.log").unlink()
        reader.tick()
        reader.tick()
        assert reader.ups()[-1] == StatusChanged(pattern, up=True, reason="")
        (tmp_path / "new.log").write_bytes(b"new\n")
        reader.tick()
    assert reader.data(f"{tmp_path}/new.log") == b"new\n"


def test_catching_up_is_reported_per_log(tmp_path: Path) -> None:
    """A log that is there at the start has a history; one that appears later is new."""
    old, new = tmp_path / "old.log", tmp_path / "new.log"
    append(old, b"old\n")
    modified_ns = old.stat().st_mtime_ns
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.settle()
        append(old, b"and new\n")
        append(new, b"new\n")
        reader.settle()
    assert [item for item in reader.items if isinstance(item, HistoryBegins | CaughtUp)] == [
        HistoryBegins(str(old), modified_ns),
        CaughtUp(str(old)),
    ]
    kinds = [type(item) for item in reader.items if getattr(item, "stream", "") == str(old)]
    assert kinds == [HistoryBegins, StatusChanged, Data, CaughtUp, Data]


def test_empty_new_file_delays_nothing(tmp_path: Path) -> None:
    """After a rename and create the old file is waited on, with nothing to read."""
    log = tmp_path / "vm.log"
    append(log, b"one\n")
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.settle()
        rotate(log)
        for _ in range(3):
            reader.tick()
            assert not reader.source.pending
            assert not reader.source.behind


def test_unread_bytes_delay_only_their_log(tmp_path: Path) -> None:
    """Time passes in the other streams of the pattern."""
    for name in ("a", "b"):
        append(tmp_path / f"{name}.log", lines(10))
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.settle()
        append(tmp_path / "b.log", lines(10))
        reader.items += reader.source.tick(reader.now + 1)
        assert set(reader.source.behind) == {f"{tmp_path}/b.log"}


def test_idle_logs_cost_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every log is looked at in thirty seconds, not in every one."""
    for number in range(200):
        append(tmp_path / f"{number}.log", b"x")
    looked: list[str] = []
    look = FollowedLogs.look

    def counted(self: FollowedLogs, path: str) -> None:
        looked.append(path)
        look(self, path)

    monkeypatch.setattr(FollowedLogs, "look", counted)
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.tick()
        reader.tick()
        looked.clear()
        for _ in range(30):
            reader.tick()
    assert len(set(looked)) == 200
    assert len(looked) <= 210


def test_inotify_exhaustion_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own words speak of open files."""

    def fail(**_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("qemu_migration_exporter.sources.files.inotify.INotify", fail)
    with pytest.raises(SourceError, match=r"fs\.inotify\.max_user_instances"):
        Follow("/var/log/vm.log")


def test_one_inode_has_two_descriptors(log: Path) -> None:
    """On FUSE a file can show two inode numbers; the kernel has one watch for both descriptors."""
    log.touch()
    watches = Watches()
    with log.open("rb") as one, log.open("rb") as two:
        watches.watch(one.fileno(), "one")
        watches.watch(two.fileno(), "two")
        append(log, b"x")
        assert {notice.stream for notice in watches.notices() if isinstance(notice, Written)} == {"one", "two"}
        watches.leave(one.fileno())
        append(log, b"x")
        assert list(watches.notices()) == [Written("two")]
        watches.leave(two.fileno())
    watches.close()


def _read_all(path: Path, resume: dict[str, Position] | None = None) -> Reader:
    with Reader(Follow(str(path), resume)) as reader:
        reader.settle()
        reader.tick()
    return reader


def _position(reader: Reader) -> Position:
    positions = [item.position for item in reader.items if isinstance(item, Data)]
    assert positions[-1] is not None
    return positions[-1]


@pytest.mark.parametrize("rotations", [0, 1, 3])
@pytest.mark.parametrize("pattern", ["vm.log", "*.log"])
def test_resume(tmp_path: Path, rotations: int, pattern: str) -> None:
    """It goes on behind the last byte, first in the file that was read, then in those that came after it."""
    log = tmp_path / "vm.log"
    append(log, b"long ago\n")
    rotate(log)
    append(log, b"read\n")
    first = _read_all(log)
    append(log, b"rest\n")
    for number in range(rotations):
        rotate(log, backups=5)
        append(log, b"file %d\n" % number)
    with Reader(
        Follow(str(tmp_path / pattern), {str(log): _position(first), "/elsewhere": Position(1, 1, 1)})
    ) as second:
        second.tick()
    assert second.data() == b"rest\n" + b"".join(b"file %d\n" % number for number in range(rotations))
    assert not second.lost()
    if not rotations:
        assert _position(second)[:2] == _position(first)[:2]


def test_resume_after_rotation(log: Path) -> None:
    """A missing file is reported, and the current one is read from its beginning."""
    append(log, b"read\n")
    first = _read_all(log)
    keeper = log.open("rb")  # so that the inode is not used again
    for number in range(5):
        rotate(log)
        append(log, b"file %d\n" % number)
    second = _read_all(log, {str(log): _position(first)})
    keeper.close()
    assert second.data() == b"file 4\n"
    assert len(second.lost()) == 1
    assert second.ended() == []
    assert "nothing continues byte 5" in second.lost()[0]


def test_resume_after_truncate_or_delete(log: Path) -> None:
    """A file shorter than its position is read from its beginning; a missing one has ended."""
    append(log, b"read long ago\n")
    position = _position(_read_all(log))
    os.truncate(log, 0)
    append(log, b"anew\n")
    second = _read_all(log, {str(log): position})
    assert (second.data(), len(second.lost())) == (b"anew\n", 1)
    log.unlink()
    third = _read_all(log, {str(log): position})
    assert third.lost() == ["was deleted behind byte 14"]
    assert third.ended() == [str(log)]


@pytest.mark.parametrize("pattern", ["vm.log", "*.log"])
def test_permission_is_lost_and_regained(pattern: str) -> None:
    """A file that may not be read is down, once and with the reason, and is read as soon as it may be."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # pytest's own are root's alone
        log = Path(directory, "vm.log")
        log.write_bytes(b"one\n")
        log.chmod(0)
        with unprivileged(), Reader(Follow(f"{directory}/{pattern}")) as reader:
            reader.tick()
            reader.tick()
            assert reader.ups() == [StatusChanged(str(log), up=False, reason="Permission denied")]
            with as_root():
                log.chmod(0o644)
            reader.tick()
            with as_root():
                rotate(log)
                log.chmod(0)
                append(log, b"three\n")
                append(Path(f"{log}.0"), b"two\n")
            reader.tick()
            assert reader.data() == b"one\ntwo\n"
            assert not reader.ups()[-1].up
            with as_root():
                log.chmod(0o644)
            reader.tick()
    assert reader.data() == b"one\ntwo\nthree\n"
    assert [each.up for each in reader.ups()] == [False, True, False, True]
    assert not reader.lost()


@pytest.mark.parametrize("pattern", ["vm.log", "*.log"])
@pytest.mark.parametrize("forbidden", ["vm.log", "."])
def test_forbidden_libvirt_log_names_the_drop_in(pattern: str, forbidden: str) -> None:
    """virtlogd creates files for root only, and some distributions the directory too."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        folder = Path(directory, "libvirt", "qemu")
        folder.mkdir(parents=True)
        (folder / "vm.log").write_bytes(b"one\n")
        (folder / forbidden).chmod(0)
        with unprivileged(), Reader(Follow(f"{folder}/{pattern}")) as reader:
            reader.tick()
            reasons = {change.reason for change in reader.ups()}

    assert reasons == {"Permission denied; the unit's drop-in libvirt-logs.conf lets the daemon read libvirt's logs"}


def test_position_outlasts_a_lost_permission() -> None:
    """After a restart without permission, the log goes on where it was read to once there is permission again."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        log = Path(directory, "vm.log")
        log.write_bytes(b"one\n")
        position = _position(_read_all(log))
        append(log, b"two\n")
        log.chmod(0)
        with unprivileged(), Reader(Follow(str(log), {str(log): position})) as reader:
            reader.tick()
            assert [change.up for change in reader.ups()] == [False]
            with as_root():
                log.chmod(0o644)
            reader.tick()

    assert (reader.data(), reader.lost()) == (b"two\n", [])


def test_directory_or_fifo_instead_of_file(log: Path) -> None:
    """A directory or a FIFO in a file's place is down; one bad name stops no other."""
    log.mkdir()
    os.mkfifo(log.parent / "fifo.log")
    (log.parent / "good.log").write_bytes(b"good\n")
    with Reader(Follow(f"{log.parent}/*.log")) as reader:
        reader.tick()
        assert reader.data() == b"good\n"
        reasons = {each.stream: each.reason for each in reader.ups() if not each.up}
        assert reasons[str(log)] == f"{log}: is no regular file"
        log.rmdir()
        reader.tick()
        assert reader.ended() == [str(log)]
        log.write_bytes(b"a file\n")
        reader.tick()
    assert reader.data(str(log)) == b"a file\n"


def test_symbolic_link(tmp_path: Path) -> None:
    """A link is followed to its file, which is seen to grow; another file behind it is the next one."""
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    link = tmp_path / "links" / "vm.log"
    link.parent.mkdir()
    link.symlink_to(tmp_path / "a")
    with Reader(Follow(f"{link.parent}/*.log")) as reader:
        reader.settle()
        append(tmp_path / "a", b"+")
        reader.until(lambda: reader.data() == b"a+")
        link.unlink()
        link.symlink_to(tmp_path / "b")
        reader.tick()
    assert reader.data() == b"a+b"


def test_linked_log_is_looked_at_every_second(tmp_path: Path) -> None:
    """No notice comes of a new file in the directory that a link leads to; other logs are looked at in turns."""
    target, links = tmp_path / "vm.log", tmp_path / "links"
    target.write_bytes(b"one\n")
    links.mkdir()
    for number in range(100):
        (links / f"{number}.log").touch()
    (links / "vm.log").symlink_to(target)
    with Reader(Follow(f"{links}/*.log")) as reader:
        reader.tick()
        target.rename(f"{target}.old")
        reader.tick()
        target.write_bytes(b"two\n")
        reader.tick()
    assert reader.data() == b"one\ntwo\n"


def test_large_file_delays_no_other(tmp_path: Path) -> None:
    """While 50 MB of one file are read, another file's line comes with the second call."""
    block = lines(10_000)
    with (tmp_path / "a.log").open("wb") as out:
        while out.tell() < 50_000_000:
            out.write(block)
    quiet = tmp_path / "z.log"
    quiet.touch()
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        for _ in range(10):
            assert reader.turn()
        append(quiet, b"hello\n")
        before = reader.reads
        reader.until(lambda: reader.data(str(quiet)) == b"hello\n")
        assert reader.reads - before <= 2
        assert all(len(item.data) <= 256 * 1024 for item in reader.items if isinstance(item, Data))
        assert len(reader.data()) <= reader.reads * 256 * 1024
        assert reader.source.pending


def test_failing_disk_is_survived(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is down and let alone for a minute, then gone on with where it was left."""
    append(log, b"one\n")
    with Reader(Follow(f"{log.parent}/*.log")) as reader:
        reader.settle()
        append(log, b"two\n")
        (log.parent / "new.log").touch()

        def fail(*_: object) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as failing:
            failing.setattr(os, "pread", fail)
            reader.tick()
            assert reader.ups()[-1] == StatusChanged(str(log), up=False, reason="Input/output error")
        reader.tick(30)
        assert not reader.data().endswith(b"two\n")
        reader.tick(31)
    assert reader.data() == b"one\ntwo\n"
    assert reader.ups()[-1].up
    assert not reader.lost()


@pytest.mark.parametrize("rotated", [False, True])
def test_disk_that_fails_for_long_holds_no_later_file(
    log: Path, monkeypatch: pytest.MonkeyPatch, *, rotated: bool
) -> None:
    """A backup that fails a minute later too is counted as lost; each attempt releases its descriptors."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        append(log, b"two\n")
        damaged, read = log.stat().st_ino, os.pread

        def fail(fd: int, *place: int) -> bytes:
            if os.fstat(fd).st_ino == damaged:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(fd, *place)

        monkeypatch.setattr(os, "pread", fail)
        if rotated:
            rotate(log)
            append(log, b"three\n")
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(10):
            reader.tick(61)
        assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1

    assert reader.data() == (b"one\nthree\n" if rotated else b"one\n")
    assert reader.lost() == ([f"{log}.0: Input/output error"] if rotated else [])
    assert reader.ups()[-1].up == rotated


def test_overflow_is_made_good(tmp_path: Path) -> None:
    """When inotify's queue overflows, all files are looked at."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    log = tmp_path / "vm.log"
    log.write_bytes(b"one\n")
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.settle()
        other = tmp_path / "other"
        for _ in range(limit // 2 + 10):
            other.touch()
            other.unlink()
        rotate(log)
        append(log, b"two\n")
        (tmp_path / "new.log").write_bytes(b"new\n")
        reader.settle()
    assert reader.data(str(log)) == b"one\ntwo\n"
    assert reader.data(f"{tmp_path}/new.log") == b"new\n"


def test_without_notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without inotify, ticks find everything a second later."""
    for module in (FOLLOW, LOGS):
        monkeypatch.setattr(module, "notifies", lambda _: False)
    monkeypatch.setattr("qemu_migration_exporter.sources.files.inotify._of_file", lambda *_: iter(()))
    monkeypatch.setattr("qemu_migration_exporter.sources.files.inotify._of_directory", lambda *_: iter(()))
    log = tmp_path / "vm.log"
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        for number in range(5):
            append(log, b"%d\n" % number)
            reader.tick()
            rotate(log)
    assert reader.data() == b"0\n1\n2\n3\n4\n"


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Months of rotation and deletion leave no descriptor behind, and closing leaves none at all."""
    before = _descriptors()
    log = tmp_path / "vm.log"
    with Reader(Follow(f"{tmp_path}/*")) as reader:
        for number in range(50):
            append(log, b"%d\n" % number)
            rotate(log)
            (tmp_path / f"{number}.log").write_bytes(b"x")
            reader.tick()
            (tmp_path / f"{number}.log").unlink()
        reader.tick()
        # The selector, inotify, the file that is followed and the empty one that comes after it.
        assert _descriptors() == before + 4

        for number in range(5):
            append(log, b"last %d\n" % number)
            reader.tick()
            os.truncate(log, 0)  # no backup continues it
            reader.tick()
        assert _descriptors() == before + 3

        append(log, b"kept\n")
        reader.tick()
        log.rename(tmp_path / "kept.log")  # stays open, so that its inode becomes no other file's
        append(log, b"new\n")
        reader.tick()
        assert _descriptors() == before + 4
    assert _descriptors() == before


def test_deleted_stray_is_closed(tmp_path: Path) -> None:
    """A log that got another name by hand is kept open only while it has that name."""
    log = tmp_path / "vm.log"
    append(log, b"one\n")
    with Reader(Follow(f"{tmp_path}/*.log")) as reader:
        reader.tick()
        followed = _descriptors()
        log.rename(tmp_path / "kept.log")
        append(log, b"two\n")
        reader.tick()
        assert _descriptors() == followed + 1
        (tmp_path / "kept.log").unlink()
        reader.tick()
        assert _descriptors() == followed
    assert reader.data() == b"one\ntwo\n"


def test_deleted_newer_file_is_no_deleted_log(log: Path) -> None:
    """The file that was read is a backup then. When it is deleted too, the backups after it are read."""
    append(log, b"one\n")
    with Reader(Follow(str(log))) as reader:
        reader.settle()
        rotate(log, backups=2)
        log.unlink()
        reader.settle()
        for number in range(3):
            append(log, b"%d\n" % number)
            rotate(log, backups=2)
        reader.settle()
    assert reader.data() == b"one\n1\n2\n"
    assert len(reader.lost()) == 1
    assert not reader.ended()


@pytest.mark.parametrize(
    ("pattern", "message"), [("/var/*/vm.log", "expected wildcards in the file"), ("/var/log/", "names a directory")]
)
def test_unfollowable_patterns(pattern: str, message: str) -> None:
    """Wildcards belong in the name of the file, and a directory is no log."""
    with pytest.raises(SourceError, match=message):
        Follow(pattern)
