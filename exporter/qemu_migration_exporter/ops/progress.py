"""Progress bar of a long replay, on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from qemu_migration_exporter.ops.sanitize import escape_control

if TYPE_CHECKING:
    from rich.progress import Progress

#: Shorter replays have no bar, which would only flicker.
_VISIBLE_AFTER_SECONDS: Final = 1.0


class Chunked(Protocol):
    """Data that is read in chunks.

    Attributes:
        size: Number of bytes, None if unknown.
        read: Bytes read so far.
    """

    name: str
    size: int | None

    @property
    def read(self) -> int: ...

    def chunks(self) -> Iterator[bytes]: ...


@contextmanager
def progress(recording: Chunked) -> Iterator[Iterator[bytes]]:
    """Yield a recording's chunks, and show a bar on a terminal if they take long."""
    bar: Progress | None = None
    began = time.monotonic()

    def chunks() -> Iterator[bytes]:
        nonlocal bar
        for chunk in recording.chunks():
            yield chunk
            if bar is None and time.monotonic() - began > _VISIBLE_AFTER_SECONDS and sys.stderr.isatty():
                bar = _bar()
                bar.add_task(escape_control(recording.name), total=recording.size)
                bar.start()
            if bar is not None:
                bar.update(bar.task_ids[0], completed=recording.read)

    try:
        yield chunks()
    finally:
        if bar is not None:
            bar.stop()


def _bar() -> Progress:
    from rich.console import Console  # noqa: PLC0415 - rich takes 50 ms and 6 MiB
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
