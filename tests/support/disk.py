"""A disk of a few kilobytes, which only one process sees: it can be filled, made read-only and mended under it."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

_KIB: Final = 1024


class SmallDisk:
    """A tmpfs in a mount namespace of its own, which is gone with the process that is run `under` it.

    Args:
        directory: Where that process sees it.
        kib: Its size.
    """

    def __init__(self, directory: Path, *, kib: int) -> None:
        directory.mkdir()
        self._directory = directory
        self._namespace = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
        mount = f'mount -t tmpfs -o size={kib}k tmpfs "$0" && exec "$@"'
        self.under = [*self._namespace, "sh", "-c", mount, str(directory)]
        self._process: int | None = None

    def need(self) -> None:
        """Skip the test without the right to mount; with `CI` set, fail."""
        done = subprocess.run([*self.under, "true"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            assert not os.environ.get("CI"), done.stderr
            pytest.skip(f"no disk can be mounted: {done.stderr.strip()}")

    def of(self, process: int) -> None:
        """Look at it with the eyes of the process that runs under it."""
        self._process = process

    @property
    def path(self) -> Path:
        """Path of the disk as seen by the tests."""
        return Path(f"/proc/{self._process}/root{self._directory}")

    def fill(self) -> None:
        """Leave no room for another byte."""
        with (self.path / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(_KIB))
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017 - that it fails is how it ends

    def empty(self) -> None:
        """Remove the file that filled the disk."""
        (self.path / "filler").unlink()

    def protect(self) -> None:
        """Make it read-only: another mount of it is laid over it, for this one has files open for writing."""
        self._as_root('mount --bind "$0" "$0" && mount -o remount,bind,ro "$0"')

    def unprotect(self) -> None:
        """Make it writable again."""
        self._as_root('umount "$0"')

    def _as_root(self, commands: str) -> None:
        enter = ["nsenter", f"--target={self._process}", "--mount", *([] if os.getuid() == 0 else ["--user"])]
        subprocess.run([*enter, "sh", "-c", commands, self._directory], check=True)
