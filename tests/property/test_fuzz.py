"""Tests of the fuzzer's targets: inputs found before, its seeds, and a short run; `make fuzz` runs it for longer."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS
from tests.support.core_helpers import log_lines
from tests.support.paths import ROOT

#: Inputs that broke a rule once; see each line's own test for what it was.
_FOUND: list[tuple[str, bytes]] = [
    # A mark of SystemTap that nobody asks for tells the format and is noise: the rule was wrong.
    ("formats", b'\x07process("/usr/libexec/qemu-kvm").mark("savevm_state_headex")'),
    # The surprise of a last line without a newline was counted twice; tests/unit/tracking/test_stream.py.
    (
        "machine",
        b"\x07\x0c"
        + log_lines("migrate_set_state new state setup").encode()
        + b"4100@1600000000.000000:migration_thread_setup_complete ",
    ),
    # A stream had another clock after a restart, as a later line had shown times; tests/unit/tracking/test_snapshot.py.
    (
        "machine",
        (
            b"\xf7\x0ctorn migrate_set_state new state setup\n2023-11-14T22:13:20.001200Z migration_bitmap_sync_start\n"
            b"2023-11-14T22:13:20.102500Z migrate_transferred transferred 900 time_spent 100 bandwidth 9 max_size 30\n"
            b"2023-11-14T22:13:20.102600Z migration_tls_4T22:13:20.103000Z migration_bitmap_sync_end dirty_pages 9\n"
            b"2023-11-14T22:13:20.103100Z migrate_pending_exact exact pending size 9 (pre = 9 po"
        ),
    ),
    # A phase that began behind the state of a post-copy ended before its start; tests/unit/migration/test_postcopy.py.
    (
        "machine",
        b"\xf7\x0c"
        + log_lines(
            "T migrate_set_state new state 1\n+5 T migrate_set_state new state 5\nT savevm_state_iterate \n"
            "+44 T migrate_set_state new state 6"
        ).encode(),
    ),
]


@pytest.mark.parametrize(("target", "data"), _FOUND)
def test_earlier_findings_break_no_rule(target: str, data: bytes) -> None:
    TARGETS[target](data)


def test_seeds_cover_all_events(tmp_path: Path) -> None:
    """No seed breaks a rule."""
    words = seeds.write("formats", tmp_path).read_text()

    assert len(list((tmp_path / "seeds").iterdir())) > 100
    assert '"{}"'.format("".join(f"\\x{byte:02x}" for byte in b"migrate_set_state")) in words
    for seed in seeds.corpus():
        TARGETS["formats"](b"\0" + seed)


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="there is no atheris for this Python")
@pytest.mark.parametrize(("target", "runs"), [("formats", 1_000), ("machine", 250)])
def test_short_run_finds_nothing(tmp_path: Path, target: str, runs: int) -> None:
    """The inputs are the same each time: the seeds, and those that coverage derives from them."""
    command = [sys.executable, "-m", "tests.fuzz", target, f"--runs={runs}", f"--keep={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stderr[-5_000:]
    executed = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    assert executed is not None
    assert int(executed[1]) >= runs
    # Coverage is of the program itself: the instrumentation is in place.
    edges = [int(each) for each in re.findall(r"cov: (\d+)", done.stderr)]
    assert edges[-1] > 200
