"""What a daemon finds of itself when it starts again: its state, or a word why there is none."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.sources import Position

from tests.support.core_helpers import made, new_stream

MAGIC = b"qemu-migration-exporter state\n"


@pytest.fixture(name="kept")
def _kept(tmp_path: Path) -> Path:
    """Keep the state of a stream in the middle of a migration."""
    path = tmp_path / "state"
    stream = new_stream()
    stream.feed(made("9.2-auto-converge")[:2_000])
    checkpoint.save(path, {"guest.log": checkpoint.Checkpoint(Position(1, 2, 3), stream.snapshot())})
    return path


def test_what_was_kept_is_found_again(kept: Path) -> None:
    """Where the file was read to, and which migrations were open there."""
    remembered = checkpoint.load(kept, ErrorCounter())["guest.log"]

    assert Position(1, 2, 3) == remembered.position
    stream = new_stream()
    stream.restore(remembered.snapshot)
    assert 1 == len(stream.running())


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (MAGIC + pickle.dumps(("0.1.0", {})), "of another build, 0.1.0"),
        (MAGIC + pickle.dumps(("0.0.9+0123456789ab", {})), "of another build, 0.0.9+0123456789ab"),
        (MAGIC + pickle.dumps(("0.1.0", {}))[:-5], "is damaged"),
        (MAGIC + pickle.dumps("one thing"), "is damaged"),
        (MAGIC, "is damaged"),
        (MAGIC + pickle.dumps(Path("x")), "has no place in a state file"),
        (b"something else\n", "is none"),
        (b"", "is none"),
    ],
    ids=[
        "a release",
        "another build",
        "cut",
        "another shape",
        "empty",
        "of a foreign class",
        "another file",
        "nothing",
    ],
)
def test_what_is_no_state_of_this_build_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, word: str
) -> None:
    """With a word in the log, and counted; the daemon begins anew."""
    path, failures = tmp_path / "state", ErrorCounter()
    path.write_bytes(content)

    assert {} == checkpoint.load(path, failures)
    assert word in caplog.text
    assert 1 == failures.counts()[Component.STATE]


@pytest.mark.parametrize(
    "content",
    [
        lambda name: {name: checkpoint.Checkpoint(Position(1, 2, -1), new_stream().snapshot())},
        lambda name: {name: checkpoint.Checkpoint(Position("1", 2, 3), new_stream().snapshot())},  # type: ignore[arg-type]
        lambda name: {name: checkpoint.Checkpoint((1, 2, 3), new_stream().snapshot())},  # type: ignore[arg-type]
        lambda name: {name: Position(1, 2, 3)},
        lambda name: {1: checkpoint.Checkpoint(Position(1, 2, 3), new_stream().snapshot()), name: 5},
        lambda _: [1, 2, 3],
    ],
)
def test_a_state_of_another_form_is_ignored(tmp_path: Path, content: Callable[[str], Any]) -> None:
    """It is told and counted, whoever wrote it."""
    file, failures = tmp_path / "state", ErrorCounter()
    checkpoint.save(file, {})
    magic, written = file.read_bytes().split(b"\n", 1)
    build, _ = pickle.loads(written)  # noqa: S301 - it was written just now
    file.write_bytes(magic + b"\n" + pickle.dumps((build, content("/a.log"))))

    assert {} == checkpoint.load(file, failures)
    assert 1 == failures.counts()[Component.STATE]


def test_a_first_start_has_no_state_and_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is wrong."""
    failures = ErrorCounter()

    assert {} == checkpoint.load(tmp_path / "state", failures)
    assert "" == caplog.text
    assert 0 == failures.counts()[Component.STATE]


@pytest.mark.parametrize(
    "name",
    [
        "os\nsystem",
        "builtins\neval",
        "functools\npartial",
        "qemu_migration_exporter.core.parsing.vocabulary\npartial",
        "qemu_migration_exporter.core.qmp_parameters\njson",
        "qemu_migration_exporter.core.model\n__builtins__",
        "qemu_migration_exporter.core.model\n__loader__",
        "qemu_migration_exporter.core.tracking.trace_ids\ntrace_id",
        "qemu_migration_exporter.core.parsing.formats.qemu_log\ndatetime",
        "qemu_migration_exporter.sources.command\nCommand",
        "qemu_migration_exporter.checkpoint\nsave",
    ],
)
def test_a_state_that_somebody_else_made_calls_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """A pickle can name anything there is; here only the core's own classes, not what their modules hold beside them."""
    path = tmp_path / "state"
    path.write_bytes(MAGIC + f"c{name}\n(tR.".encode())

    assert checkpoint.load(path, ErrorCounter()) == {}
    assert "has no place in a state file" in caplog.text
