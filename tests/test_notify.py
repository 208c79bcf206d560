"""What systemd is told."""

from __future__ import annotations

import socket
from pathlib import Path

from exporter.notify import Notifier


def test_fields_go_to_the_service_managers_socket(tmp_path: Path) -> None:
    """One datagram, a field a line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).tell(READY="1", STATUS="3 streams")

        assert manager.recv(1000) == b"READY=1\nSTATUS=3 streams"


def test_an_abstract_socket_is_one_too() -> None:
    """Written with @ in front."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0qemu-migration-exporter-test")
        Notifier({"NOTIFY_SOCKET": "@qemu-migration-exporter-test"}).tell(WATCHDOG="1")

        assert manager.recv(1000) == b"WATCHDOG=1"


def test_without_systemd_or_after_it_nothing_happens(tmp_path: Path) -> None:
    """No variable, or nobody listens."""
    Notifier({}).tell(READY="1")
    gone = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    gone.tell(READY="1")
    gone.tell(STOPPING="1")


def test_the_watchdog_is_due_twice_in_its_time() -> None:
    """As sd_watchdog_enabled(3) advises; None where there is none."""
    assert Notifier({"WATCHDOG_USEC": "30000000"}).interval_seconds == 15.0
    assert Notifier({}).interval_seconds is None
    assert Notifier({"WATCHDOG_USEC": "soon"}).interval_seconds is None
