"""`run` as a real process: files that grow and rotate, signals, restarts, and the output meanwhile."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.tracing.export.spool import Spool

from tests.support import web_helpers
from tests.support.daemon import running
from tests.support.paths import DATA
from tests.support.patience import patience
from tests.support.receiver import Receiver, receiving
from tests.support.recordings import as_of_now

NONCONVERGING = as_of_now((DATA / "qemu-7.2-log-nonconverging.log").read_bytes())
IDLE = as_of_now((DATA / "qemu-7.2-log-idle.log").read_bytes())


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as log:
        log.write(data)


def _spans(spans: list[Span]) -> dict[tuple[bytes, bytes], bytes]:
    """Spans by id, without the markers that only an interruption leaves."""
    return {
        (span.trace_id, span.span_id): span.SerializeToString(deterministic=True)
        for span in spans
        if span.name != "exporter.stopped"
    }


@pytest.fixture(name="undisturbed")
def _undisturbed(tmp_path: Path) -> dict[tuple[bytes, bytes], bytes]:
    """The spans of a replay of the recording that does not converge."""
    with receiving(Receiver()) as receiver:
        path = tmp_path / "undisturbed.recording"
        path.write_bytes(NONCONVERGING)
        assert main(["replay", str(path), "--vm=db-7", f"--otlp.endpoint={receiver.url}", "--report=none"]) == 0

        return _spans(receiver.spans)


def test_growing_log_is_followed(tmp_path: Path) -> None:
    """The numbers are there while the migration runs, and its result when it has ended."""
    log = tmp_path / "db-7.log"
    half = len(NONCONVERGING) // 2
    with running(tmp_path, f"--source={log}") as daemon:
        _append(log, NONCONVERGING[:half])
        daemon.wait_until(lambda: daemon.metric("qemu_migration_active", vm="db-7") == 1, "the migration is seen")
        daemon.wait_until(lambda: bool(daemon.migrations()), "the migration is listed")
        (migration,) = daemon.migrations()
        page = daemon.get("/")

        _append(log, NONCONVERGING[half:])
        daemon.wait_until(lambda: daemon.metric("qemu_migration_active", vm="db-7") == 0, "its end is seen")

        assert (migration["vm"], migration["result"], len(migration["rounds"])) == ("db-7", "unknown", 6)
        assert "db-7" in page
        assert daemon.metric("qemu_migration_bitmap_syncs_total", vm="db-7") == 18
        assert daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="source") == 1
        assert daemon.stop() == 0


def test_migration_ended_earlier_is_not_counted(tmp_path: Path) -> None:
    """A log holds yesterday's migrations too; the one that runs is picked up with its beginning."""
    log = tmp_path / "db-7.log"
    log.write_bytes(IDLE + NONCONVERGING[: len(NONCONVERGING) // 2])
    with running(tmp_path, f"--source={log}") as daemon:
        assert daemon.metric("qemu_migrations_started_total", side="source") == 1
        assert daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="source") == 0
        assert daemon.metric("qemu_migration_active", vm="db-7") == 1


def test_new_file_of_pattern_is_new_vm(tmp_path: Path) -> None:
    """libvirt makes a log when a machine is started."""
    with running(tmp_path, f"--source={tmp_path}/*.log") as daemon:
        _append(tmp_path / "web-1.log", IDLE)
        _append(tmp_path / "web-2.log", IDLE)

        daemon.wait_until(
            lambda: (
                {(each["vm"], each["result"]) for each in daemon.migrations()}
                == {("web-1", "completed"), ("web-2", "completed")}
            ),
            "both have ended",
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("rotations", [0, 1])
def test_restart_midway_loses_nothing(
    tmp_path: Path, undisturbed: dict[tuple[bytes, bytes], bytes], number: int, rotations: int
) -> None:
    """Stopped or killed, the log rotated meanwhile or not: the spans are those of a run that was not disturbed."""
    log, state, config = tmp_path / "db-7.log", tmp_path / "state", tmp_path / "exporter.yml"
    config.write_text("verdict: {no_throughput: 1h}\n")  # a pause of the test is no stall
    third = len(NONCONVERGING) // 3
    with receiving(Receiver()) as receiver:
        arguments = (
            f"--source={log}", f"--state.file={state}", f"--otlp.endpoint={receiver.url}", f"--config.file={config}",
        )  # fmt: skip
        with running(tmp_path, *arguments) as daemon:
            _append(log, NONCONVERGING[:third])
            daemon.wait_until(lambda: daemon.metric("qemu_migration_active", vm="db-7") == 1, "the migration is seen")
            if number == signal.SIGKILL:
                daemon.wait_until(state.exists, "the state is kept")
            daemon.stop(number)

        _append(log, NONCONVERGING[third : 2 * third])
        for _ in range(rotations):
            log.rename(f"{log}.0")
        _append(log, NONCONVERGING[2 * third :])
        with running(tmp_path, *arguments) as daemon:
            daemon.wait_until(
                lambda: (
                    daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="source") == 1
                ),
                "its end",
            )
            assert daemon.metric("qemu_migration_exporter_surprises_total", kind="bytes_lost", stream=str(log)) == 0
            assert daemon.metric("qemu_migrations_started_total", side="source") == 1  # the counter continues
            assert daemon.stop() == 0

        assert _spans(receiver.spans) == undisturbed
        assert ("exporter.stopped" in {span.name for span in receiver.spans}) == (number == signal.SIGTERM)


def test_unsent_spans_survive_kill(tmp_path: Path, undisturbed: dict[tuple[bytes, bytes], bytes]) -> None:
    """The state is saved while the receiver is away, and holds the spans that wait in memory."""
    log, other, state = tmp_path / "db-7.log", tmp_path / "web-42.log", tmp_path / "state"
    config = tmp_path / "exporter.yml"
    config.write_text("verdict: {no_throughput: 1h}\n")  # a pause of the test is no stall
    with receiving(Receiver()) as receiver:
        arguments = (
            f"--source={tmp_path}/*.log", f"--state.file={state}", f"--otlp.endpoint={receiver.url}", f"--config.file={config}",
        )  # fmt: skip
        log.touch()
        with running(tmp_path, *arguments) as daemon:
            _append(log, b"a line of another kind\n")
            _append(other, IDLE)
            daemon.wait_until(lambda: "migrate" in receiver.names and state.exists(), "the state is kept")

            receiver.answer = lambda: 503
            _append(log, NONCONVERGING[: len(NONCONVERGING) // 2])
            daemon.wait_until(lambda: b'"trace_id"' in state.read_bytes(), "the migration is in the state", 8)
            assert len(state.read_bytes().splitlines()) > 3  # the header, two streams and spans
            daemon.stop(signal.SIGKILL)

        receiver.answer = lambda: 200
        receiver.spans.clear()
        _append(log, NONCONVERGING[len(NONCONVERGING) // 2 :])
        with running(tmp_path, *arguments) as daemon:
            daemon.wait_until(lambda: "migrate" in receiver.names, "the trace is whole")
            assert daemon.stop() == 0

        assert _spans(receiver.spans) == undisturbed


@pytest.mark.parametrize(
    ("spooled", "synced", "time"), [(False, "state.tmp", 2), (True, "spool", 1), (True, "state.tmp", 2)]
)
def test_kill_during_commit_loses_nothing(
    tmp_path: Path, undisturbed: dict[tuple[bytes, bytes], bytes], *, spooled: bool, synced: str, time: int
) -> None:
    """The spool's file and directory are synced, then the state; no span is sent before."""
    log, config = tmp_path / "db-7.log", tmp_path / "exporter.yml"
    spool = f"spans: {{spool_directory: {tmp_path}/spool}}\n" if spooled else ""
    config.write_text(f"verdict: {{no_throughput: 1h}}\n{spool}")
    traced = ("-P", f"{tmp_path}/{synced}", "-e", "trace=fsync", "-e", f"inject=fsync:signal=KILL:when={time}")
    with receiving(Receiver()) as receiver:
        arguments = (
            f"--source={tmp_path}/*.log", f"--state.file={tmp_path}/state", f"--otlp.endpoint={receiver.url}",
            f"--config.file={config}",
        )  # fmt: skip
        with running(tmp_path, *arguments, under=("strace", "-f", "-qq", "-o", "/dev/null", *traced)) as daemon:
            _append(log, NONCONVERGING)
            daemon.process.wait(timeout=patience(30))
            assert receiver.spans == []

        with running(tmp_path, *arguments) as daemon:
            daemon.wait_until(lambda: "migrate" in receiver.names, "the trace is whole")
            assert daemon.stop() == 0

        assert _spans(receiver.spans) == undisturbed
        copies = [span for span in receiver.spans if span.name != "exporter.stopped"]
        assert len(copies) <= len(undisturbed) * (1 + spooled)


def test_log_made_before_kill_is_counted(tmp_path: Path, undisturbed: dict[tuple[bytes, bytes], bytes]) -> None:
    """On a destination host the log always appears with the migration: it cannot be in the state yet."""
    state, old = tmp_path / "state", tmp_path / "old.log"
    old.write_bytes(IDLE)
    with receiving(Receiver()) as receiver:
        arguments = (f"--source={tmp_path}/*.log", f"--state.file={state}", f"--otlp.endpoint={receiver.url}")
        with running(tmp_path, *arguments) as daemon:
            daemon.wait_until(lambda: b"old.log" in state.read_bytes() if state.exists() else False, "the first state")
            daemon.stop(signal.SIGKILL)

        saved_ns = json.loads(state.read_bytes().splitlines()[0])["saved_ns"]
        web_helpers.wait_for(lambda: int(time.time()) * 1_000_000_000 > saved_ns, 5)  # lines are dated after the state
        _append(tmp_path / "db-7.log", as_of_now(NONCONVERGING))
        old.write_bytes(IDLE + b"a line of another kind\n")
        with running(tmp_path, *arguments) as daemon:
            finished = "qemu_migrations_finished_total"
            daemon.wait_until(
                lambda: daemon.metric(finished, kind="live", result="completed", side="source") == 1, "its end"
            )
            assert daemon.stop() == 0

        assert len(_spans(receiver.spans)) == len(undisturbed)


def test_foreign_state_is_ignored_and_logged(tmp_path: Path) -> None:
    """A pickle would run a command."""
    state = tmp_path / "state"
    state.write_bytes(b"qemu-migration-exporter state\ncos\nsystem\n(S'touch /tmp/owned'\ntR.")
    with running(tmp_path, f"--source={tmp_path}/db-7.log", f"--state.file={state}") as daemon:
        assert f"ignoring state file {state}: not a state file" in daemon.log


def test_hung_receiver_delays_no_stream(tmp_path: Path) -> None:
    """Spans wait in their queue; the metrics do not."""
    log = tmp_path / "web-42.log"
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running(tmp_path, f"--source={log}", f"--otlp.endpoint=http://127.0.0.1:{silent.getsockname()[1]}") as daemon,
    ):
        _append(log, IDLE)
        daemon.wait_until(
            lambda: daemon.metric("qemu_migration_last_result", result="completed", vm="web-42") == 1, "the end"
        )
        assert daemon.stop() == 0


def test_broken_reload_keeps_old_config(tmp_path: Path) -> None:
    """SIGHUP reloads; a gauge and the log show the result."""
    config = tmp_path / "exporter.yml"
    gauge = "qemu_migration_exporter_config_last_reload_successful"
    config.write_text(f"sources:\n  - file: {tmp_path}/a.log\n")
    with running(tmp_path, f"--config.file={config}") as daemon:
        config.write_text("sources:\n  - colour: red\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: daemon.metric(gauge) == 0, "the bad one is refused")
        _append(tmp_path / "a.log", IDLE)
        daemon.wait_until(lambda: daemon.metric("qemu_migration_active", vm="a") == 0, "the old one is in force")

        _append(tmp_path / "b.log", IDLE)
        config.write_text(f"sources:\n  - file: {tmp_path}/b.log\n    vm: beta\n")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: daemon.log.count("msg=ready") == 2, "the good one is taken")
        assert daemon.metric(gauge) == 1
        _append(tmp_path / "b.log", IDLE)
        daemon.wait_until(lambda: daemon.metric("qemu_migration_active", vm="beta") == 0, "the new source is read")
        # Earlier contents are not counted: one migration of a.log, one of b.log.
        assert daemon.metric("qemu_migrations_started_total", side="source") == 2

        assert "sources.0.colour: unknown key" in daemon.log


def test_reload_names_restart_keys(tmp_path: Path) -> None:
    config = tmp_path / "exporter.yml"
    config.write_text(f"sources: [{{file: {tmp_path}/a.log}}]\n")
    with running(tmp_path, f"--config.file={config}") as daemon:
        config.write_text(
            f"sources: [{{file: {tmp_path}/a.log}}]\nweb: {{trace_url: 'http://j/{{trace_id}}'}}\n"
            "metrics: {retention: 1h, max_vms: 5}\n"
        )
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_until(lambda: 'msg="config reloaded"' in daemon.log, "the reload")

        assert 'msg="config change needs a restart" keys="metrics.max_vms, web.trace_url"' in daemon.log


def test_daemon_without_logs_names_missing(tmp_path: Path) -> None:
    """A fresh installation is no use until there is a log: that it runs is not enough."""
    (tmp_path / "empty").mkdir()
    with running(tmp_path, f"--source={tmp_path}/none/*.log", f"--source={tmp_path}/empty/*.log") as daemon:
        daemon.wait_until(lambda: "no state file" in daemon.log, "the last warning")

        missing = f'level=warning logger=qemu_migration_exporter.daemon msg="source has no file yet" source={tmp_path}'
        assert f'{missing}/empty/*.log reason="{tmp_path}/empty is empty"' in daemon.log
        assert f"{tmp_path}/none" in daemon.log  # a stream that is down


def test_http_reload_answers_with_mistake(tmp_path: Path) -> None:
    """As blackbox_exporter does: a script that reloads sees the broken configuration in the answer."""
    config = tmp_path / "exporter.yml"
    valid = f"sources:\n  - file: {tmp_path}/a.log\nweb: {{enable_reload: true}}\n"
    config.write_text(valid)
    with running(tmp_path, f"--config.file={config}") as daemon:
        answers = []
        for text in (valid, "sources:\n  - colour: red\n", f"sources: [{{file: {tmp_path}/*/a.log}}]\n", valid):
            config.write_text(text)
            answers.append(daemon.post("/-/reload"))

    assert [status for status, _ in answers] == [200, 500, 500, 200]
    assert f"{config}:2: sources.0.colour: unknown key" in answers[1][1]
    assert f"{tmp_path}/*/a.log" in answers[2][1]


def test_eventless_log_is_reported_once(tmp_path: Path) -> None:
    """If tracing is not enabled, the log names the remedy, once."""
    log = tmp_path / "db-7.log"
    log.write_text("2026-11-22 22:39:13.120+0000: starting up libvirt version: 9.0.0\nchar device redirected\n")
    with running(tmp_path, f"--source={log}") as daemon:
        said = "no trace event of a migration in 2 lines"
        daemon.wait_until(lambda: said in daemon.log, "it is said")
        _append(log, b"another line\n")
        stream = {"outcome": "noise", "stream": str(log)}
        daemon.wait_until(lambda: daemon.metric("qemu_migration_exporter_lines_total", **stream) == 2, "it is read")

        assert daemon.log.count("no trace event of a migration") == 1


def test_stateless_stop_sends_open_spans(tmp_path: Path) -> None:
    """No later run resumes the migration, so its trace is closed and marked."""
    log = tmp_path / "db-7.log"
    with receiving(Receiver()) as receiver:
        with running(tmp_path, f"--source={log}", f"--otlp.endpoint={receiver.url}") as daemon:
            _append(log, NONCONVERGING[: len(NONCONVERGING) // 2])
            daemon.wait_until(lambda: daemon.metric("qemu_migration_active", vm="db-7") == 1, "the migration is seen")
            assert daemon.stop() == 0

        names = [span.name for span in receiver.spans]
        assert (names[-1], "exporter.stopped" in names) == ("migrate", False)


def test_fifo_and_socket_survive_reconnects(tmp_path: Path) -> None:
    """Two QEMUs of one host through a FIFO, each by its process; a log through a socket."""
    fifo, address = tmp_path / "probe", tmp_path / "probe.sock"
    os.mkfifo(fifo)
    with running(tmp_path, f"--source={fifo}", f"--source={address}") as daemon:
        with fifo.open("wb") as writer:
            writer.write((DATA / "qemu-7.2-bpftrace-nonconverging.log").read_bytes())
        daemon.wait_until(
            lambda: (
                daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="destination")
                == 1
            ),
            "both",
        )
        with socket.socket(socket.AF_UNIX) as writer_socket:
            writer_socket.connect(str(address))
            writer_socket.sendall(IDLE)
        daemon.wait_until(
            lambda: (
                daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="source") == 2
            ),
            "the log",
        )


def test_systemd_is_notified(tmp_path: Path) -> None:
    """READY when all that was there is read, a status, the watchdog, and the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(patience(15))
        with running(tmp_path, f"--source={tmp_path}/a.log", NOTIFY_SOCKET=str(tmp_path / "notify")) as daemon:
            told = manager.recv(1000)
            while b"READY=1" not in told:
                told = manager.recv(1000)
            while b"WATCHDOG=1" not in told:
                told = manager.recv(1000)
            daemon.stop()
            while b"STOPPING=1" not in told:
                told = manager.recv(1000)


def test_equal_vm_names_are_distinguished(tmp_path: Path) -> None:
    """Their numbers are not mixed, and a counter shows the clash."""
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
    with running(tmp_path, *(f"--source={tmp_path}/{directory}/*.log" for directory in ("a", "b"))) as daemon:
        for directory in ("a", "b"):
            _append(tmp_path / directory / "web-42.log", IDLE)
        daemon.wait_until(lambda: len(daemon.migrations()) == 2, "both have ended")

        assert {each["vm"] for each in daemon.migrations()} == {"web-42", "web-42#2"}
        surprises = [
            daemon.metric(
                "qemu_migration_exporter_surprises_total",
                kind="duplicate_vm",
                stream=str(tmp_path / directory / "web-42.log"),
            )
            for directory in ("a", "b")
        ]
        assert sorted(each or 0 for each in surprises) == [0, 1]


def test_unreadable_source_fails_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wildcard in a directory's name: a message and status 1, no traceback."""
    status = main(["run", "--web.listen-address=127.0.0.1:0", f"--source={tmp_path}/*/x.log"])

    complaint = capsys.readouterr().err
    assert status == 1
    assert f"{tmp_path}/*/x.log" in complaint
    assert "Traceback" not in complaint


def test_taken_address_fails_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message and status 1, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        status = main(["run", f"--web.listen-address={address}", f"--source={tmp_path}/x.log"])

    complaint = capsys.readouterr().err
    assert status == 1
    assert f'msg="listen failed" address={address} error="Address already in use' in complaint
    assert "Traceback" not in complaint


def test_unusable_spool_fails_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is something else in its place, or another program has it: a message and status 1, no traceback."""
    (tmp_path / "file").touch()
    taken = Spool(tmp_path / "taken", max_bytes=1 << 20)
    taken.open()
    for name, reason in (("file", "File exists"), ("taken", "locked by another exporter")):
        config = tmp_path / "exporter.yml"
        config.write_text(f"spans: {{otlp_endpoint: 'http://127.0.0.1:1', spool_directory: {tmp_path}/{name}}}\n")

        status = main(["run", f"--config.file={config}", f"--source={tmp_path}/x.log"])

        complaint = capsys.readouterr().err
        assert status == 1
        assert f'msg="spool unusable" directory={tmp_path}/{name} error="{reason}"' in complaint
        assert "Traceback" not in complaint
