"""Stuck migrations of real QEMUs that end by the advice of their own reports: `python -m tests.e2e.stuck_qemus`.

Each guest in turn is migrated until its log is called stalled. At a random moment of the stall, a random command of the
report is given to QEMU over QMP, as it is written. The migration has to complete. Advice that gives up is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

from qemu_migration_exporter.cli import main as exporter

from tests.support.qemu import Qemu, wait_for

_MIB: Final = 1 << 20

#: Longest wait for the verdict and for the end, in seconds, and longest time between them.
_VERDICT_SECONDS: Final = 60
_END_SECONDS: Final = 30
_STALL_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest that never gets small enough by itself.

    Attributes:
        working_set_mib: What it dirties again and again.
        rate: MiB dirtied per second, 0 for as many as it can.
        bandwidth_mib: QEMU's cap.
        downtime_limit: In ms.
        postcopy: True if both ends may change to post-copy.
    """

    working_set_mib: int
    rate: float
    bandwidth_mib: int
    downtime_limit: int
    postcopy: bool = False


#: Bound by the cap, and by themselves: nothing caps 2 GiB/s here, so the guest is what keeps those from ending.
GUESTS: Final = (
    Guest(47, 0, 32, 300),
    Guest(120, 0, 4096, 5),
    Guest(24, 40, 16, 300),
    Guest(120, 0, 4096, 8, postcopy=True),
    Guest(12, 0, 8, 300, postcopy=True),
    Guest(128, 0, 4096, 4),
    Guest(96, 80, 24, 500),
    Guest(110, 0, 4096, 3, postcopy=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Outcome of one migration; without a command, the stall ended before one was given."""

    guest: Guest
    verdict_seconds: float
    stall_seconds: float
    state: str
    reason: str = "none any more"
    command: str | None = None
    end_seconds: float = 0.0
    downtime_ms: int | None = None

    def __str__(self) -> str:
        """Return a row of the table."""
        guest = self.guest
        return (
            f"| {guest.working_set_mib} MiB at {guest.rate or 'full speed'}, cap {guest.bandwidth_mib} MiB/s,"
            f" limit {guest.downtime_limit} ms | {self.reason} | {self.verdict_seconds:.1f} s"
            f" | {self.stall_seconds:.1f} s | `{self.command}` | {self.state} | {self.end_seconds:.1f} s"
            f" | {self.downtime_ms} ms |"
        )


def migrate(guest: Guest, chance: random.Random) -> Outcome:
    """Migrate a guest until it is stuck, follow its report's advice, and return what came of it."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as running:
        source, destination = (
            Qemu(
                side,
                Path(name),
                working_set_mib=guest.working_set_mib,
                dirty_mib_per_second=guest.rate,
                incoming=side == "destination",
            )
            for side in ("source", "destination")
        )
        running.callback(source.quit)
        running.callback(destination.quit)
        if guest.postcopy:
            for qemu in (source, destination):
                qemu.command("migrate-set-capabilities", capabilities=[{"capability": "postcopy-ram", "state": True}])
        source.migrate(max_bandwidth=guest.bandwidth_mib * _MIB, downtime_limit=guest.downtime_limit)
        begun = time.monotonic()
        wait_for(lambda: _verdict(source)["reason"] is not None, _VERDICT_SECONDS, f"{guest} is called stalled")
        called = time.monotonic()
        time.sleep(chance.uniform(0, _STALL_SECONDS))
        verdict, given = _verdict(source), time.monotonic()
        offered = [line.partition("QMP: ")[2] for line in verdict["advice"]]
        offered = [qmp for qmp in offered if "migrate_cancel" not in qmp]
        status = source.query()["status"]
        if status != "active" or not offered:
            # A guest that its host starves dirties less, and so gets small enough.
            return Outcome(guest=guest, verdict_seconds=called - begun, stall_seconds=given - called, state=status)
        command = chance.choice(offered)
        source.execute(json.loads(command))
        with contextlib.suppress(AssertionError):
            source.wait_until("completed", "failed", seconds=_END_SECONDS)
        truth = source.query()
        return Outcome(
            guest=guest,
            reason=verdict["reason"],
            verdict_seconds=called - begun,
            stall_seconds=given - called,
            command=command,
            state=truth["status"],
            end_seconds=time.monotonic() - given,
            downtime_ms=truth.get("downtime"),
        )


def _verdict(source: Qemu) -> dict[str, Any]:
    """Return the verdict of the report of a log that still grows."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exporter(["replay", str(source.log), "--report=json"])
    (migration,) = json.loads(out.getvalue())["migrations"]
    verdict: dict[str, Any] = migration["verdict"]
    return verdict


def main() -> int:
    """Print the table, and how many ended."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.stuck_qemus")
    parser.add_argument("count", type=int, nargs="?", default=10)
    parser.add_argument("seed", type=int, nargs="?", default=1)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)  # noqa: S311 - for choosing only
    tried = ended = 0
    print("| guest | reason | verdict after | given after | command | state | ended after | downtime |")  # noqa: T201
    print("|---|---|---|---|---|---|---|---|", flush=True)  # noqa: T201
    for guest in islice(cycle(GUESTS), arguments.count):
        outcome = migrate(guest, chance)
        tried += outcome.command is not None
        ended += outcome.command is not None and outcome.state == "completed"
        print(outcome, flush=True)  # noqa: T201
    print(f"{ended} of {tried} ended; {arguments.count - tried} were over before")  # noqa: T201
    return 0 if ended == tried else 1


if __name__ == "__main__":
    sys.exit(main())
