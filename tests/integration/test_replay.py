"""`replay`, as an operator uses it: arguments in; report, files and exit status out."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import qemu_migration_exporter
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.core.changes import Stalled
from qemu_migration_exporter.core.tracking.stream import Stream

from tests.support.paths import DATA
from tests.support.receiver import Receiver, receiving
from tests.support.recordings import RECORDINGS, Recording

IDLE = DATA / "qemu-7.2-log-idle.log"
NONCONVERGING = DATA / "qemu-7.2-log-nonconverging.log"
SYSTEMTAP = DATA / "qemu-kvm-2.6-systemtap.log"

Capture = pytest.CaptureFixture[str]


def _report(capsys: Capture, *arguments: str | Path) -> dict[str, list[dict[str, object]]]:
    assert main(["replay", *map(str, arguments), "--report=json"]) == 0
    report: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)
    return report


def test_text_report_begins_with_verdict(capsys: Capture) -> None:
    """The first words on standard output are the answer; logs and complaints are elsewhere."""
    assert main(["replay", str(NONCONVERGING)]) == 0

    assert capsys.readouterr().out.startswith("qemu-7.2-log-nonconverging completed in 12.3 s")


def test_json_report_has_documented_keys(capsys: Capture) -> None:
    """Scripts rely on every key being there, null where the stream has no value."""
    report = _report(capsys, SYSTEMTAP, "--start-time=2026-01-01T00:00:00Z")

    (migration,) = report["migrations"]
    assert list(report) == ["streams", "migrations"]
    assert report["streams"] == [
        {
            "name": str(SYSTEMTAP),
            "format": "systemtap",
            "clock": "reconstructed",
            "lines": 345,
            "events": 341,
            "noise": 3,
            "malformed": 1,
            "surprises": 0,
        }
    ]
    assert list(migration) == [
        "vm", "uuid", "trace_id", "side", "kind", "stream", "result", "result_inferred", "partial", "error",
        "guest_lost", "mode", "state", "wait", "clock", "start_time", "duration_seconds", "setup_seconds",
        "downtime_seconds", "downtime_is_partial", "blackout_seconds", "pauses", "downtime_parts", "bitmap_syncs", "dirty_sync_count",
        "iterations", "transferred_bytes", "transferred_is_partial", "ram_bytes", "downtime_limit_seconds",
        "throttles", "throttle_ratio", "postcopy_requests", "rounds", "phases", "devices", "stalls", "verdict",
    ]  # fmt: skip
    assert migration["start_time"] == "2026-01-01T00:00:00.000000Z"


def test_untimed_recording_starts_at_mtime(capsys: Capture, tmp_path: Path) -> None:
    """Unless --start-time is given; the trace id depends on neither."""
    copy = tmp_path / SYSTEMTAP.name
    copy.write_bytes(SYSTEMTAP.read_bytes())

    (by_file,) = _report(capsys, copy)["migrations"]
    (by_flag,) = _report(capsys, copy, "--start-time=2001-02-03T04:05:06+01:00")["migrations"]

    assert by_file["start_time"] != by_flag["start_time"] == "2001-02-03T03:05:06.000000Z"
    assert by_file["trace_id"] == by_flag["trace_id"]


def test_recordings_make_one_report(capsys: Capture) -> None:
    """Two attempts in two files are two migrations, in the order given."""
    report = _report(capsys, DATA / "qemu-7.2-log-cancelled.log", IDLE)

    assert [migration["result"] for migration in report["migrations"]] == ["cancelled", "completed"]


def test_two_attempts_are_two_migrations(capsys: Capture, tmp_path: Path) -> None:
    """A log spans attempts: the failed first and the completed second are separate."""
    log = tmp_path / "db-7.log"
    log.write_bytes((DATA / "qemu-7.2-log-destination-killed.log").read_bytes() + NONCONVERGING.read_bytes())

    report = _report(capsys, log)

    assert [(each["vm"], each["result"]) for each in report["migrations"]] == [
        ("db-7", "failed"),
        ("db-7", "completed"),
    ]
    assert len({str(each["trace_id"]) for each in report["migrations"]}) == 2


def test_equal_recording_names_differ(capsys: Capture, tmp_path: Path) -> None:
    """Two hosts' logs of web-42, replayed together, are not mixed into one."""
    for host in ("a", "b"):
        (tmp_path / host).mkdir()
        (tmp_path / host / "web-42.log").write_bytes(IDLE.read_bytes())

    report = _report(capsys, tmp_path / "a" / "web-42.log", tmp_path / "b" / "web-42.log")

    assert [migration["vm"] for migration in report["migrations"]] == ["web-42", "web-42#2"]
    assert [stream["surprises"] for stream in report["streams"]] == [0, 1]


@pytest.mark.parametrize(
    ("file", "vm"),
    [
        ("web-42.log", "web-42"),
        ("db.prod.log.gz", "db.prod"),
        ("qemu-7.2-log", "qemu-7.2-log"),
        ("trace.txt", "trace"),
        (".log", ".log"),
    ],
)
def test_vm_is_named_by_file(capsys: Capture, tmp_path: Path, file: str, vm: str) -> None:
    """Without directory and ending, as libvirt names its logs."""
    recording = tmp_path / file
    recording.write_bytes(gzip.compress(IDLE.read_bytes()) if file.endswith(".gz") else IDLE.read_bytes())

    assert _report(capsys, recording)["migrations"][0]["vm"] == vm


def test_vm_flag_overrides_name(capsys: Capture) -> None:
    """For a recording whose file is called after a ticket."""
    assert _report(capsys, IDLE, "--vm=web-42")["migrations"][0]["vm"] == "web-42"


def test_metrics_and_spans_go_to_files(tmp_path: Path) -> None:
    """For a textfile collector, and to attach to a ticket."""
    metrics, spans = tmp_path / "m.prom", tmp_path / "s.jsonl"

    status = main(["replay", str(IDLE), f"--metrics.out={metrics}", f"--spans.out={spans}", "--report=none"])

    assert status == 0
    assert 'qemu_migration_last_result{result="completed",vm="qemu-7.2-log-idle"} 1.0' in metrics.read_text()
    assert 'qemu_migration_exporter_spans_total{outcome="exported",reason=""} 40.0' in metrics.read_text()
    assert '"name":"migrate"' in spans.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.prom", "s.jsonl"]


def test_replay_is_reproducible(tmp_path: Path) -> None:
    """Report, metrics and spans are a function of the recording."""
    outputs = []
    for attempt in ("1", "2"):
        metrics, spans = tmp_path / f"{attempt}.prom", tmp_path / f"{attempt}.jsonl"
        main(["replay", str(NONCONVERGING), f"--metrics.out={metrics}", f"--spans.out={spans}", "--report=none"])
        outputs.append((metrics.read_bytes(), spans.read_bytes()))

    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda each: each.name)
def test_receiver_gets_recorded_spans(recording: Recording) -> None:
    """All of them, over OTLP/HTTP: a root for each migration, of which a probe that sees both ends has two."""
    migrations = 2 if "bpftrace" in recording.name else 1
    with receiving(Receiver()) as receiver:
        status = main(["replay", str(recording.path), f"--otlp.endpoint={receiver.url}", "--report=none"])

        assert status == 0
        assert [span.name for span in receiver.spans].count("migrate") == migrations


def test_undelivered_spans_fail_with_advice(capsys: Capture) -> None:
    """A receiver that refuses: the report is printed all the same."""
    with receiving(Receiver(lambda: 400)) as receiver:
        status = main(["replay", str(IDLE), f"--otlp.endpoint={receiver.url}"])

    captured = capsys.readouterr()
    assert status == 1
    assert captured.out.startswith("qemu-7.2-log-idle completed")
    assert "40 spans were not delivered; replaying again is harmless" in captured.err


_TIMED_EVENT = b"9313@1795387133.875916:migrate_set_state new state setup\n"


@pytest.mark.parametrize(
    ("content", "complaint", "malformed"),
    [
        (b"", "is empty", 0),
        (b"\n\n\n", "no trace event of a migration in 3 lines", 0),
        (bytes(range(256)) * 400, "no trace event of a migration", 0),
        (b"x" * 10_000_000, "no trace event of a migration in 1 lines", 0),
        (_TIMED_EVENT + b"9313@1795387133.9:" + b"y" * 10_000_000 + b"\n" + _TIMED_EVENT, "", 0),
        (_TIMED_EVENT + b"9313@1795387134.000000:migrate_pending " + b"z" * 10_000_000, "1 malformed lines", 1),
        (_TIMED_EVENT + b"9313@1795387134.000000:migrate_pend", "1 malformed lines", 1),
    ],
    ids=["empty", "blank lines", "binary", "10 MB without a newline", "10 MB of noise", "10 MB of an event", "cut"],
)
def test_bad_recordings_are_explained(
    capsys: Capture, tmp_path: Path, content: bytes, complaint: str, malformed: int
) -> None:
    """A message or a counted line; never a traceback, and the good lines count."""
    recording = tmp_path / "bad.log"
    recording.write_bytes(content)

    status = main(["replay", str(recording), "--report=json"])

    captured = capsys.readouterr()
    (stream,) = json.loads(captured.out)["streams"]
    assert status == 0
    assert complaint in captured.err
    assert stream["malformed"] == malformed
    assert stream["lines"] == stream["events"] + stream["noise"] + stream["malformed"]


@pytest.mark.parametrize("damage", ["cut", "corrupt"])
def test_damaged_gzip_is_read_to_damage(capsys: Capture, tmp_path: Path, damage: str) -> None:
    """The beginning of a recording is worth more than no recording; the damage is a counted surprise."""
    whole = gzip.compress(NONCONVERGING.read_bytes())
    recording = tmp_path / "db-7.log.gz"
    recording.write_bytes(whole[: len(whole) // 2] + (b"" if damage == "cut" else b"\0" * 100))

    status = main(["replay", str(recording), "--report=json"])

    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert status == 0
    assert "db-7.log.gz: compressed data is damaged, what comes after is lost" in captured.err
    assert report["streams"][0]["surprises"] == 1
    assert report["migrations"][0]["result"] == "unknown"


@pytest.mark.parametrize(
    ("name", "complaint"), [("missing.log", "No such file or directory"), (".", "is a directory; name the recordings")]
)
def test_unreadable_recording_spares_the_rest(capsys: Capture, tmp_path: Path, name: str, complaint: str) -> None:
    """One wrong name among several does not cost the others."""
    status = main(["replay", str(tmp_path / name), str(IDLE), "--report=json"])

    captured = capsys.readouterr()
    assert status == 1
    assert complaint in captured.err
    assert [migration["result"] for migration in json.loads(captured.out)["migrations"]] == ["completed"]


@pytest.mark.parametrize("content", [b"\0", b"m" * 99_999 + b"\n"], ids=["one line", "long lines"])
def test_decompression_bomb_takes_no_memory(tmp_path: Path, content: bytes) -> None:
    """Half a gigabyte in half a megabyte, read by a program that may have 150 MB of data."""
    bomb = tmp_path / "bomb.log.gz"
    bomb.write_bytes(gzip.compress(content * (4_000_000 // len(content))) * (125 if content == b"\0" else 40))
    command = [sys.executable, "-m", "qemu_migration_exporter", "replay", "--report=json", str(bomb)]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -d 150000 && exec "$@"', "sh", *command], capture_output=True, text=True, check=True
    )

    assert json.loads(done.stdout)["streams"][0]["events"] == 0


def test_unwritable_output_is_named(capsys: Capture, tmp_path: Path) -> None:
    for flag in ("--metrics.out", "--spans.out"):
        assert main(["replay", str(IDLE), f"{flag}={tmp_path}/no/such/file", "--report=none"]) == 1
        assert "no/such/file: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(("recording", "status"), [(SYSTEMTAP, 1), (IDLE, 0)])
def test_strict_fails_on_malformed_line(capsys: Capture, recording: Path, status: int) -> None:
    """For scripts; without it a torn line is only reported."""
    assert main(["replay", str(recording), "--strict", "--report=none"]) == status
    assert ("1 malformed lines, 0 surprises" in capsys.readouterr().err) == bool(status)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["replay"], "the following arguments are required: FILE"),
        ([], "the following arguments are required: COMMAND"),
        (["replay", "x", "--speed=0"], "expected a number above 0, got '0'"),
        (["replay", "x", "--speed=fast"], "expected a number above 0, got 'fast'"),
        (["replay", "x", "--start-time=noon"], "expected a time such as 2026-11-22T22:39:05Z, got 'noon'"),
        (["replay", "x", "--web.listen-address=9871"], "expected HOST:PORT such as 127.0.0.1:9871, got '9871'"),
        (["replay", "x", "--format=xml"], "invalid choice: 'xml'"),
        (["replay", "x", "--spee=2"], "unrecognized arguments: --spee=2"),
    ],
)
def test_usage_errors_exit_with_2(capsys: Capture, arguments: list[str], complaint: str) -> None:
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err


def test_taken_address_fails_before_replay(capsys: Capture) -> None:
    """The operator learns at once that nothing will be served."""
    with receiving(Receiver()) as taken:
        status = main(["replay", str(IDLE), f"--web.listen-address={taken.url.removeprefix('http://')}"])

    captured = capsys.readouterr()
    assert (status, captured.out) == (1, "")
    assert "Address already in use" in captured.err


def test_version_and_help_exit_with_0(capsys: Capture) -> None:
    """As everywhere."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"qemu-migration-exporter {qemu_migration_exporter.__version__}\n"
    assert main(["replay", "--help"]) == 0
    assert "--web.listen-address ADDR" in capsys.readouterr().out


def test_cut_recording_metrics_match_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In both the migration goes on at the end of the recording, stalled."""
    lines = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes().splitlines(keepends=True)
    stream, end = Stream("cut", vm="cut"), 0
    while not any(isinstance(change, Stalled) for change in stream.feed(lines[end])):
        end += 1
    (tmp_path / "cut.log").write_bytes(b"".join(lines[: end + 1]))

    assert main(["replay", str(tmp_path / "cut.log"), f"--metrics.out={tmp_path}/out"]) == 0

    assert capsys.readouterr().out.startswith("cut is stalled where the recording ends")
    metrics = (tmp_path / "out").read_text()
    assert 'qemu_migration_stalled{vm="cut"} 1.0' in metrics
    assert 'qemu_migration_active{vm="cut"} 1.0' in metrics
    assert 'qemu_migrations_finished_total{kind="live",result="unknown",side="source"} 0.0' in metrics
