"""State file: read back by any release of its schema version and any Python, and harmless whatever is in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.checkpoint_data import Checkpoint, StreamCheckpoint
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.sources import Position
from qemu_migration_exporter.tracing.export.sender import SpanBatch

from tests.support.core_helpers import made, new_stream
from tests.support.paths import DATA, ROOT

LOG = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes()
PROBE = (DATA / "qemu-7.2-bpftrace-nonconverging.log").read_bytes()

#: Written by the first release with this schema, in the middle of two migrations.
GOLDEN = DATA / "checkpoints" / "version-1.jsonl"

POSITION = Position(1, 2, 3, 4)


def _save(path: Path, **streams: Stream) -> None:
    lines = [
        checkpoint.encode_stream(name, StreamCheckpoint(position=POSITION, state=stream.snapshot()))
        for name, stream in streams.items()
    ]
    checkpoint.save(path, checkpoint.encode(lines, ["/l/*.log"], [SpanBatch(b"\x00\xff", 7)], saved_ns=5))


def _halfway(data: bytes) -> Stream:
    stream = new_stream()
    stream.feed(data[: len(data) // 2])
    return stream


@pytest.mark.parametrize("data", [LOG, PROBE, made("9.2-auto-converge")], ids=["log", "probe", "made"])
def test_restored_stream_continues(tmp_path: Path, data: bytes) -> None:
    first, second = _halfway(data), new_stream()
    _save(tmp_path / "state", log=first)

    loaded = checkpoint.load(tmp_path / "state", ErrorCounter())

    assert (loaded.saved_ns, loaded.sources) == (5, frozenset({"/l/*.log"}))
    assert loaded.spans == (SpanBatch(b"\x00\xff", 7),)
    assert loaded.streams["log"].position == POSITION
    second.restore(loaded.streams["log"].state)
    rest = data[len(data) // 2 :]
    assert second.feed(rest) + second.close() == first.feed(rest) + first.close()


@pytest.mark.parametrize("cut", range(0, 4_000, 97))
def test_every_partial_migration_is_kept(tmp_path: Path, cut: int) -> None:
    """Changes that are withheld until the side is known are of many types."""
    first, second = new_stream(), new_stream()
    first.feed(LOG[:cut])
    _save(tmp_path / "state", log=first)

    second.restore(checkpoint.load(tmp_path / "state", ErrorCounter()).streams["log"].state)

    assert second.feed(LOG[cut:]) == first.feed(LOG[cut:])


def test_name_that_is_no_utf8_is_kept(tmp_path: Path) -> None:
    name = os.fsdecode(b"/l/\xff.log")
    _save(tmp_path / "state", **{name: new_stream()})

    assert list(checkpoint.load(tmp_path / "state", ErrorCounter()).streams) == [name]


def test_first_start_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    failures = ErrorCounter()

    assert checkpoint.load(tmp_path / "state", failures) == Checkpoint()
    assert (caplog.text, failures.counts()[Component.STATE]) == ("", 0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a state file"),
        (b"something else\n", "not a state file"),
        (b"[1]\n", "not a state file"),
        (b"qemu-migration-exporter state\n\x80\x05\x95", "not a state file"),
        (b"[" * 100_000, "not a state file"),
        (b'{"version":"1"}\n', "not a state file"),
        (b'{"version":0}\n', "schema version 0 of release '', expected 1 to 1"),
        (b'{"version":2,"exporter":"9.0.0"}\n', "schema version 2 of release '9.0.0', expected 1 to 1"),
        (b" " * (checkpoint.MAX_BYTES + 1), "larger than"),
    ],
    ids=range(9),
)
def test_unusable_file_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes, reason: str
) -> None:
    (tmp_path / "state").write_bytes(content)
    failures = ErrorCounter()

    assert checkpoint.load(tmp_path / "state", failures) == Checkpoint()
    assert f"ignoring state file {tmp_path}/state: {reason}" in caplog.text
    assert failures.counts()[Component.STATE] == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: None,
        lambda line: {**line, "position": [1, 2, -1, 0]},
        lambda line: {**line, "position": ["1", 2, 3, 4]},
        lambda line: {**line, "position": None},
        lambda line: {"position": line["position"]},
        lambda line: {**line, "name": 5},
        lambda line: {**line, "state": {**line["state"], "tail": "not base64!"}},
        lambda line: {**line, "state": {**line["state"], "processes": [{"process": None}]}},
        lambda line: {**line, "state": {**line["state"], "releases": [[1]]}},
    ],
    ids=range(9),
)
def test_damaged_line_costs_one_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[dict[str, Any]], object]
) -> None:
    path, failures = tmp_path / "state", ErrorCounter()
    _save(path, bad=_halfway(LOG), good=_halfway(LOG))
    header, bad, good, batch = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([header, json.dumps(damage(json.loads(bad))).encode(), good, batch, b""]))

    loaded = checkpoint.load(path, failures)

    assert (list(loaded.streams), len(loaded.spans)) == (["good"], 1)
    assert f"state file {path}: line 2 ignored: " in caplog.text
    assert failures.counts()[Component.STATE] == 1


def test_cut_file_keeps_whole_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path, failures = tmp_path / "state", ErrorCounter()
    _save(path, first=_halfway(LOG), second=_halfway(LOG))
    path.write_bytes(path.read_bytes()[: 3 * path.stat().st_size // 4])

    assert list(checkpoint.load(path, failures).streams) == ["first"]
    assert failures.counts()[Component.STATE] >= 1
    assert f"state file {path} is cut: 2 of 3 lines" in caplog.text


def test_unknown_and_missing_fields_are_fine(tmp_path: Path) -> None:
    """As a newer and an older release of the same schema write them."""
    path = tmp_path / "state"
    stream = _halfway(LOG)
    _save(path, log=stream)
    header, line, batch = map(json.loads, path.read_bytes().splitlines())
    machine = line["state"]["processes"][0]["tracker"]["machine"]
    header["new"] = line["new"] = line["state"]["new"] = machine["new"] = {"x": [1]}
    del header["sources"], machine["postcopy_requests"], line["state"]["processes"][0]["tracker"]["ordinal"]
    path.write_text("\n".join(map(json.dumps, (header, line, batch))))

    loaded = checkpoint.load(path, ErrorCounter())

    kept = loaded.streams["log"].state.processes[0].tracker
    assert (loaded.sources, kept.ordinal) == (frozenset(), 0)
    assert kept.machine == stream.snapshot().processes[0].tracker.machine


def test_older_schema_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    _save(path, log=_halfway(LOG))
    path.write_bytes(path.read_bytes().replace(b'"name":"log"', b'"file":"log"'))
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {1: lambda line: {**line, "name": line["file"]}})

    assert list(checkpoint.load(path, ErrorCounter()).streams) == ["log"]


def test_golden_file_of_version_1_is_read(request: pytest.FixtureRequest) -> None:
    """State on users' hosts survives an update of the program: once released, this file is never renewed."""
    if request.config.getoption("--update-golden"):
        lines = [
            checkpoint.encode_stream(n, StreamCheckpoint(position=POSITION, state=_halfway(d).snapshot()))
            for n, d in (("log", LOG), ("probe", PROBE))
        ]
        sources = ["/var/log/libvirt/qemu/*.log"]
        GOLDEN.write_bytes(b"\n".join(checkpoint.encode(lines, sources, saved_ns=1_764_270_000_000_000_000)))
    failures = ErrorCounter()

    loaded = checkpoint.load(GOLDEN, failures)

    assert failures.counts()[Component.STATE] == 0
    for name, data in (("log", LOG), ("probe", PROBE)):
        stream, whole = new_stream(), _halfway(data)
        stream.restore(loaded.streams[name].state)
        rest = data[len(data) // 2 :]
        assert [type(change) for change in stream.feed(rest)] == [type(change) for change in whole.feed(rest)]
        assert [migration.identity for migration in stream.running()] == [m.identity for m in whole.running()]


def test_oversized_file_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_BYTES", 100)

    with pytest.raises(OSError, match="at most 100 are read back"):
        checkpoint.encode([b"x" * 100])


_OTHER = """
import sys
from pathlib import Path
from qemu_migration_exporter import checkpoint
from qemu_migration_exporter.ops.errors import ErrorCounter
loaded = checkpoint.load(Path(sys.argv[1]), ErrorCounter())
lines = [checkpoint.encode_stream(name, each) for name, each in loaded.streams.items()]
checkpoint.save(Path(sys.argv[2]), checkpoint.encode(lines, sorted(loaded.sources), loaded.spans, saved_ns=loaded.saved_ns))
"""


@pytest.mark.parametrize("python", [*filter(None, os.environ.get("OTHER_PYTHONS", "").split(":")), sys.executable])
def test_other_pythons_share_the_file(tmp_path: Path, python: str) -> None:
    """Enumerations, for one, pickled differently in 3.11.2 and 3.11.7: an update of Python lost every state."""
    _save(tmp_path / "ours", log=_halfway(LOG), probe=_halfway(PROBE))

    arguments = [python, "-c", _OTHER, str(tmp_path / "ours"), str(tmp_path / "theirs")]
    subprocess.run(arguments, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "exporter")})

    assert (tmp_path / "theirs").read_bytes() == (tmp_path / "ours").read_bytes()
