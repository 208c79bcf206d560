"""Outputs: devices and FIFOs are written in place, regular files are replaced whole, planted links are not followed."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.ops.outputs import replace_file, write_output

from tests.support.paths import DATA
from tests.support.patience import patience

RECORDING = DATA / "qemu-7.2-log-idle.log"


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_regular_output_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "metrics.prom"
    out.write_bytes(b"old, and longer")
    before = out.stat().st_ino

    write_output(str(out), b"new")

    assert (out.read_bytes(), out.stat().st_ino != before) == (b"new", True)
    assert _names(tmp_path) == ["metrics.prom"]


def test_link_to_file_stays_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")

    write_output(str(tmp_path / "link"), b"new")

    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_fifo_is_written_in_place(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(fifo.read_bytes()))
    reader.start()

    write_output(str(fifo), b"new")

    reader.join(timeout=patience(10))
    assert (received, fifo.is_fifo()) == ([b"new"], True)


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
def test_device_is_never_replaced(device: str) -> None:
    """Run as root, a rename would replace the device for the whole machine."""
    status = main(["replay", str(RECORDING), "--report=none", f"--metrics.out={device}"])

    assert stat.S_ISCHR(Path(device).stat().st_mode)
    assert status == (1 if device == "/dev/full" else 0)


@pytest.mark.parametrize("flag", ["--metrics.out", "--spans.out"])
@pytest.mark.parametrize("out", ["-", "/dev/stdout"])
def test_standard_output_is_output(tmp_path: Path, flag: str, out: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "qemu_migration_exporter", "replay", RECORDING, "--report=none", f"{flag}={out}"],
        capture_output=True,
        check=True,
        cwd=tmp_path,
    )

    assert result.stdout.startswith(b"# HELP " if flag == "--metrics.out" else b'{"resourceSpans":')
    assert _names(tmp_path) == []


def test_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "state.tmp").symlink_to(victim)

    replace_file(tmp_path / "state", b"new", sync=True)

    assert victim.read_bytes() == b"precious"
    assert _names(tmp_path) == ["state", "victim"]


def test_failed_replacement_keeps_old_file(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()

    with pytest.raises(IsADirectoryError):
        replace_file(tmp_path / "state", b"new")

    assert _names(tmp_path) == ["state"]
