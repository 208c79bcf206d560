"""Notifications to systemd."""

from __future__ import annotations

import socket
from contextlib import closing, suppress
from pathlib import Path

from qemu_migration_exporter.ops.errors import Component, ErrorCounter
from qemu_migration_exporter.ops.systemd import Notifier


def _notifying(address: str, failures: ErrorCounter | None = None) -> closing[Notifier]:
    return closing(Notifier({"NOTIFY_SOCKET": address}, failures))


def test_fields_reach_notify_socket(tmp_path: Path) -> None:
    """One datagram, a field a line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with _notifying(str(tmp_path / "notify")) as notifier:
            notifier.notify(READY="1", STATUS="3 streams")

        assert manager.recv(1000) == b"READY=1\nSTATUS=3 streams"


def test_abstract_socket_is_notified() -> None:
    """Written with @ in front."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0qemu-migration-exporter-test")
        with _notifying("@qemu-migration-exporter-test") as notifier:
            notifier.notify(WATCHDOG="1")

        assert manager.recv(1000) == b"WATCHDOG=1"


def test_without_systemd_nothing_is_sent() -> None:
    """No variable, no socket."""
    failures = ErrorCounter()
    notifier = Notifier({}, failures)
    notifier.notify(READY="1")
    notifier.close()

    assert failures.counts()[Component.NOTIFY] == 0


def test_unsent_fields_are_sent_next_time(tmp_path: Path) -> None:
    """The failure is counted; READY, which is sent once, is not lost."""
    failures = ErrorCounter()
    with _notifying(str(tmp_path / "notify"), failures) as notifier:
        notifier.notify(READY="1", STATUS="1 stream")
        assert failures.counts()[Component.NOTIFY] == 1
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            notifier.notify(STATUS="2 streams")

            assert manager.recv(1000) == b"READY=1\nSTATUS=2 streams"


def test_busy_manager_is_not_waited_for(tmp_path: Path) -> None:
    """If its queue is full, the last status is sent as soon as there is room."""
    failures = ErrorCounter()
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        _notifying(str(tmp_path / "n"), failures) as notifier,
    ):
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(0)
        number = 0
        while not failures.counts()[Component.NOTIFY]:
            number += 1
            notifier.notify(STATUS=str(number))
        with suppress(BlockingIOError):
            while manager.recv(1000):
                pass
        notifier.notify(WATCHDOG="1")

        assert manager.recv(1000) == f"STATUS={number}\nWATCHDOG=1".encode()
