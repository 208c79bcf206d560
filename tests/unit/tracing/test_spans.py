"""What the spans say, beside their golden files: attributes, statuses, sampling, resource."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.paths import DATA
from tests.support.recordings import run


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {each["key"]: next(iter(each["value"].values())) for each in span["attributes"]}


def _spans(recording: str) -> list[dict[str, Any]]:
    return run([(DATA / recording).read_bytes()], vm="web-42").all_spans


def test_a_migration_that_failed_is_an_error_with_a_bounded_type_and_qemus_own_text() -> None:
    """Only a failure is an error; its type is a word of a small set, its text is QEMU's."""
    *_, root = _spans("qemu-7.2-log-destination-killed.log")

    assert root["name"] == "migrate"
    assert root["status"] == {"code": 2, "message": "Unable to write to socket: Broken pipe"}
    assert _attributes(root)["error.type"] == "iterate_failed"


@pytest.mark.parametrize("recording", ["qemu-7.2-log-cancelled.log", "qemu-7.2-log-idle.log"])
def test_a_migration_that_completed_or_was_cancelled_has_no_status(recording: str) -> None:
    """UNSET, as OpenTelemetry asks of everything that is no error."""
    *_, root = _spans(recording)

    assert root["status"] == {}


def test_backtraces_become_code_stacktrace() -> None:
    """A hand-written script's backtraces stand at the spans they were printed for."""
    spans = _spans("qemu-kvm-2.6-systemtap.log")

    frames = [_attributes(span)["code.stacktrace"] for span in spans if span["name"] == "bitmap_sync"]
    assert [frame.splitlines()[1].split(" : ")[1].split("+")[0] for frame in frames] == [
        "ram_save_setup",
        "ram_save_pending",
        "ram_save_complete",
    ]
    assert "qmp_marshal_migrate" in _attributes(spans[-1])["code.stacktrace"]


def test_spans_of_a_stream_without_times_say_so() -> None:
    """Nobody takes a reconstructed time for a measured one."""
    spans = _spans("qemu-kvm-2.6-systemtap.log")

    assert {_attributes(span)["qemu.migration.clock"] for span in spans} == {"reconstructed"}


def test_a_recording_that_is_cut_sends_its_open_spans_and_marks_them() -> None:
    """What the end of the stream cut off ends there, inside its parent."""
    data = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes()
    spans = run([data[: len(data) // 2]], vm="web-42").all_spans

    *_, last_round, root = spans
    assert (last_round["name"], _attributes(last_round)["qemu.migration.incomplete"]) == ("iterate", True)
    assert _attributes(root)["qemu.migration.result"] == "unknown"
    assert last_round["endTimeUnixNano"] == root["endTimeUnixNano"]


def test_a_recording_that_ends_in_setup_sends_that_phase_marked() -> None:
    """The phase that was open when the stream ended is there too."""
    lines = (DATA / "qemu-7.2-log-idle.log").read_bytes().splitlines(keepends=True)
    until = next(number for number, line in enumerate(lines) if b"savevm_state_setup" in line)
    spans = run(lines[: until + 1], vm="web-42").all_spans

    assert [span["name"] for span in spans] == ["migrate.start", "setup", "migrate"]
    assert _attributes(spans[1]) == {"qemu.migration.incomplete": True}


def _written(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = io.StringIO()
    sink = SpansSink([BlockingSpanProcessor(OtlpJsonWriter(out))])
    stream = Stream("x", vm="web-42")
    sink.apply([*stream.feed((DATA / "qemu-7.2-log-idle.log").read_bytes()), *stream.close()])
    sink.close()
    return out.getvalue()


def test_the_resource_names_the_service_and_what_the_operator_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine is in it unless the operator's variables say so."""
    line = _written(monkeypatch, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=lab")

    attributes = {
        each["key"]: each["value"]["stringValue"]
        for each in json.loads(line)["resourceSpans"][0]["resource"]["attributes"]
    }
    assert attributes.keys() == {"service.name", "service.version", "deployment.environment.name"}
    assert attributes["service.name"] == "qemu-migration"


def test_a_trace_that_is_not_sampled_sends_nothing_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler decides once for the whole trace, before its root exists."""
    assert _written(monkeypatch, OTEL_TRACES_SAMPLER="parentbased_always_off") == ""
