"""Reasons for which the lines of a stream are not understood."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.parsing.hints import Hint, recognise
from qemu_migration_exporter.core.parsing.trace_events import LAYOUTS
from qemu_migration_exporter.core.parsing.vocabulary import vocabulary


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("qemu-kvm 4001 [002] 12.5: sdt_qemu:migrate_set_state: (55d0c0ffee00) arg1=1", Hint.PERF_SCRIPT),
        ("qemu-kvm 4001 [002] 12.5: probe_qemu-system-x86_64:savevm_state_iterate: (55d0)", Hint.PERF_SCRIPT),
        ("qemu-kvm 4001 [002] 12.5: sdt_qemu:qio_task_new: (55d0c0ffee00)", None),
        ("usdt:/usr/bin/qemu-system-x86_64:qemu:migrate_set_state", Hint.BPFTRACE_OWN),
        ("usdt:/usr/bin/qemu-system-x86_64:qemu:qio_task_new", None),
        ("2026-11-27 17:44:52.443+0000: 900: debug : qemuProcessStart:7 : x", Hint.LIBVIRTD_DEBUG),
        ("2026-11-27 17:44:52.443+0000: initiating migration", Hint.MIGRATED),
        ("2026-11-27 17:44:52.443+0000: shutting down, reason=migrated", Hint.MIGRATED),
        ("2026-11-27 17:44:52.443+0000: shutting down, reason=crashed", None),
        ("-trace 'enable=migrate_*' \\", Hint.TRACE_ENABLED),
        ("/usr/bin/kvm -S -trace events=/etc/qemu/events", Hint.TRACE_ENABLED),
        ("-trace qio_task_new", None),
        ("prose", None),
    ],
)
def test_line_of_noise_gives_its_hint(line: str, expected: Hint | None) -> None:
    assert expected is recognise(line.encode(), vocabulary(LAYOUTS))
