"""Spans beyond their golden files: attributes, statuses, sampling, resource."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.trace import StatusCode
from qemu_migration_exporter.core.changes import Change, MigrationEnded, RoundEnded
from qemu_migration_exporter.core.model import DowntimePart, DowntimePartName, Pause, PauseCause
from qemu_migration_exporter.core.tracking.stream import Stream
from qemu_migration_exporter.tracing.export.blocking import BlockingSpanProcessor
from qemu_migration_exporter.tracing.export.json_lines import OtlpJsonWriter
from qemu_migration_exporter.tracing.spans import SpansSink

from tests.support.core_helpers import log_lines
from tests.support.kept_spans import KeptSpans
from tests.support.paths import DATA
from tests.support.recordings import run


def _attributes(span: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: next(iter(pair["value"].values())) for pair in span["attributes"]}


def _spans(recording: str) -> list[dict[str, Any]]:
    return run([(DATA / recording).read_bytes()], vm="web-42").all_spans


def test_failed_span_has_qemu_error() -> None:
    """The type is one of a small set, as OpenTelemetry asks for."""
    *_, root = _spans("qemu-7.2-log-destination-killed.log")

    assert root["name"] == "migrate"
    assert root["status"] == {"code": 2, "message": "Unable to write to socket: Broken pipe"}
    assert _attributes(root)["error.type"] == "iterate_failed"


@pytest.mark.parametrize("recording", ["qemu-7.2-log-cancelled.log", "qemu-7.2-log-idle.log"])
def test_success_and_cancel_have_no_status(recording: str) -> None:
    """UNSET, as OpenTelemetry asks for."""
    *_, root = _spans(recording)

    assert root["status"] == {}


def test_backtraces_become_stacktrace() -> None:
    """A hand-written script prints them with the events of the spans."""
    spans = _spans("qemu-kvm-2.6-systemtap.log")

    frames = [_attributes(span)["code.stacktrace"] for span in spans if span["name"] == "bitmap_sync"]
    assert [frame.splitlines()[1].split(" : ")[1].split("+")[0] for frame in frames] == [
        "ram_save_setup",
        "ram_save_pending",
        "ram_save_complete",
    ]
    assert "qmp_marshal_migrate" in _attributes(spans[-1])["code.stacktrace"]


def test_reconstructed_clock_is_marked() -> None:
    """A reconstructed time must not pass for a measured one."""
    spans = _spans("qemu-kvm-2.6-systemtap.log")

    assert {_attributes(span)["qemu.migration.clock"] for span in spans} == {"reconstructed"}


def test_cut_recording_marks_open_spans() -> None:
    """They end with the stream, inside their parent."""
    data = (DATA / "qemu-7.2-log-nonconverging.log").read_bytes()
    spans = run([data[: len(data) // 2]], vm="web-42").all_spans

    *_, last_round, root = spans
    assert (last_round["name"], _attributes(last_round)["qemu.migration.incomplete"]) == ("iterate", True)
    assert _attributes(root)["qemu.migration.result"] == "unknown"
    assert last_round["endTimeUnixNano"] == root["endTimeUnixNano"]


def test_open_phase_is_sent_marked() -> None:
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


def test_resource_has_all_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attribute is of this machine, unless a variable sets it."""
    line = _written(monkeypatch, OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=lab")

    attributes = {
        each["key"]: each["value"]["stringValue"]
        for each in json.loads(line)["resourceSpans"][0]["resource"]["attributes"]
    }
    assert attributes.keys() == {"service.name", "service.version", "deployment.environment.name"}
    assert attributes["service.name"] == "qemu-migration"


def test_unsampled_trace_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler decides once per trace, before its root exists."""
    assert _written(monkeypatch, OTEL_TRACES_SAMPLER="parentbased_always_off") == ""


def _sink() -> tuple[SpansSink, KeptSpans]:
    kept = KeptSpans()
    return SpansSink([kept]), kept


def _changes(recording: str) -> list[Change]:
    stream = Stream("x", vm="web-42")
    return [*stream.feed((DATA / recording).read_bytes()), *stream.close()]


def _content(kept: KeptSpans) -> set[tuple[str, int | None, int | None, StatusCode]]:
    return {(span.name, span.start_time, span.end_time, span.status.status_code) for span in kept.spans}


def _errors(kept: KeptSpans) -> list[str]:
    return [span.name for span in kept.spans if span.status.status_code is StatusCode.ERROR]


def test_failing_round_is_an_error() -> None:
    sink, kept = _sink()
    sink.apply(_changes("qemu-7.2-log-destination-killed.log"))

    assert _errors(kept) == ["iterate", "migrate"]


def test_completed_rounds_are_no_errors() -> None:
    sink, kept = _sink()
    sink.apply(_changes("qemu-7.2-log-idle.log"))

    assert _errors(kept) == []


#: A migration whose second round ends by the failure, or by a sync after which nothing was sent.
_FAILING = """
M migrate_set_state new state setup
migration_thread_setup_complete
savevm_state_iterate
+100 migrate_transferred transferred 900 time_spent 100 bandwidth 1 max_size 30
migration_bitmap_sync_start
migration_bitmap_sync_end dirty_pages 9
savevm_state_iterate
+100 migrate_transferred transferred 900 time_spent 100 bandwidth 1 max_size 30
"""
_NOTHING_SENT = """migration_bitmap_sync_start
migration_bitmap_sync_end dirty_pages 9
"""


_AFTER_LOOP = "migration_thread_file_err\nmigration_thread_after_loop"

with_failures = pytest.mark.parametrize(
    ("recording", "errors"),
    [
        ((DATA / "qemu-7.2-log-destination-killed.log").read_text(), ["iterate", "migrate"]),
        (log_lines(_FAILING + "+9000 migrate_set_state new state failed"), ["iterate", "migrate"]),
        (log_lines(_FAILING + _AFTER_LOOP), ["iterate", "migrate"]),
        (log_lines(f"{_FAILING}{_AFTER_LOOP}\n+9000 migrate_set_state new state failed"), ["iterate", "migrate"]),
        (log_lines(_FAILING + _NOTHING_SENT + "+9000 migrate_set_state new state failed"), ["migrate"]),
        (log_lines(_FAILING + "migration_thread_low_pending 1\nmigrate_set_state new state failed"), ["migrate"]),
    ],
    ids=["destination killed", "in a round", "no state", "after the loop", "after a sync", "in the switchover"],
)


@pytest.mark.parametrize("ticks", [0, 1, 3, 60])
@with_failures
def test_error_of_round_depends_on_no_clock(recording: str, errors: list[str], ticks: int) -> None:
    """A daemon sends the spans of a replay: ticks pass between its lines, and the outcome is known seconds later."""
    sink, kept = _sink()
    stream = Stream("x", vm="web-42")
    for line in recording.splitlines(keepends=True):
        sink.apply(stream.feed(line.encode()))
        for _ in range(ticks):
            sink.tick(0)
    sink.apply(stream.close())
    assert _errors(kept) == errors

    replayed, at_once = _sink()
    whole = Stream("x", vm="web-42")
    replayed.apply([*whole.feed(recording.encode()), *whole.close()])
    assert _content(kept) == _content(at_once)


@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "killed"])
@with_failures
def test_restart_keeps_error_of_round(recording: str, errors: list[str], *, is_stopped: bool) -> None:
    """A round that was sent twice has the same content, whichever two lines the restart lies between."""
    data = recording.splitlines(keepends=True)
    for place in range(len(data)):
        sink, kept = _sink()
        first, second = (Stream("x", vm="web-42") for _ in range(2))
        sink.apply(first.feed("".join(data[:place]).encode()))
        for _ in range(3):
            sink.tick(0)
        if is_stopped:
            sink.interrupt(0)

        again, kept_again = _sink()
        again.apply(second.restore(first.snapshot()))
        for _ in range(3):
            again.tick(0)
        again.apply([*second.feed("".join(data[place:]).encode()), *second.close()])

        sent = [span for span in kept.spans + kept_again.spans if span.name != "exporter.stopped"]
        by_id = {span.context.span_id: span.status.status_code for span in sent}
        assert [span.name for span in sent if by_id[span.context.span_id] is not span.status.status_code] == []
        failed = {span.context.span_id: span.name for span in sent if span.status.status_code is StatusCode.ERROR}
        assert sorted(failed.values()) == errors, data[place]


def test_running_stall_is_error_with_vm() -> None:
    """Jaeger marks the trace while the migration is stuck, and finds it by the name of the machine."""
    sink, kept = _sink()
    sink.apply(
        change for change in _changes("qemu-7.2-log-nonconverging.log") if not isinstance(change, MigrationEnded)
    )

    assert _errors(kept) == ["stalled"]
    (stalled,) = [span for span in kept.spans if span.name == "stalled"]
    assert stalled.status.description == "stalled: bandwidth_cap"
    assert stalled.attributes
    assert stalled.attributes["qemu.vm.name"] == "web-42"


def _newest(kept: KeptSpans) -> list[object]:
    return [
        span.attributes["qemu.migration.round"] for span in kept.spans if span.attributes and span.name == "iterate"
    ]


@pytest.mark.parametrize("step", [lambda sink: [sink.tick(0) for _ in range(2)], lambda sink: sink.interrupt(0)])
def test_newest_round_waits_briefly(step: Callable[[SpansSink], object]) -> None:
    sink, kept = _sink()
    changes = _changes("qemu-7.2-log-nonconverging.log")
    last = max(
        number for number, change in enumerate(changes) if isinstance(change, RoundEnded) and change.round.number == 3
    )
    sink.apply(changes[: last + 1])
    sink.tick(0)
    assert _newest(kept) == [1, 2]

    step(sink)

    assert _newest(kept) == [1, 2, 3]


def _with(**facts: Any) -> KeptSpans:  # noqa: ANN401 - fields of a migration
    """Return the spans of an idle guest's migration with other facts at its end."""
    *before, ended = _changes("qemu-7.2-log-idle.log")
    assert isinstance(ended, MigrationEnded)
    sink, kept = _sink()
    sink.apply([*before, replace(ended, migration=replace(ended.migration, **facts))])
    return kept


def test_other_pauses_have_spans() -> None:
    pauses = (
        Pause(start_ns=10, end_ns=30, by=PauseCause.SUSPENDED),
        Pause(start_ns=40, end_ns=50, by=PauseCause.DOWNTIME),
        Pause(start_ns=60, end_ns=None, by=PauseCause.IO_ERROR),
    )
    kept = _with(pauses=pauses, blackout_ns=2_500_000_000)

    paused = [span for span in kept.spans if span.name == "paused"]
    assert [dict(span.attributes or {}) for span in paused] == [
        {"qemu.migration.pause.cause": "suspended"},
        {"qemu.migration.pause.cause": "io-error", "qemu.migration.incomplete": True},
    ]
    root = dict(kept.spans[-1].attributes or {})
    assert (root["qemu.migration.pauses"], root["qemu.migration.blackout_seconds"]) == (3, 2.5)
    assert paused[1].end_time == kept.spans[-1].end_time


def test_downtime_parts_have_spans() -> None:
    """Time without a name has no span: it is a gap, and a number on the root."""
    name = DowntimePartName
    late = 2 * 10**9  # behind every phase, in seconds
    parts = [(name.STOP, 0, 5), (name.RAM, 5, 9), (name.UNACCOUNTED, 9, 11), (name.DESTINATION, 11, 20)]
    kept = _with(
        downtime_parts=tuple(
            DowntimePart(name=part, start_ns=(late + start) * 10**9, end_ns=(late + end) * 10**9)
            for part, start, end in parts
        )
    )

    seconds = {
        key.removeprefix("qemu.migration.downtime."): value
        for key, value in (kept.spans[-1].attributes or {}).items()
        if key.startswith("qemu.migration.downtime.")
    }
    assert seconds == {"stop_seconds": 5, "ram_seconds": 4, "destination_seconds": 9, "unaccounted_seconds": 2}
    names = [span.name for span in kept.spans]
    assert names.count("destination") == names.count("stop") == names.count("ram") == 1
    assert "unaccounted" not in names


def test_loads_of_destination_have_spans() -> None:
    parts = tuple(
        DowntimePart(name=DowntimePartName.DEVICE, start_ns=number, end_ns=number + 1, device=f"virtio-{number}")
        for number in range(2)
    )
    kept = _with(devices=(), downtime_parts=parts)

    loads = [span for span in kept.spans if span.name.startswith("load ")]
    assert [span.name for span in loads] == ["load virtio-0", "load virtio-1"]


@pytest.mark.parametrize(
    "recording",
    [
        "streams/A02-cpr-src-timed.log",  # the guest is stopped before setup
        "streams/A01b-dst-setup-timed-ok.log",  # a destination has no phases
        "streams/A04-vmstate-downtime-only.log",
        "streams/B07-cancel-in-preswitchover.log",
    ],
)
def test_each_span_is_inside_of_its_parent(recording: str) -> None:
    spans = {span["spanId"]: span for span in _spans(recording)}
    assert len(spans) > 1
    for span in spans.values():
        if span.get("parentSpanId"):
            parent = spans[span["parentSpanId"]]
            assert int(parent["startTimeUnixNano"]) <= int(span["startTimeUnixNano"]), span["name"]
            assert int(span["endTimeUnixNano"]) <= int(parent["endTimeUnixNano"]), span["name"]


@pytest.mark.parametrize(
    ("vm", "vm_services", "expected"),
    [
        ("web-42", False, {"migrate.start": "qemu-migration", "migrate": "qemu-migration"}),
        ("web-42", True, {"migrate.start": "web-42", "migrate": "qemu-migration"}),
        ("", True, {"migrate.start": "qemu-migration", "migrate": "qemu-migration"}),
    ],
)
def test_first_span_may_name_vm_as_service(vm: str, expected: dict[str, str], *, vm_services: bool) -> None:
    """Jaeger's lists show services and no attributes; the other spans stay findable under their service."""
    assert dict(_services([vm], vm_services=vm_services)) == expected


def test_services_beyond_kept_tracers_are_named() -> None:
    names = [f"vm-{number}" for number in range(1_002)]
    services = _services([*names, "vm-0"], vm_services=True)

    assert [service for name, service in services if name == "migrate.start"] == [*names, "vm-0"]


def _services(vms: list[str], *, vm_services: bool) -> list[tuple[str, str]]:
    """Return name and service of the first and the last span of short migrations, in their order."""
    kept = KeptSpans()
    sink = SpansSink([kept], {"host.name": "hv-01"}, vm_services=vm_services)
    for vm in vms:
        stream = Stream(vm, vm=vm)
        sink.apply([*stream.feed(b"1@1700000000.000000:migrate_set_state new state setup\n"), *stream.close()])
    assert {span.resource.attributes["host.name"] for span in kept.spans} == {"hv-01"}
    return [
        (span.name, str(span.resource.attributes["service.name"]))
        for span in kept.spans
        if span.name in {"migrate.start", "migrate"}
    ]


@pytest.mark.parametrize(("state", "expected"), [("pre-switchover", [1, 2]), ("device", [1, 2]), ("active", [1])])
def test_last_round_is_sent_in_stuck_switchover(state: str, expected: list[int]) -> None:
    """A migration in the switchover may stay there for hours; its rounds did not fail."""
    sink, kept = _sink()
    stream = Stream("x", vm="web-42")
    last_window = "migrate_transferred transferred 9 time_spent 9 bandwidth 1 max_size 30"
    events = _FAILING + ("" if state == "active" else f"migrate_set_state new state {state}\n{last_window}")
    sink.apply(stream.feed(log_lines(events).encode()))
    assert stream.last_event_ns is not None
    sink.apply(stream.tick(stream.last_event_ns + 600_000_000_000))
    for _ in range(2):
        sink.tick(0)
    assert _newest(kept) == expected
