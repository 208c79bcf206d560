"""Real migrations of a real QEMU with its log backend, compared with QEMU's own answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from qemu_migration_exporter.cli import main

from tests.support.patience import patience
from tests.support.qemu import Qemu, wait_for

_MIB = 1 << 20

Pair = Callable[[int], tuple[Qemu, Qemu]]


@pytest.fixture(name="pair")
def _pair(tmp_path: Path) -> Iterator[Pair]:
    """Yield a source whose guest has a working set, and a destination that waits for it."""
    if shutil.which("qemu-system-x86_64") is None and not os.environ.get("CI"):
        pytest.skip("qemu-system-x86_64 is not installed")
    running: list[Qemu] = []

    def make(working_set_mib: int) -> tuple[Qemu, Qemu]:
        for name, incoming in (("destination", True), ("source", False)):
            running.append(Qemu(name, tmp_path, working_set_mib=working_set_mib, incoming=incoming))
        return running[1], running[0]

    yield make
    for qemu in running:
        qemu.quit()


def _report(qemu: Qemu, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["replay", str(qemu.log), "--report=json", "--strict"]) == 0
    migrations: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["migrations"]
    return migrations


def _agrees(migration: dict[str, Any], truth: dict[str, Any]) -> None:
    """Compare with a tolerance: QEMU truncates to ms, and may be delayed between reading a clock and printing."""
    for key, said in (("duration", "total-time"), ("setup", "setup-time"), ("downtime", "downtime")):
        seconds = truth[said] / 1_000
        assert migration[f"{key}_seconds"] == pytest.approx(seconds, abs=max(0.005, 0.02 * seconds)), key
    assert migration["bitmap_syncs"] == truth["ram"]["dirty-sync-count"]


def test_more_bandwidth_ends_stuck_migration(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """47 MiB are dirtied again and again at 32 MiB/s; all rounds begin alike."""
    source, destination = pair(47)
    source.migrate()
    source.wait_until_synced(4)
    source.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
    truth = source.wait_until("completed")

    (outgoing,) = _report(source, capsys)
    (incoming,) = _report(destination, capsys)

    assert (outgoing["side"], outgoing["result"]) == ("source", "completed")
    assert (incoming["side"], incoming["result"]) == ("destination", "completed")
    assert outgoing["transferred_bytes"] == pytest.approx(truth["ram"]["precopy-bytes"], rel=1e-4)
    assert outgoing["rounds"][2]["pending_at_start_bytes"] == pytest.approx(47 * _MIB, rel=0.01)
    _agrees(outgoing, truth)


@pytest.mark.parametrize("option", ["max-bandwidth", "downtime-limit"])
def test_advice_ends_stall(pair: Pair, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """QEMU is given exactly the command from the report of its own log."""
    source, _ = pair(47)
    source.migrate()

    def stalled() -> dict[str, Any]:
        (migration,) = _report(source, capsys)
        verdict: dict[str, Any] = migration["verdict"]
        return verdict

    wait_for(lambda: stalled()["reason"] is not None, 30, "it is called stalled")
    verdict = stalled()
    (command,) = [
        json.loads(each.partition("QMP: ")[2]) for each in verdict["advice"] if option in each.partition("QMP: ")[2]
    ]
    source.execute(command)
    truth = source.wait_until("completed")
    (migration,) = _report(source, capsys)

    assert (verdict["converging"], verdict["reason"]) == (False, "bandwidth_cap")
    assert 1.4 < verdict["required_downtime_seconds"] < 4  # 1.5 s at the cap; a busy machine sends less
    assert migration["stalls"][-1]["end_seconds"] is not None
    assert migration["result"] == "completed"
    limit_ms = command["arguments"].get("downtime-limit", 300)
    assert truth["downtime"] < limit_ms * 1.5


def test_postcopy(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """Every page that the destination requested is counted."""
    source, destination = pair(47)
    for qemu in (source, destination):
        qemu.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
    source.migrate()
    source.wait_until_synced(2)
    source.command("migrate-start-postcopy")
    truth = source.wait_until("completed")

    (outgoing,) = _report(source, capsys)

    assert (outgoing["mode"], outgoing["result"]) == ("postcopy", "completed")
    assert outgoing["postcopy_requests"] == truth["ram"]["postcopy-requests"]
    assert [phase["name"] for phase in outgoing["phases"]][-3:] == ["complete_precopy", "postcopy", "cleanup"]
    _agrees(outgoing, truth)


def test_cancelled_and_failed_attempts(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """Two attempts in one log, with QEMU's own text for the failure."""
    source, destination = pair(47)
    source.migrate()
    source.wait_until_synced(1)
    source.command("migrate_cancel")
    source.wait_until("cancelled")
    destination.process.wait(timeout=patience(20))
    source.migrate()
    truth = source.wait_until("failed")

    cancelled, failed = _report(source, capsys)

    assert (cancelled["result"], cancelled["error"]) == ("cancelled", None)
    assert (failed["result"], failed["error"]) == ("failed", truth["error-desc"])
    assert cancelled["trace_id"] != failed["trace_id"]
