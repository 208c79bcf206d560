"""Tests of the shipped bpftrace probe, as root: `make usdt QEMU=…` with a QEMU that has USDT probes.

Long texts need no QEMU, only a program with its marks: gcc and `sys/sdt.h` of systemtap-sdt-dev.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from qemu_migration_exporter.probes import bpftrace_script

from tests.support.qemu import Qemu, wait_for

_MIB = 1 << 20

_PROGRAM = """
#include <sys/sdt.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    char text[4096];
    while (fgets(text, sizeof text, stdin)) {
        size_t length = strcspn(text, "\\n");
        memset(text + length + 1, 'x', sizeof text - length - 1); /* memory that must not be printed */
        text[length] = 0;
        DTRACE_PROBE1(qemu, qmp_enter_migrate_set_capabilities, text);
        DTRACE_PROBE1(qemu, migrate_error, text);
    }
}
"""


@pytest.mark.timeout(120)
def test_migration_on_one_host(tmp_path: Path) -> None:
    """One outgoing and one incoming migration, with the guests' names and uuids and QEMU's totals."""
    binary = os.environ["QEMU"]
    script, capture = tmp_path / "probe.bt", tmp_path / "capture"
    script.write_text(bpftrace_script(Path(binary)))
    names = {"destination": str(uuid.uuid4()), "source": str(uuid.uuid4())}
    running: list[Qemu] = []
    with capture.open("wb") as out:
        probe = subprocess.Popen(["bpftrace", "-B", "line", str(script)], stdout=out)
    try:
        wait_for(lambda: b"anchor" in capture.read_bytes(), 30, "the probe is attached")
        for name, each in names.items():
            incoming = name == "destination"
            running.append(
                Qemu(name, tmp_path, working_set_mib=47, incoming=incoming, binary=binary, trace=(), uuid=each)
            )
        source = running[1]
        source.migrate()
        source.wait_until_synced(4)
        source.command("migrate-set-parameters", max_bandwidth=1024 * _MIB)
        truth = source.wait_until("completed")
        probe.terminate()
        probe.wait(timeout=30)
        # While the processes are still there to be asked for their names.
        replay = subprocess.run(
            [sys.executable, "-m", "qemu_migration_exporter", "replay", "-", "--report=json", "--strict"],
            input=capture.read_bytes(),
            stdout=subprocess.PIPE,
            check=True,
        )
    finally:
        probe.kill()
        probe.wait()
        for qemu in running:
            qemu.quit()

    migrations = {each["side"]: each for each in json.loads(replay.stdout)["migrations"]}
    outgoing = migrations["source"]
    assert {side: (each["vm"], each["uuid"]) for side, each in migrations.items()} == {n: (n, names[n]) for n in names}
    assert len(json.loads(replay.stdout)["migrations"]) == 2
    assert outgoing["result"] == migrations["destination"]["result"] == "completed"
    assert outgoing["bitmap_syncs"] == truth["ram"]["dirty-sync-count"]
    assert outgoing["transferred_bytes"] == pytest.approx(truth["ram"]["precopy-bytes"], rel=1e-4)
    for key, said in (("duration", "total-time"), ("setup", "setup-time"), ("downtime", "downtime")):
        seconds = truth[said] / 1_000
        assert outgoing[f"{key}_seconds"] == pytest.approx(seconds, abs=max(0.005, 0.02 * seconds)), key


@pytest.mark.timeout(120)
def test_long_texts_are_whole(tmp_path: Path) -> None:
    """All capabilities of 7.2 in one command, texts around the length of a piece, and the longest text."""
    capabilities = json.dumps({"capabilities": [{"capability": f"c{n:030d}", "state": True} for n in range(16)]})
    texts = [capabilities, "", *("t" * length for length in (1, 62, 63, 64, 126, 2016, 2500))]
    binary, script, capture = tmp_path / "qemu", tmp_path / "probe.bt", tmp_path / "capture"
    subprocess.run(["gcc", "-O1", "-x", "c", "-", "-o", binary], input=_PROGRAM, text=True, check=True)
    script.write_text(bpftrace_script(binary))
    program = subprocess.Popen([binary], stdin=subprocess.PIPE)
    with capture.open("wb") as out:
        probe = subprocess.Popen(["bpftrace", "-B", "line", script], stdout=out)
    try:
        wait_for(lambda: b"anchor" in capture.read_bytes(), 30, "the probe is attached")
        program.communicate("".join(f"{text}\n" for text in texts).encode())
        wait_for(lambda: capture.read_bytes().count(b"migrate_error") == len(texts), 30, "all is printed")
    finally:
        for process in (program, probe):
            process.kill()
            process.wait()

    lines = capture.read_text().splitlines()
    for name, before in (("qmp_enter_migrate_set_capabilities", ""), ("migrate_error", "error=")):
        printed = [line.partition(f" {name} ")[2] for line in lines if f" {name} " in line]
        assert printed == [before + text[:2016] for text in texts]
