"""Recordings of planned migrations: `python -m tests.bakeoff.record DIRECTORY NAME …` runs a pair of QEMUs for each.

A plan decides what its guest dirties, what its network carries and therefore whether the migration can end, before
anything runs. The guest (guest.S) reads the sets of pages and their rates from memory that this program shares with
QEMU. The network is a relay of this program between the two QEMUs, so that only the bytes that pass show its bandwidth.
The log keeps the events that concern rounds, and `labels.toml` gets the label of the plan and when it was helped.
"""

from __future__ import annotations

import argparse
import gzip
import mmap
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.bakeoff.relay import Relay
from tests.support.qemu import Qemu, wait_for

_MIB: Final = 1 << 20
_PAGES_PER_MIB: Final = 256
_SETS, _LAST_TICK_IN_SECTOR = 0x8000, 0x7C00

#: QEMU's events about rounds, and no others.
_TRACE: Final = (
    "migrate_set_state", "migrate_pending", "migrate_transferred", "migration_bitmap_sync_*", "migration_throttle",
    "migration_thread_setup_complete", "migration_thread_low_pending", "migration_thread_after_loop",
    "migration_completion_*", "migration_socket_outgoing_connected", "savevm_state_header",
    "savevm_state_complete_precopy", "postcopy_start", "qmp_enter_migrate*",
)  # fmt: skip

#: Timer ticks of the guest per second.
_TICKS: Final = 250

Command = tuple[str, Mapping[str, Any]]

CANCEL: Final[Command] = ("migrate_cancel", {})
LIFT: Final[Command] = ("migrate-set-parameters", {"max-bandwidth": 2048 * _MIB})


class Pages(NamedTuple):
    """Pages that a guest dirties.

    Attributes:
        first, size: In MiB.
        rate: In MiB/s.
        is_random: Written at random instead of in turn.
        is_elastic: A guest that runs less writes less, as auto-converge wants; otherwise it catches up.
    """

    first: float
    size: float
    rate: float
    is_random: bool = False
    is_elastic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A migration to record; times in s since `migrate`.

    Attributes:
        what: The guest and its network in words.
        label: What it can do: fine, stuck, calms or ambiguous.
        guest: Sets of pages that the guest dirties, by the time from which it does.
        memory, zero: MiB of the guest that are not zero, and that are.
        bandwidth: QEMU's cap in MiB/s.
        network: What the relay carries in MiB/s, by time; None for no relay.
        limit: Downtime limit in ms.
        capabilities, parameters: QEMU's, besides.
        commands: QMP commands by time.
        seconds, end: When a migration that has not ended is helped or cancelled, and how.
        calms: When the guest calms down by itself.
        unended: Label of a migration that was expected to end, and did not.
    """

    what: str
    label: str
    guest: Mapping[float, tuple[Pages, ...]]
    memory: int = 96
    zero: int = 15
    bandwidth: float = 32
    network: Callable[[float], float] | None = None
    limit: int = 300
    capabilities: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    commands: Mapping[float, Command] = field(default_factory=dict)
    seconds: float = 60
    end: Command = CANCEL
    calms: float | None = None
    unended: str = "stuck"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A migration that ran; times in s since `migrate`."""

    log: bytes
    helped_at: float | None
    state: str
    load: float

    def row(self, name: str, plan: Plan) -> str:
        """Write its row of labels.toml; a guest that was to be stuck and ended was starved by its host."""
        has_ended = self.helped_at is None
        label = plan.label if has_ended or plan.label in {"stuck", "ambiguous"} else plan.unended
        changed_at = plan.calms if label == "calms" else self.helped_at
        lines = [
            f'["{name}"]',
            'qemu = "Debian 7.2.22"',
            f'host = "{"busy" if self.load > 4 else "calm"}"',
            f'what = "{plan.what}"',
            f'label = "{label}"',
        ]
        if changed_at is not None:
            lines.append(f"changed_at = {changed_at:.3f}")
        if label == "stuck" and has_ended:
            lines.append("starved = true")
        return "\n".join(lines) + "\n"


def boot_sector() -> bytes:
    """Assemble the guest."""
    with tempfile.TemporaryDirectory() as name:
        objects, sector = Path(name) / "guest.o", Path(name) / "guest.bin"
        subprocess.run(["as", "--32", "-o", objects, Path(__file__).with_name("guest.S")], check=True)
        link = ["ld", "-m", "elf_i386", "-e", "0x7c00", "-Ttext", "0x7c00", "--oformat", "binary"]
        subprocess.run([*link, "-o", sector, objects], check=True)
        return sector.read_bytes()


class SharedGuest:
    """Memory of a guest, in which its sets of pages are written while it runs."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b")
        self._memory = mmap.mmap(self._file.fileno(), 0)
        self._ticks_per_second = 0.0

    def close(self) -> None:
        self._memory.close()
        self._file.close()

    def _last_tick(self) -> int:
        # `last` is the long before `seed`, after the interrupt table's register.
        place = self._memory.find(struct.pack("<H", 71), _LAST_TICK_IN_SECTOR, _LAST_TICK_IN_SECTOR + 510) + 6
        return int(struct.unpack_from("<I", self._memory, place)[0])

    def calibrate(self) -> None:
        """Measure the rate of the time-stamp counter that the guest sees."""
        wait_for(lambda: self._memory[0x7DFE:0x7E00] == b"\x55\xaa", 30, "the guest boots")
        wait_for(self._last_tick, 30, "the guest's timer ticks")
        first, begun = self._last_tick(), time.monotonic()
        time.sleep(0.5)
        self._ticks_per_second = ((self._last_tick() - first) % (1 << 32)) / (time.monotonic() - begun)

    def dirty(self, sets: tuple[Pages, ...]) -> None:
        """Replace the sets of pages that the guest dirties."""
        for index in range(4):
            pages = sets[index] if index < len(sets) else Pages(0, 0, 0)
            per_second = pages.rate * _PAGES_PER_MIB
            row = (
                round(pages.first * _PAGES_PER_MIB),
                round(pages.size * _PAGES_PER_MIB),
                round(per_second / _TICKS if pages.is_elastic else per_second * (1 << 32) / self._ticks_per_second),
                pages.is_random + 2 * pages.is_elastic,
            )
            struct.pack_into("<4I", self._memory, _SETS + 16 * index, *row)

    def fill(self, mib: int) -> None:
        """Wait until the guest wrote all of its first `mib` MiB beyond the first."""
        self.dirty((Pages(1, mib, 2_000),))
        wait_for(lambda: all(self._memory[(1 + place) * _MIB] for place in range(mib)), 60, "the guest fills memory")
        time.sleep(0.3)
        self.dirty(())


def record(plan: Plan, boot: bytes) -> Recording:
    """Run a plan."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name, ExitStack() as running:
        directory = Path(name)
        size = f"{1 + plan.memory + plan.zero}M"
        pair = []
        for side in ("source", "destination"):
            backend = f"memory-backend-file,id=ram,size={size},mem-path={directory}/{side}.ram,share=on"
            qemu = Qemu(
                side,
                directory,
                working_set_mib=0,
                incoming=side == "destination",
                trace=_TRACE if side == "source" else (),
                boot=boot,
                arguments=("-m", size, "-object", backend, "-machine", "memory-backend=ram"),
            )
            running.callback(qemu.quit)
            pair.append(qemu)
        source, _ = pair
        guest = SharedGuest(directory / "source.ram")
        running.callback(guest.close)
        guest.calibrate()
        guest.fill(plan.memory)
        if plan.capabilities:
            switched = [{"capability": name, "state": True} for name in plan.capabilities]
            for qemu in pair:
                qemu.command("migrate-set-capabilities", capabilities=switched)
        source.command(
            "migrate-set-parameters",
            **{"max-bandwidth": round(plan.bandwidth * _MIB), "downtime-limit": plan.limit, **plan.parameters},
        )
        address = directory / "migration.sock"
        if plan.network is not None:
            relay = Relay(directory / "relay.sock", address, plan.network)
            running.callback(relay.close)
            address = directory / "relay.sock"
        guest.dirty(plan.guest[min(plan.guest)])
        time.sleep(1)
        actions: list[tuple[float, Callable[[], Any]]] = [
            (at_s, lambda sets=sets: guest.dirty(sets))  # type: ignore[misc]
            for at_s, sets in plan.guest.items()
            if at_s > 0
        ]
        actions += [
            (at_s, lambda command=command: source.command(command[0], **command[1]))  # type: ignore[misc]
            for at_s, command in plan.commands.items()
        ]
        actions.sort(key=lambda action: action[0])
        load = os.getloadavg()[0]
        source.command("migrate", uri=f"unix:{address}")
        begun, helped_at = time.monotonic(), None
        while (state := source.query().get("status")) in {"setup", "active", "postcopy-active", "device"}:
            elapsed = time.monotonic() - begun
            while actions and actions[0][0] <= elapsed:
                actions.pop(0)[1]()
            if helped_at is None and elapsed >= plan.seconds:
                helped_at = time.monotonic() - begun
                source.command(plan.end[0], **plan.end[1])
            if elapsed > plan.seconds + 30:
                source.command("migrate_cancel")
            time.sleep(0.02)
        time.sleep(0.2)
        load = max(load, os.getloadavg()[0])
        log = source.log.read_bytes().replace(f"{directory}/".encode(), b"")
        return Recording(log=log, helped_at=helped_at, state=str(state), load=load)


def main() -> None:
    """Record the plans of these names, or all; or the plans drawn from a seed."""
    from tests.bakeoff.draws import drawn  # noqa: PLC0415
    from tests.bakeoff.plans import PLANS  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.bakeoff.record", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seed", type=int, help="draw plans; the names are their numbers")
    arguments = parser.parse_args()
    boot = boot_sector()
    if arguments.seed is None:
        plans = {name: PLANS[name] for name in arguments.names or PLANS}
    else:
        plans = dict(drawn(int(number), arguments.seed) for number in arguments.names)
    for name, plan in plans.items():
        done = record(plan, boot)
        with gzip.GzipFile(arguments.directory / f"{name}.log.gz", "wb", mtime=0) as out:
            out.write(done.log)
        with (arguments.directory / "labels.toml").open("a", encoding="utf-8") as labels:
            labels.write(done.row(name, plan) + "\n")
        print(f"{name}: {plan.label}, {done.state}, helped at {done.helped_at}, load {done.load}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
