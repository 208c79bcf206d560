"""Tell systemd how the daemon is: READY, STATUS, WATCHDOG, RELOADING, STOPPING. Nothing happens without systemd.

Source: sd_notify(3): one datagram to the socket named in NOTIFY_SOCKET.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """A connection to the service manager, if there is one."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):
            self._address = f"\0{self._address[1:]}"
        try:
            self._watchdog_seconds = int(environment.get("WATCHDOG_USEC", "0")) / 1e6
        except ValueError:
            self._watchdog_seconds = 0.0

    @property
    def interval_seconds(self) -> float | None:
        """How often WATCHDOG=1 is due: twice in the time systemd waits for it; None where it does not wait."""
        return self._watchdog_seconds / 2 or None

    def tell(self, **fields: str) -> None:
        """Send fields such as `READY="1"`. A service manager that has gone is no reason to stop."""
        if not self._address:
            return
        message = "\n".join(f"{key}={value}" for key, value in fields.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
            try:
                datagrams.sendto(message.encode(), self._address)
            except OSError:
                self._address = ""
