"""File systems on which inotify reports every write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from qemu_migration_exporter.sources.files import mounts

_DEVICE = os.makedev(8, 1)


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ("36 35 8:1 / /var rw shared:1 - ext4 /dev/sda1 rw", True),
        ("36 35 8:1 / /var rw - tmpfs tmpfs rw", True),
        ("36 35 8:1 / /var rw - nfs4 server:/var rw", False),
        ("36 35 8:1 / /var rw shared:1 master:2 - ceph mon:/ rw", False),
        ("36 35 8:1 / /var rw - fuse /dev/fuse rw", False),
        ("36 35 8:1 / /var rw - fuse.bindfs bindfs rw", False),
        ("36 35 8:1 / /var/nfs4 rw - xfs nfs4 rw", True),
        ("36 35 8:2 / /var rw - nfs server:/var rw", True),
        ("", True),
    ],
    ids=["ext4", "tmpfs", "nfs4", "ceph", "fuse", "bindfs", "named nfs4", "another device", "no mounts"],
)
def test_file_system_decides_on_notices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mount: str, *, expected: bool
) -> None:
    """See proc_pid_mountinfo(5)."""
    list_of_mounts = tmp_path / "mountinfo"
    list_of_mounts.write_text(f"22 1 0:21 / /proc rw - proc proc rw\n{mount}\n")
    monkeypatch.setattr(mounts, "_MOUNTINFO", list_of_mounts)
    mounts.notifies.cache_clear()

    assert mounts.notifies(_DEVICE) is expected
    mounts.notifies.cache_clear()


def test_hidden_mounts_notify_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling is always right."""
    monkeypatch.setattr(mounts, "_MOUNTINFO", tmp_path / "none")
    mounts.notifies.cache_clear()

    assert not mounts.notifies(_DEVICE)
    mounts.notifies.cache_clear()
