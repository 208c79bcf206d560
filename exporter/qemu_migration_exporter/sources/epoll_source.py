"""Common part of the sources that read pipes and sockets."""

from __future__ import annotations

import select
from collections.abc import Collection

from qemu_migration_exporter.sources import Item, StatusChanged


class EpollSource:
    """Source behind an epoll descriptor, which stays readable while bytes are unread.

    Args:
        name: Name of the stream, or of the socket whose connections are streams.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._epoll = select.epoll()
        self._status: str | None = None
        self._items: list[Item] = []

    def fileno(self) -> int:
        return self._epoll.fileno()

    @property
    def pending(self) -> bool:
        """False: unread bytes keep the descriptor readable."""
        return False

    @property
    def behind(self) -> Collection[str]:
        """Empty: the kernel's buffer holds less than a moment of a live stream."""
        return ()

    def _drain_items(self) -> list[Item]:
        items, self._items = self._items, []
        return items

    def _set_status(self, reason: str) -> None:
        """Report a change: the stream is down for a reason, or up if there is none."""
        if self._status != reason:
            self._status = reason
            self._items.append(StatusChanged(self.name, not reason, reason))
