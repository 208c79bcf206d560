"""Tests of `probes.log`."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS
from qemu_migration_exporter.core.terms import Signal
from qemu_migration_exporter.probes import ProbeError, log_advice
from qemu_migration_exporter.probes.log import PATTERNS
from qemu_migration_exporter.probes.plan import is_printed

from tests.support.paths import DATA
from tests.support.qemu_binaries import LOGGED, write_qemu

#: Rare, and no harm done.
HARMLESS: Final = {
    "loadvm_state_switchover_ack_needed",
    "migration_completion_postcopy_end",
    "migration_completion_postcopy_end_after_complete",
    "migration_completion_postcopy_end_after_rp",
    "migration_completion_postcopy_end_before_rp",
    "qmp_enter_migrate_incoming",
    "qmp_enter_migrate_pause",
    "qmp_enter_migrate_set_capabilities",
    "savevm_section_skip",
    "savevm_state_resume_prepare",
    "vmstate_downtime_load",
}
NAMES: Final = (DATA / "qemu-trace-event-names.txt").read_text().splitlines()[1:]


def test_patterns_match_known_events() -> None:
    """Each event used, without page requests, and no event of each page or field."""
    on = {name for name in NAMES if any(fnmatchcase(name, pattern) for pattern in PATTERNS)}
    commands = {row.name for row in LAYOUTS if row.name.startswith("qmp_enter_")}
    used = commands | {row.name for row in LAYOUTS if is_printed(row) and row.meaning is not Signal.POSTCOPY_REQUEST}
    assert used <= set(NAMES)
    assert used <= on
    assert on - used <= HARMLESS
    assert all(any(fnmatchcase(name, pattern) for name in used) for pattern in PATTERNS)
    assert not {"migrat*", "migrate_*", "migration_*", "vmstate_*"} & set(PATTERNS)


def test_advice_is_events_file() -> None:
    advice = log_advice(None)
    assert [line for line in advice.splitlines() if not line.startswith("#")] == list(PATTERNS)
    assert all(len(line) < 1023 for line in advice.splitlines()), "QEMU reads 1023 bytes of a line"
    assert "0.7 million times a second" in advice


def test_advice_has_inline_arguments_first() -> None:
    """The command in the comments prints the XML alone: a `-trace` argument for each pattern."""
    advice = log_advice(None)
    (command,) = re.findall(r"sed -n\n# '([^']+)'", advice)
    xml = subprocess.run(["sed", "-n", command], input=advice, capture_output=True, text=True, check=True).stdout
    domain = ET.fromstring(xml)  # noqa: S314 - ours
    values = [each.get("value") for each in domain.findall(".//{http://libvirt.org/schemas/domain/qemu/1.0}arg")]
    assert values == [value for pattern in PATTERNS for value in ("-trace", pattern)]
    assert advice.index("<qemu:arg") < advice.index("-trace events=/etc/qemu/migration.events")
    assert "on every host" in advice[advice.index("</domain>") :]


def test_binary_without_log_is_refused(tmp_path: Path) -> None:
    """The message names the alternative."""
    assert "has that backend.\n" in log_advice(write_qemu(tmp_path / "qemu", [], text=LOGGED))
    assert "USDT probes too" in log_advice(write_qemu(tmp_path / "qemu", "7.2", text=LOGGED))
    with pytest.raises(ProbeError, match=r"no `log` trace backend.*`probe bpftrace`"):
        log_advice(write_qemu(tmp_path / "qemu", "7.2"))
    with pytest.raises(ProbeError, match="is it a QEMU"):
        log_advice(write_qemu(tmp_path / "qemu", []))
