"""Lines about the life of QEMU and of its guest."""

from __future__ import annotations

import pytest
from qemu_migration_exporter.core.events import Event, GuestDescribed, QemuEnded, QemuStarted, SignalEvent
from qemu_migration_exporter.core.parsing.formats.lifecycle import parse
from qemu_migration_exporter.core.terms import Signal

UUID = "99ed4f3b-c9bd-412a-87be-913ab3dac955"
AT_NS = 1_795_801_492_443_000_000


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2026-11-27 17:44:52.443+0000: starting up libvirt version: 9.0.0", QemuStarted(AT_NS, None)),
        ("2026-11-27 17:44:52.443+0000: starting up", QemuStarted(AT_NS, None)),
        ("2026-11-27 17:44:52.443+0000: initiating migration", SignalEvent(AT_NS, None, Signal.INITIATED)),
        (
            "2026-11-27 17:44:52.443+0000: shutting down, reason=crashed",
            QemuEnded(AT_NS, None, "shutting down, reason=crashed"),
        ),
        ("2026-11-27 17:44:52.443+0000: shutting down\r", QemuEnded(AT_NS, None, "shutting down")),
        ("2026-11-27 17:44:52.443+0000: Domain id=9 is tainted: custom-argv", None),
        ("2026-02-30 17:44:52.443+0000: starting up", None),
        ("-name guest=web-42,debug-threads=on \\", GuestDescribed(None, None, "web-42", None, incoming=False)),
        ("-name 'guest=two words,process=x' \\", GuestDescribed(None, None, "two words", None, incoming=False)),
        ("-name guest=a,,b \\", GuestDescribed(None, None, "a,b", None, incoming=False)),
        ("-name old", GuestDescribed(None, None, "old", None, incoming=False)),
        ("-name guest=", None),
        ("-name 'guest=torn", None),
        (f"-uuid {UUID} \\", GuestDescribed(None, None, None, UUID, incoming=False)),
        ("-incoming defer \\", GuestDescribed(None, None, None, None, incoming=True)),
        ("-device virtio-balloon-pci,id=name \\", None),
        (
            f"LC_ALL=C PATH=/bin /usr/bin/kvm -S -name web -uuid {UUID} -incoming tcp:0:1",
            GuestDescribed(None, None, "web", UUID, incoming=True),
        ),
        (f"/usr/libexec/qemu-kvm -name web -uuid {UUID}", GuestDescribed(None, None, "web", UUID, incoming=False)),
        ("/usr/bin/qemu-system-x86_64 \\", None),
        (f"Lost are -uuid {UUID}", None),
        ("char device redirected to /dev/pts/4 (label charserial0)", None),
        (
            '{"timestamp": {"seconds": 1790000200, "microseconds": 160000}, "event": "STOP"}',
            SignalEvent(1_790_000_200_160_000_000, None, Signal.GUEST_STOPPED),
        ),
        (
            '{"timestamp": {"seconds": 1790000200, "microseconds": 1}, "event": "RESUME"}',
            SignalEvent(1_790_000_200_000_001_000, None, Signal.GUEST_RESUMED),
        ),
        ('{"timestamp": {"seconds": 1790000200, "microseconds": 1}, "event": "RESET"}', None),
        ("", None),
    ],
)
def test_log_line_is_life_event(line: str, expected: Event | None) -> None:
    assert expected == parse(line.encode())
