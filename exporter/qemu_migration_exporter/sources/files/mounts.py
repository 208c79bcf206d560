"""File systems on which inotify misses writes: those that another machine or process may change behind the kernel."""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

_REMOTE: Final = frozenset(
    {"9p", "afs", "ceph", "cifs", "gfs2", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"ocfs2", "smb3", "smbfs", "vboxsf", "virtiofs"}
)
_MOUNTINFO: Final = Path("/proc/self/mountinfo")


@lru_cache(maxsize=64)
def notifies(device: int) -> bool:
    """Return whether inotify reports every write on the file system with this `st_dev`.

    An unknown device is local: the subvolumes of btrfs have numbers that are not in the list of mounts.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        text = _MOUNTINFO.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        logger.debug("the list of mounts cannot be read: %s", error.strerror)
        return False
    for line in text.splitlines():
        # proc_pid_mountinfo(5): … major:minor … - type source options
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [wanted]:
            kind = rest.partition(" ")[0]
            return kind not in _REMOTE and not kind.startswith("fuse")
    return True
