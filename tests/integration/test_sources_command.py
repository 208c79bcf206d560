"""Source `command`: kept running, its output is the stream, its complaints are logged."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from qemu_migration_exporter.sources import StatusChanged, StreamClosed
from qemu_migration_exporter.sources.command import Command

from tests.support.patience import patience
from tests.support.source_reader import Reader


def _python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def _down(reader: Reader) -> list[str]:
    return [each.reason for each in reader.ups() if not each.up]


def _until_down(reader: Reader, times: int) -> None:
    """Read and tick, without letting time pass for the command, until it ended so often."""

    def done() -> bool:
        reader.items += reader.source.tick(reader.now)
        return len(_down(reader)) >= times

    reader.until(done)


def test_died_command_restarts() -> None:
    """Pauses double from one second to sixty; all it wrote before it died is read before its stream ends."""
    code = "import sys; sys.stdout.write('x' * 50000 + 'end'); sys.stdout.flush(); sys.exit(3)"
    with Reader(Command(_python(code), "probe")) as reader:
        for times, pause in enumerate([1, 2, 4, 8, 16, 32, 60, 60], 1):
            _until_down(reader, times)
            assert _down(reader)[-1] == f"exit status 3, again in {pause} s"
            assert len(reader.data()) == times * 50_003
            assert len(reader.ended()) == times
            reader.tick(pause - 0.5)
            assert not reader.ups()[-1].up
            reader.tick(0.5)
            assert reader.ups()[-1].up
    kinds = [item for item in reader.items if isinstance(item, StatusChanged | StreamClosed)]
    assert kinds[:4] == [
        StatusChanged("probe", up=True, reason=""),
        StreamClosed("probe"),
        StatusChanged("probe", up=False, reason="exit status 3, again in 1 s"),
        StatusChanged("probe", up=True, reason=""),
    ]


def test_output_unread_at_end_is_read(caplog: pytest.LogCaptureFixture) -> None:
    """The end is noticed before any read: a full pipe, and a last message without an end."""
    code = "import os; os.write(1, b'x' * 60_000); os.write(2, b'last words')"
    source = Command(_python(code), "probe")
    with Reader(source) as reader:
        deadline = time.monotonic() + patience(10)
        while not _down(reader) and time.monotonic() < deadline:
            reader.items += source.tick(reader.now)
    assert (len(reader.data()), reader.lost()) == (60_000, [])
    assert "probe: last words" in caplog.text


def test_success_resets_restart_pause() -> None:
    """A command that ran for a minute is started again after a second."""
    with Reader(Command(_python("import sys; sys.stdin.read(); import signal; signal.pause()"), "probe")) as reader:
        for times, (ran, pause) in enumerate([(1, 1), (1, 2), (61, 1), (1, 2)], 1):
            reader.tick(ran)
            os.kill(_child(), signal.SIGKILL)
            _until_down(reader, times)
            assert _down(reader)[-1] == f"killed by SIGKILL, again in {pause} s"
            reader.tick(pause)


def _child() -> int:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return int(children[-1])


def test_missing_command(tmp_path: Path) -> None:
    """It is tried again; it may be installed one day."""
    probe = tmp_path / "probe"
    with Reader(Command([str(probe)], "probe")) as reader:
        assert _down(reader) == [f"{probe}: No such file or directory, again in 1 s"]
        probe.write_text("#!/bin/sh\necho here\nsleep 100\n", encoding="ascii")
        probe.chmod(0o755)
        reader.tick()
        reader.until(lambda: reader.data() == b"here\n")
    with Reader(Command(["bad\0name"], "probe")) as reader:
        assert _down(reader) == ["bad\0name: embedded null byte, again in 1 s"]


def test_stderr_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Line by line, control characters escaped, long lines cut, a flood counted."""
    code = r"""
import sys
out = sys.stderr.buffer
out.write(b"plain\n\x1b[31mred\xff\n" + b"y" * 3000 + b"\n" + b"z\n" * 100 + b"torn")
out.flush()
print("done", flush=True)
sys.stderr.close()
"""
    caplog.set_level(logging.WARNING)
    with Reader(Command(_python(code), "probe")) as reader:
        reader.until(lambda: reader.data() == b"done\n")
        _until_down(reader, 1)
        reader.tick(0.5)
    messages = [
        record.getMessage() for record in caplog.records if record.name == "qemu_migration_exporter.sources.command"
    ]
    assert messages[0] == "probe: plain"
    assert messages[1] == r"probe: \x1b[31mred\xff"
    assert messages[2] == f"probe: {'y' * 1000} ..."
    assert messages[3:50] == ["probe: z"] * 47
    assert sum(int(message.split()[1]) for message in messages[50:] if message.endswith("more messages")) >= 53
    assert reader.data() == b"done\n"


def test_endless_line_stays_small(caplog: pytest.LogCaptureFixture) -> None:
    """A complaint of many megabytes without a newline is cut and forgotten."""
    code = "import sys; sys.stderr.write('y' * 5_000_000 + '\\nnext\\n')"
    with Reader(Command(_python(code), "probe")) as reader:
        _until_down(reader, 1)
    messages = [
        record.getMessage() for record in caplog.records if record.name == "qemu_migration_exporter.sources.command"
    ]
    assert messages == [f"probe: {'y' * 1000} ...", "probe: next"]


def test_endless_output_comes_in_pieces() -> None:
    """No call gives more than it may, whatever the command writes."""
    with Reader(Command(["yes"], "probe")) as reader:
        sizes = []
        for _ in range(20):
            before = len(reader.data())
            reader.turn(1.0)
            sizes.append(len(reader.data()) - before)
    assert 0 < max(sizes) <= 256 * 1024


def test_command_closes_output(tmp_path: Path) -> None:
    """It is waited for, without being busy."""
    closed = tmp_path / "closed"
    code = f"import os, signal; os.close(1); os.close(2); os.mkdir({str(closed)!r}); signal.pause()"
    with Reader(Command(_python(code), "probe")) as reader:
        reader.until(closed.exists)
        reader.settle()
        reader.tick()
        assert not reader.turn(0.05)
        assert not reader.ended()


def _until_gone(process: int) -> None:
    """Wait for the end of a process that is no child."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(process)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(5_000), "it lives on"
        os.close(pidfd)


_FAMILY = """
import os, signal, sys
{before}
if os.fork() == 0:
    print(os.getpid(), flush=True)
    signal.pause()
{after}
"""


@pytest.mark.parametrize("closes", [True, False])
def test_children_end_with_command(closes: bool) -> None:
    """The whole process group is ended: when the source is closed, and when the command itself dies."""
    after = "signal.pause()" if closes else "import time; os.close(1); time.sleep(0.2); os._exit(0)"
    with Reader(Command(_python(_FAMILY.format(before="", after=after)), "probe")) as reader:
        reader.until(lambda: reader.data().endswith(b"\n"))
        child = int(reader.data())
        if not closes:
            _until_down(reader, 1)
            _until_gone(child)
    _until_gone(child)


def test_stubborn_command_is_killed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """After the grace it gets SIGKILL, and nothing is left of it."""
    monkeypatch.setattr("qemu_migration_exporter.sources.command._GRACE_S", 0.2)
    before = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with Reader(Command(_python(_FAMILY.format(before=before, after="signal.pause()")), "probe")) as reader:
        reader.until(lambda: reader.data().endswith(b"\n"))
        child = int(reader.data())
    assert "is killed" in caplog.text
    _until_gone(child)


def test_nothing_is_left_open() -> None:
    """Neither a descriptor nor a zombie remains of commands that came and went."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    with Reader(Command(["true"], "probe")) as reader:
        for times in range(1, 5):
            _until_down(reader, times)
            reader.tick(60)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
