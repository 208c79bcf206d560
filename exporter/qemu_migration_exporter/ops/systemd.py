"""Notifications to systemd: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Without systemd they do nothing.

Source: sd_notify(3). A message is one datagram to the socket in NOTIFY_SOCKET.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from qemu_migration_exporter.ops.errors import Component, ErrorCounter


class Notifier:
    """A connection to the service manager, if there is one.

    The socket is opened at once, because later there may be no file descriptor left, and the watchdog kills a silent
    daemon.

    Raises:
        OSError: There is no file descriptor left.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, failures: ErrorCounter | None = None) -> None:
        self._failures = failures or ErrorCounter()
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = f"\0{self._address[1:]}"
        self._socket = (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) if self._address else None
        )
        self._unsent: dict[str, str] = {}

    def notify(self, **fields: str) -> None:
        """Send fields such as `READY="1"`.

        If the service manager is away or busy, the fields are sent with the next call.
        """
        if self._socket is None:
            return
        self._unsent |= fields
        message = "\n".join(f"{key}={value}" for key, value in self._unsent.items())
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            self._failures.record(Component.NOTIFY, "systemd notification failed: %s", error.strerror)
        else:
            self._unsent.clear()

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
