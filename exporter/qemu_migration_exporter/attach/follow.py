"""Attach to every machine that starts or arrives, for as long as the process runs.

`virsh event` blocks until libvirt reports an event, so waiting costs no CPU time. A lifecycle event only triggers a
comparison with the list of running machines. When libvirtd ends, `virsh event` ends too, and is started again with a
growing pause.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Final

from qemu_migration_exporter.attach.attacher import Attacher
from qemu_migration_exporter.attach.virsh import Domain, Virsh, VirshError

logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 60.0


def follow(
    virsh: Virsh,
    attacher: Attacher,
    *,
    only: frozenset[str] = frozenset(),
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Attach to running machines, then to every later one; return only by an exception.

    Args:
        virsh: The connection.
        attacher: Enables the events.
        only: Names or UUIDs of the machines to attach to; empty for all.
        pause: Sleeps between attempts to reach libvirt.
    """
    attached: set[tuple[str, int]] = set()
    seconds = _FIRST_PAUSE_SECONDS
    while True:
        try:
            with _events(virsh) as events:
                _attach_new(virsh, attacher, only, attached)
                seconds = _FIRST_PAUSE_SECONDS
                for line in events:
                    if "'lifecycle'" in line:
                        _attach_new(virsh, attacher, only, attached)
            logger.warning("libvirt closed the event stream, connecting again: retry_seconds=%g", seconds)
        except VirshError as error:
            logger.warning("libvirt not reachable, retrying: error=%s retry_seconds=%g", error, seconds)
        pause(seconds)
        seconds = min(2 * seconds, _LONGEST_PAUSE_SECONDS)


def _attach_new(virsh: Virsh, attacher: Attacher, only: frozenset[str], attached: set[tuple[str, int]]) -> None:
    """Attach to new machines. A failure is logged, and the next event tries again."""
    running = [domain for domain in virsh.running() if not only or {domain.name, domain.uuid} & only]
    attached &= {_key(domain) for domain in running}
    for domain in running:
        if _key(domain) in attached:
            continue
        try:
            if virsh.is_arriving(domain):
                continue  # libvirt reports its arrival with another event
            outcome = attacher.apply(domain)
        except VirshError as error:
            logger.warning("attach failed: vm=%s error=%s", domain.name, error)
        else:
            attached.add(_key(domain))
            logger.info("attached: vm=%s events=%d", domain.name, outcome.events)


def _key(domain: Domain) -> tuple[str, int]:
    return domain.uuid, domain.number


@contextmanager
def _events(virsh: Virsh) -> Iterator[IO[str]]:
    """Yield the lines of `virsh event` until the connection ends."""
    try:
        process = subprocess.Popen(  # noqa: S603 - virsh, with arguments of our own
            virsh.command("event", "--all", "--loop"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the list of machines, asked for next, fails with the same message
            text=True,
            errors="surrogateescape",
            bufsize=1,
        )
    except FileNotFoundError as error:
        raise VirshError(f"{error.filename}: command not found; install libvirt-clients") from error
    try:
        assert process.stdout is not None  # noqa: S101 - opened above
        yield process.stdout
    finally:
        process.terminate()
        process.wait()
