"""Streams in the shape of real situations, each with its right answer in the JSON report."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import pytest
from qemu_migration_exporter.present.document import migration_document
from qemu_migration_exporter.present.view_builder import migration_view

from tests.support.core_helpers import Reading, read
from tests.support.paths import DATA

#: QEMU counts milliseconds and cuts them off.
TOLERANCE_SECONDS: Final = 0.002


@cache
def replayed(path: str) -> Reading:
    data = (DATA / path).read_bytes()
    return read(gzip.decompress(data) if path.endswith(".gz") else data)


def documents(path: str) -> list[Mapping[str, Any]]:
    return [migration_document(migration_view(migration)) for migration in replayed(path).migrations]


def document(path: str) -> Mapping[str, Any]:
    (migration,) = documents(path)
    return migration


def part_seconds(migration: Mapping[str, Any]) -> dict[str, float]:
    """Return the length of the downtime's parts by device or name, the last one of each."""
    return {part["device"] or part["name"]: part["duration_seconds"] for part in migration["downtime_parts"]}


ANSWERS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("A01b-dst-setup-timed-ok.log", {"side": "destination", "result": "completed", "downtime_seconds": None}),
    ("A02-cpr-src-timed.log", {"kind": "cpr", "result": "completed", "downtime_seconds": 0.498}),
    ("A03-waitunplug-abort.log", {"result": "cancelled"}),
    ("A03b-waitunplug-qtest-bare.log", {"result": "cancelled"}),
    ("A04-vmstate-downtime-only.log", {"downtime_seconds": 0.975, "partial": True}),
    ("A04c-downtime-and-states.log", {"result": "completed", "setup_seconds": 0.4, "downtime_seconds": 0.923}),
    ("A05-excerpt-from-completion.log", {"result": "completed", "partial": True, "side": "source"}),
    ("A06-zero-pages-bulk-bare.log", {"result": "unknown", "stalls": []}),
    ("A09-plain-reference.log", {"result": "completed", "downtime_seconds": 0.096}),
    ("A10-libvirt-log.log", {"result": "completed", "error": None, "vm": "web"}),
    ("A11-hmp-stdio.log", {"result": "completed"}),
    ("A14c-crlf.log", {"result": "completed", "downtime_seconds": 0.096}),
    ("B01-stop-18s.log", {"downtime_seconds": 18.492, "blackout_seconds": 18.492}),
    ("B02-pre-switchover-14s.log", {"downtime_seconds": 14.381}),
    ("B07-cancel-in-preswitchover.log", {"result": "cancelled", "blackout_seconds": 7.016}),
    ("B08-vfio-save-failed.log", {
        "result": "failed",
        "error": "0000:65:00.1: Failed setting device state to STOP_COPY, err: Device or resource busy",
    }),
    ("B09-dst-refused-rp-72.log", {
        "result": "failed", "error": "the destination ended the migration: its log has the reason",
    }),
    ("B10-tls-handshake.log", {
        "result": "failed", "error": "The TLS connection was non-properly terminated.", "setup_seconds": None,
    }),
    ("B10c-socket-error-only.log", {
        "result": "failed", "side": "source", "error": "Failed to connect to 'dst:49152': Connection refused",
    }),
    ("B11-multifd-channel.log", {"error": "Unable to write to socket: Connection timed out"}),
    ("B24-postcopy-device-102.log", {"mode": "postcopy", "result": "completed", "downtime_seconds": 0.046}),
    ("B26-ram-took-downtime.log", {"downtime_seconds": 3.870}),
    ("B38-stale-warning.log.gz", {"result": "failed", "error": None}),
    ("B42-suspended-by-operator.log.gz", {"downtime_seconds": 0.096, "blackout_seconds": 0.879}),
    ("B43-limit-raised.log.gz", {"result": "completed", "downtime_seconds": 2.913}),
    ("B44-failing-11.log", {"result": "failed", "error": "Unable to write to socket: Broken pipe"}),
    ("B47-ends-in-pre-switchover.log", {"result": "unknown"}),
    ("B51-states-only-completed.log", {"setup_seconds": 0.04, "downtime_seconds": 0.9, "result": "completed"}),
    ("m1.log", {"downtime_seconds": 0.975}),
    ("m2.log", {"downtime_seconds": 0.923, "setup_seconds": 0.4, "result": "completed"}),
    ("m4.log", {"result": "failed", "error": None}),
    ("m6.log", {"error": "Failed to connect to 'dst:49152': Connection refused"}),
    ("m7.log", {"result": "unknown"}),
    ("m8.log", {"setup_seconds": 0.04}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answer"), ANSWERS, ids=[name for name, _ in ANSWERS])
def test_report_gives_right_answer(name: str, answer: dict[str, Any]) -> None:
    migration = document(f"streams/{name}")
    for key, expected in answer.items():
        is_number = isinstance(expected, float)
        assert migration[key] == (pytest.approx(expected, abs=TOLERANCE_SECONDS) if is_number else expected), key
    assert [] == replayed(f"streams/{name}").surprises


PARTS: Final[list[tuple[str, dict[str, float]]]] = [
    ("A01b-dst-setup-timed-ok.log", {"ram": 0.0009, "cpu": 0.00015}),
    ("A04-vmstate-downtime-only.log", {"stop": 0.13, "ram": 0.14, "0000:00:03.0/vfio": 0.225, "destination": 0.3}),
    ("B01-stop-18s.log", {"stop": 18.4}),
    ("B02-pre-switchover-14s.log", {"pre_switchover": 14.2}),
    ("B08-vfio-save-failed.log", {"0000:00:04.0/vfio": 3.1}),
    ("B09-dst-refused-rp-72.log", {"destination": 0.2}),
    ("B26-ram-took-downtime.log", {"stop": 0.268, "ram": 3.47, "cpu": 0.118}),
    ("B51-states-only-completed.log", {"pre_switchover": 0.5, "unaccounted": 0.4}),
    ("m1.log", {"stop": 0.13, "ram": 0.84}),
]


@pytest.mark.parametrize(("name", "parts"), PARTS, ids=[name for name, _ in PARTS])
def test_downtime_is_explained_by_parts(name: str, parts: dict[str, float]) -> None:
    found = part_seconds(document(f"streams/{name}"))
    assert parts == {part: pytest.approx(found[part], abs=TOLERANCE_SECONDS) for part in parts}


@pytest.mark.parametrize("name", [name for name, _ in ANSWERS])
def test_downtime_parts_add_up(name: str) -> None:
    migration = document(f"streams/{name}")
    if migration["side"] == "source" and migration["downtime_seconds"] is not None:
        total = sum(part["duration_seconds"] for part in migration["downtime_parts"])
        assert migration["downtime_seconds"] == pytest.approx(total, abs=1e-9)


def test_qemu_exit_ends_only_its_migration() -> None:
    first, second = documents("streams/B06-crash-then-new.log")
    assert ("failed", "QEMU ended: shutting down, reason=crashed") == (first["result"], first["error"])
    assert first["duration_seconds"] == pytest.approx(7.016, abs=TOLERANCE_SECONDS)
    assert [] == first["stalls"]
    assert "completed" == second["result"]


def test_destination_names_failed_device() -> None:
    error = document("streams/B09b-dst-virtio-net-features.log")["error"]
    assert error.startswith("Features 0x1800010120afff27 unsupported.")
    assert error.endswith("error while loading state for instance 0x0 of device '0000:00:02.0/virtio-net'")


@pytest.mark.parametrize("name", ["B47-ends-in-pre-switchover.log", "m7.log"])
def test_final_wait_is_named(name: str) -> None:
    (migration,) = replayed(f"streams/{name}").migrations
    wait = migration.open_wait
    assert wait is not None
    assert ("pre-switchover", "blocked_pre_switchover") == (wait.state, wait.reason)
    assert wait.since_ns == migration.progress.paused_since_ns or wait.since_ns > migration.identity.start_ns


LIBVIRT: Final[list[tuple[str, list[dict[str, Any]]]]] = [
    ("idle.log.gz", [{"vm": "app-1", "kind": "live", "duration_seconds": 0.263, "downtime_seconds": 0.048}]),
    ("idle.dst.log.gz", [{"side": "destination", "result": "completed"}]),
    ("timeout-suspend.log.gz", [{"downtime_seconds": 0.076, "blackout_seconds": 7.321, "stalls": []}]),
    ("source-destroyed-while-stuck.log.gz", [{
        "result": "failed",
        "error": "QEMU ended: terminating on signal 15 from pid 8870 (libvirtd); shutting down, reason=destroyed",
        "uuid": "697e1dfd-e536-49bc-9815-0936b6c0741b",
    }]),
    ("destination-killed.dst.log.gz", [{
        "side": "destination", "result": "failed", "error": "QEMU ended: shutting down, reason=crashed",
    }]),
    ("destination-killed.log.gz", [{"result": "failed", "error": "Unable to write to socket: Bad file descriptor"}]),
    ("stuck-domjobabort.log.gz", [{"result": "cancelled", "kind": "live"}]),
    ("virsh-save-restore.log.gz", [
        {"kind": "save", "side": "source", "result": "completed", "blackout_seconds": 3.262},
        {"kind": "save", "side": "destination", "result": "completed"},
    ]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "answers"), LIBVIRT, ids=[name for name, _ in LIBVIRT])
def test_libvirt_log_gives_right_answer(name: str, answers: list[dict[str, Any]]) -> None:
    migrations = documents(f"libvirt/{name}")
    assert len(answers) == len(migrations)
    for answer, migration in zip(answers, migrations, strict=True):
        for key, expected in answer.items():
            is_number = isinstance(expected, float)
            assert migration[key] == (pytest.approx(expected, abs=TOLERANCE_SECONDS) if is_number else expected), key


def test_suspension_is_an_operator_pause() -> None:
    (migration,) = documents("libvirt/timeout-suspend.log.gz")
    assert ["suspended", "downtime"] == [pause["by"] for pause in migration["pauses"]]
