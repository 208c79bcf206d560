"""Migrations to look at: each scene is a Prometheus job with its hosts, and each host has logs that grow as in life.

Most logs come from the model of tests/bakeoff, which prints what QEMU 7.2 prints; the others are recordings. A log is
played in real time and dated now.
"""

from __future__ import annotations

import gzip
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.bakeoff.precopy import Guest, Precopy
from tests.support.paths import DATA

#: QEMU's `-msg timestamp=on`: process or thread, seconds since 1970, microseconds.
_DATED: Final = re.compile(rb"^(\d+)@(\d+\.\d{6}):")
_MIB: Final = 1 << 20
_SECONDS: Final = 900


@dataclass(frozen=True, slots=True)
class Vm:
    """The log of one virtual machine, and the seconds until its migration begins."""

    log: Callable[[], bytes]
    start: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One Prometheus job.

    Attributes:
        hosts: By the host's name, its virtual machines.
        shown: The dashboard of one migration is drawn for these, as (host, VM).
        dead: Hosts that do not answer.
    """

    name: str
    hosts: Mapping[str, Mapping[str, Vm]]
    shown: tuple[tuple[str, str], ...] = ()
    dead: tuple[str, ...] = ()


@dataclass(slots=True)
class Player:
    """Writer of logs, each line when its time has come."""

    began: float = field(default_factory=time.time)
    _waiting: list[tuple[float, int, Path, bytes]] = field(default_factory=list)

    def add(self, path: Path, vm: Vm) -> None:
        """Play a log into a file, which exists at once."""
        path.write_bytes(b"2026-11-22 22:39:13.610+0000: starting up libvirt version: 9.0.0, qemu version: 7.2.0\n")
        self._waiting += [
            (vm.start + after, number, path, line) for number, (after, line) in enumerate(_timed(vm.log()))
        ]
        self._waiting.sort(reverse=True)

    def step(self) -> None:
        """Write every line that is due."""
        due: dict[Path, list[bytes]] = {}
        while self._waiting and self.began + self._waiting[-1][0] <= time.time():
            after, _number, path, line = self._waiting.pop()
            stamp = b"%.6f" % (self.began + after)
            due.setdefault(path, []).append(_DATED.sub(rb"\g<1>@" + stamp + b":", line, count=1))
        for path, lines in due.items():
            with path.open("ab") as file:
                file.writelines(lines)


def _timed(log: bytes) -> Iterator[tuple[float, bytes]]:
    """Yield each line with its seconds since the first dated line; undated lines belong to the line before them."""
    first: float | None = None
    after = 0.0
    for line in log.splitlines(keepends=True):
        if dated := _DATED.match(line):
            first = float(dated[2]) if first is None else first
            after = float(dated[2]) - first
        yield after, line


def _model(guest: Guest) -> Callable[[], bytes]:
    return lambda: Precopy(guest, seconds=_SECONDS).run()


def _recording(name: str) -> Callable[[], bytes]:
    def log() -> bytes:
        raw = (DATA / name).read_bytes()
        return gzip.decompress(raw) if name.endswith(".gz") else raw

    return log


def _postcopy() -> bytes:
    """Return the log of a migration that goes to post-copy after a minute and stays there."""
    precopy = Precopy(Guest(hot=600, hot_rate=500, zero=900, bandwidth=lambda _second: 48), seconds=60).run()
    now = 1_700_000_060
    lines = [
        f"4100@{now + 0.1:.6f}:migrate_set_state new state postcopy-active",
        f"4100@{now + 0.2:.6f}:postcopy_start ",
    ]
    for second in range(1, _SECONDS):
        lines += [
            f"4100@{now + second:.6f}:savevm_state_iterate ",
            f"4100@{now + second:.6f}:migrate_transferred transferred {2 * _MIB} time_spent 100 bandwidth {_MIB // 50} max_size 0",
        ]
    return precopy + "\n".join(lines).encode() + b"\n"


def _changing(*rates: float) -> Callable[[float], float]:
    """Return a bandwidth in MiB/s that changes every twenty seconds."""
    return lambda second: rates[int(second / 20) % len(rates)]


_STUCK: Final = _model(Guest(hot=470, hot_rate=900, zero=3_000, bandwidth=_changing(118, 117, 119), noise=0.03))
_CAPPED: Final = _model(Guest(hot=47, hot_rate=400, zero=900, bandwidth=lambda _second: 32))
_SLOW: Final = _model(Guest(hot=30, hot_rate=18, cold=24_000, cold_rate=6, bandwidth=_changing(64, 62, 66), noise=0.04))
_LONG: Final = _model(Guest(hot=60, hot_rate=24, cold=50_000, cold_rate=4, bandwidth=_changing(60, 55), noise=0.04))
_QUICK: Final = _model(Guest(hot=20, hot_rate=8, cold=1_500, cold_rate=1, bandwidth=_changing(70), noise=0.02))
_NEAR: Final = _model(Guest(hot=160, hot_rate=52, cold=16_000, cold_rate=2, bandwidth=_changing(60, 62), noise=0.03))

SCENES: Final = (
    Scene(name="stuck", hosts={"hv-01": {"db-primary": Vm(_STUCK)}}, shown=(("hv-01", "db-primary"),)),
    Scene(
        name="finished",
        hosts={"hv-02": {"web-42": Vm(_recording("qemu-7.2-log-nonconverging.log"), start=40)}},
        shown=(("hv-02", "web-42"),),
    ),
    Scene(name="idle", hosts={"hv-03": {"quiet-1": Vm(lambda: b"")}}),
    Scene(
        name="ten",
        hosts={
            "hv-11": {
                "web-01": Vm(_QUICK, 60),
                "web-02": Vm(_SLOW, 5),
                "db-primary": Vm(_STUCK, 20),
                "build-7": Vm(_LONG, 10),
            },
            "hv-12": {
                "cache-3": Vm(_CAPPED, 35),
                "mail-1": Vm(_NEAR, 90),
                "web-03": Vm(_recording("qemu-7.2-log-destination-killed.log"), 80),
            },
            "hv-13": {
                "queue-2": Vm(_postcopy),
                "customer-1234-production-frontend": Vm(_SLOW, 120),
                "db-replica": Vm(_LONG, 2),
            },
        },
        shown=(("hv-12", "cache-3"), ("hv-13", "queue-2")),
    ),
    # Both ends of one real migration between two libvirt hosts; the destination's log begins first.
    Scene(
        name="ends",
        hosts={
            "hv-31": {"sped-up": Vm(_recording("libvirt/bed-sped-up.log.gz"), 30)},
            "hv-32": {"sped-up": Vm(_recording("libvirt/bed-sped-up.dst.log.gz"), 30)},
        },
        shown=(("hv-31", "sped-up"),),
    ),
    Scene(
        name="twice",
        hosts={"hv-21": {"web-1": Vm(_STUCK)}, "hv-22": {"web-1": Vm(_LONG, 15)}},
        shown=(("hv-22", "web-1"),),
        dead=("hv-23",),
    ),
)
