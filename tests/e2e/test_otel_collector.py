"""Span delivery through a collector of another vendor, over HTTP and gRPC, with outages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from qemu_migration_exporter.cli import main
from qemu_migration_exporter.tracing.export.outcomes import SpanOutcome

from tests.support.daemon import Daemon, running
from tests.support.paths import DATA
from tests.support.qemu import wait_for
from tests.support.receiver import Receiver, receiving
from tests.support.recordings import as_of_now
from tests.support.rotel import Rotel


def _attempts(number: int) -> bytes:
    """Return a log of this many migrations, two seconds apart, the last one just now."""
    recording = as_of_now((DATA / "qemu-7.2-log-idle.log").read_bytes())

    def shifted(seconds: int) -> bytes:
        return re.sub(
            rb"^(\d+)@(\d+)",
            lambda match: b"%s@%d" % (match[1], int(match[2]) - seconds),
            recording,
            flags=re.MULTILINE,
        )

    return b"".join(shifted(2 * before) for before in reversed(range(number)))


def _by_id(spans: list[Span]) -> dict[tuple[bytes, bytes], bytes]:
    """Return the content of every span; a span that was received twice must be the same twice."""
    found: dict[tuple[bytes, bytes], bytes] = {}
    for span in spans:
        content = span.SerializeToString(deterministic=True)
        assert found.setdefault((span.trace_id, span.span_id), content) == content
    return found


def _replayed(path: Path, *arguments: str) -> dict[tuple[bytes, bytes], bytes]:
    """Return the spans of a replay without outages."""
    with receiving(Receiver()) as receiver:
        assert main(["replay", str(path), f"--otlp.endpoint={receiver.url}", "--report=none", *arguments]) == 0
        return _by_id(receiver.spans)


def _count(daemon: Daemon, outcome: SpanOutcome) -> float:
    labels = {"outcome": outcome.outcome, "reason": outcome.reason}
    return daemon.metric("qemu_migration_exporter_spans_total", **labels) or 0


def _finished(daemon: Daemon, number: int) -> None:
    """Wait until this many migrations have ended."""
    daemon.wait_until(
        lambda: (
            daemon.metric("qemu_migrations_finished_total", kind="live", result="completed", side="source") == number
        ),
        f"{number} have ended",
    )


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as log:
        log.write(data)


def _config(directory: Path, **spans: object) -> Path:
    path = directory / "exporter.yml"
    path.write_text(yaml.safe_dump({"spans": {"spool_directory": f"{directory}/spool", **spans}}))
    return path


@pytest.mark.timeout(120)
def test_restarted_collector_gets_all(tmp_path: Path) -> None:
    """This program restarts too; in the end the collector has the spans of a replay."""
    log = tmp_path / "web-42.log"
    attempts = _attempts(6).splitlines(keepends=True)
    third = len(attempts) // 3
    with receiving(Receiver()) as receiver:
        rotel = Rotel(tmp_path, receiver.url)
        arguments = (
            f"--config.file={_config(tmp_path)}", f"--source={log}", f"--state.file={tmp_path}/state",
            f"--otlp.endpoint={rotel.http_url}",
        )  # fmt: skip
        with rotel.running(), running(tmp_path, *arguments, OTEL_EXPORTER_OTLP_TIMEOUT="1") as daemon:
            _append(log, b"".join(attempts[:third]))
            _finished(daemon, 2)
            daemon.wait_until(lambda: "migrate" in receiver.names, "the first came")
            rotel.stop()
            _append(log, b"".join(attempts[third : 2 * third]))
            _finished(daemon, 4)
            daemon.wait_until(lambda: any((tmp_path / "spool").glob("*.otlp")), "they wait on disk")
            assert daemon.stop() == 0

        with running(tmp_path, *arguments, OTEL_EXPORTER_OTLP_TIMEOUT="1") as daemon:
            _append(log, b"".join(attempts[2 * third :]))
            _finished(daemon, 6)
            with rotel.running():
                daemon.wait_until(lambda: not any((tmp_path / "spool").glob("*.otlp")), "the disk is empty")
                expected = _replayed(log)
                daemon.wait_until(lambda: len(_by_id(receiver.spans)) >= len(expected), "all of them came")
                lost = [outcome for outcome in SpanOutcome if outcome is not SpanOutcome.EXPORTED]
                assert {outcome: _count(daemon, outcome) for outcome in lost} == dict.fromkeys(lost, 0)
                assert daemon.stop() == 0

        assert {key: value for key, value in _by_id(receiver.spans).items() if key in expected} == expected
        assert {span.name for span in receiver.spans if (span.trace_id, span.span_id) not in expected} <= {
            "exporter.stopped"
        }


@pytest.mark.timeout(120)
def test_outage_beyond_spool_is_counted(tmp_path: Path) -> None:
    """Received and dropped spans add up to those that were made."""
    log = tmp_path / "web-42.log"
    log.touch()
    with receiving(Receiver()) as receiver:
        rotel = Rotel(tmp_path, receiver.url)
        arguments = (
            f"--config.file={_config(tmp_path, spool_max_bytes=1 << 20, queue_size=8192)}", f"--source={log}",
            f"--otlp.endpoint={rotel.http_url}",
        )  # fmt: skip
        with running(tmp_path, *arguments, OTEL_EXPORTER_OTLP_TIMEOUT="1") as daemon:
            for part in range(4):
                _append(log, _attempts(60))
                _finished(daemon, 60 * (part + 1))
                daemon.wait_until(lambda: len(list(tmp_path.glob("spool/*.otlp"))) > 2, "they wait on disk")
            made = len(_replayed(log))
            daemon.wait_until(lambda: _count(daemon, SpanOutcome.SPOOL_FULL) > 0, "some are dropped")
            with rotel.running():
                daemon.wait_until(
                    lambda: sum(_count(daemon, outcome) for outcome in SpanOutcome) == made, "every span is counted", 60
                )
                exported = _count(daemon, SpanOutcome.EXPORTED)
                daemon.wait_until(lambda: len(_by_id(receiver.spans)) == exported, "what was exported came")
            assert exported + _count(daemon, SpanOutcome.SPOOL_FULL) == made


def test_grpc_delivers_same_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra `grpc`, selected by OpenTelemetry's variable."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")
    recording = DATA / "qemu-7.2-log-nonconverging.log"
    with receiving(Receiver()) as receiver:
        rotel = Rotel(tmp_path, receiver.url)
        with rotel.running():
            assert main(["replay", str(recording), f"--otlp.endpoint={rotel.grpc_url}", "--report=none"]) == 0
            monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            expected = _replayed(recording)
            wait_for(lambda: len(receiver.spans) == len(expected), 20, "all of them came")

        assert _by_id(receiver.spans) == expected
