"""Streams of real situations: read like the plain log, or rejected by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter.cli import main

from tests.support.paths import DATA
from tests.support.qemu_binaries import write_qemu

STREAMS = DATA / "streams"
SYSTEMTAP = DATA / "systemtap"

Capture = pytest.CaptureFixture[str]


def replay(capsys: Capture, path: Path, *options: str) -> tuple[dict[str, Any], str]:
    """Replay a file; return the report and the messages."""
    assert main(["replay", str(path), "--report=json", *options]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err


def numbers(migration: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers that must be those of the same run's log."""
    keys = (
        "result",
        "duration_seconds",
        "setup_seconds",
        "downtime_seconds",
        "bitmap_syncs",
        "transferred_bytes",
        "rounds",
    )
    return {key: migration[key] for key in keys}


@pytest.mark.parametrize(
    "name", ["A09-ftrace-tracecmd.txt", "A13-virt-launcher-json.log", "A14-journald.log", "A22-dockercompose.log"]
)
def test_enveloped_log_reads_as_plain(capsys: Capture, name: str) -> None:
    plain, _ = replay(capsys, STREAMS / "A09-plain-reference.log")
    report, messages = replay(capsys, STREAMS / name)
    assert json.dumps(numbers(report["migrations"][0])) == json.dumps(numbers(plain["migrations"][0]))
    assert (report["streams"][0]["events"], report["streams"][0]["malformed"], messages) == (143, 0, "")


def test_lttng_is_read(capsys: Capture) -> None:
    report, messages = replay(capsys, STREAMS / "A08-lttng-babeltrace.txt")
    (migration,) = report["migrations"]
    assert (migration["result"], migration["duration_seconds"], migration["transferred_bytes"]) == (
        "completed",
        0.156,
        12_000_000,
    )
    assert messages == ""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("A09b-perf-script.txt", ("perf script", "probe bpftrace")),
        ("A16-bpftrace-oneliner.txt", ("bpftrace program", "probe bpftrace")),
        ("A23-libvirtd-debug.log", ("debug log of libvirtd", "/var/log/libvirt/qemu/")),
    ],
)
def test_foreign_output_is_named_with_cure(capsys: Capture, name: str, words: tuple[str, ...]) -> None:
    report, messages = replay(capsys, STREAMS / name)
    assert report["migrations"] == []
    assert all(word in messages for word in words)
    assert "probe log" not in messages  # its events are enabled


HEADER = """\
2026-09-21 14:40:00.120+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.22
/usr/bin/qemu-system-x86_64 \\
-name guest=web,debug-threads=on \\
{trace}-msg timestamp=on
char device redirected to /dev/pts/0 (label charserial0)
{end}"""


@pytest.mark.parametrize(
    ("trace", "end", "words"),
    [
        ("-trace events=/etc/qemu/migration.events \\\n", "", ()),
        ("-trace migrate_set_state \\\n-trace 'savevm_state_*' \\\n", "", ()),
        ("", "", ("no trace event of a migration in 5 lines; if one ran",)),
        (
            "",
            "2026-09-21 14:41:00.120+0000: initiating migration\n",
            ("a migration was started by libvirt", "probe log"),
        ),
        ("-trace migrate_set_state \\\n", "2026-09-21 14:41:00.120+0000: initiating migration\n", ()),
    ],
)
def test_silent_log_gives_no_wrong_hint(
    capsys: Capture, tmp_path: Path, trace: str, end: str, words: tuple[str, ...]
) -> None:
    """A fresh log, or that of an incoming VM: its events may be on without one so far."""
    log = tmp_path / "web.log"
    log.write_text(HEADER.format(trace=trace, end=end))
    _, messages = replay(capsys, log)
    assert all(word in messages for word in words)
    assert words or not messages


# SystemTap 4.8, beside QEMU's own log of the same run


@pytest.fixture(name="qemu")
def make_qemu(tmp_path: Path) -> Path:
    """Return the traced QEMU, as far as its notes go."""
    return write_qemu(tmp_path / "qemu-kvm", (SYSTEMTAP / "stuckb.marks.txt").read_text().splitlines())


@pytest.mark.parametrize("kind", ["hand-pp", "hand-pn-ownkeys", "hand-clock-vars"])
def test_systemtap_agrees_with_log(capsys: Capture, qemu: Path, kind: str) -> None:
    truth, _ = replay(capsys, SYSTEMTAP / "stuckb-qemulog.log.gz")
    report, messages = replay(capsys, SYSTEMTAP / f"stuckb-{kind}.log.gz", f"--qemu={qemu}")
    (migration,), (expected,) = report["migrations"], truth["migrations"]

    assert messages == ""
    assert report["streams"][0]["malformed"] == 0
    for key in ("result", "mode", "bitmap_syncs", "iterations", "transferred_bytes"):
        assert migration[key] == expected[key], key
    assert [stall["reason"] for stall in migration["stalls"]] == [stall["reason"] for stall in expected["stalls"]]
    assert len(migration["rounds"]) == len(expected["rounds"])
    if report["streams"][0]["clock"] == "probe":
        assert migration["downtime_seconds"] == pytest.approx(expected["downtime_seconds"], abs=0.01)
        assert migration["setup_seconds"] == pytest.approx(expected["setup_seconds"], abs=0.01)


def test_systemtap_name_and_printf_are_one(capsys: Capture) -> None:
    """`$$name` of every mark beside a printf with the arguments of some."""
    truth, _ = replay(capsys, SYSTEMTAP / "idle2-qemulog.log.gz")
    report, messages = replay(capsys, SYSTEMTAP / "idle2-hand-name.log.gz")
    (migration,), (expected,) = report["migrations"], truth["migrations"]
    assert (messages, report["streams"][0]["malformed"]) == ("", 0)
    for key in ("result", "bitmap_syncs", "iterations", "transferred_bytes"):
        assert migration[key] == expected[key], key


def test_refused_connection_is_failure(capsys: Capture) -> None:
    """`qmp_migrate` and the mark of the error are the only evidence: pn() prints no state and no text."""
    report, messages = replay(capsys, SYSTEMTAP / "refused-hand-pn.log.gz")
    (migration,) = report["migrations"]
    assert (migration["result"], migration["side"], messages) == ("failed", "source", "")


@pytest.mark.parametrize("wrap", ["{}", 'process("/usr/libexec/qemu-kvm").mark("{}")'])
def test_postcopy_is_known_by_commands(capsys: Capture, tmp_path: Path, wrap: str) -> None:
    """A script whose marks have no state and no ping's value: the switchover ends where the guest is told to run."""
    log = tmp_path / "web.log"
    names = [
        "savevm_state_header", "savevm_state_setup", "migration_thread_setup_complete", "savevm_state_iterate",
        "savevm_send_postcopy_listen", "savevm_send_postcopy_run", "savevm_state_iterate", "migration_thread_after_loop",
    ]  # fmt: skip
    first = "1790001200000000 qemu-kvm(382) migrate_transferred transferred=12 time_spent=100"
    lines = [first, *(f"17900012{at:02}000000 qemu-kvm(382) {wrap.format(name)}" for at, name in enumerate(names))]
    log.write_text("\n".join(lines) + "\n")
    report, _ = replay(capsys, log)
    assert [migration["mode"] for migration in report["migrations"]][-1] == "postcopy"
    assert [migration["downtime_seconds"] for migration in report["migrations"]][-1] == 1.0


@pytest.mark.parametrize("kind", ["hand-pp", "hand-clock-vars"])
def test_bare_addresses_are_explained(capsys: Capture, kind: str) -> None:
    _, messages = replay(capsys, SYSTEMTAP / f"stuckb-{kind}.log.gz")
    assert "--qemu=BINARY" in messages
    assert "$$name" in messages


def test_binary_without_marks_is_problem(capsys: Capture, tmp_path: Path) -> None:
    status = main(["replay", str(SYSTEMTAP / "stuckb-hand-pp.log.gz"), "--report=none", f"--qemu={tmp_path}/none"])
    assert (status, "No such file" in capsys.readouterr().err) == (1, True)


def test_unknown_keys_are_configurable(capsys: Capture, tmp_path: Path) -> None:
    log, config = tmp_path / "web.log", tmp_path / "exporter.yml"
    text = gzip.decompress((SYSTEMTAP / "stuckb-hand-pn-ownkeys.log.gz").read_bytes())
    log.write_bytes(text.replace(b"bytes:", b"n:").replace(b"time_ms:", b"took:"))
    report, messages = replay(capsys, log)
    assert report["migrations"][0]["transferred_bytes"] is None
    assert "migrate_transferred n, migrate_transferred took" in messages

    config.write_text("argument_names: {migrate_transferred: {n: transferred, took: time_spent}}\n")
    report, messages = replay(capsys, log, f"--config.file={config}")
    assert (report["migrations"][0]["transferred_bytes"], messages) == (82_094_867, "")
