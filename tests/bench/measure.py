"""What a command costs: processor time and memory, as the kernel counted them when it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

COMMAND = str(Path(sys.executable).with_name("qemu-migration-exporter"))

#: It opens its port although it ends at the end of its log.
MTAIL: Final = (
    "mtail",
    "--one_shot",
    "--one_shot_format=prometheus",
    "--port=0",
    f"--progs={Path(__file__).with_name('migration.mtail')}",
)


class Cost(NamedTuple):
    """What one run took: seconds of one core, user and system, and the most memory that was resident."""

    cpu_seconds: float
    rss_mib: float


def run(*command: str, times: int = 1) -> Cost:
    """Run a command, several times if the machine is not quiet, and return the least it took.

    Raises:
        RuntimeError: It failed.
    """
    costs = [_run(command) for _ in range(times)]
    return Cost(min(cost.cpu_seconds for cost in costs), max(cost.rss_mib for cost in costs))


#: A process counts as its own the memory of the one that started it, up to its exec: this one is small. It writes what
#: the kernel counted, or what the command complained of.
_LAUNCHER: Final = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, used = os.wait4(pid, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _run(command: Sequence[str]) -> Cost:
    # A program is measured as it is installed: its modules are compiled, and kept so.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launcher, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    cpu_seconds, rss_mib = done.stdout.split()
    return Cost(float(cpu_seconds), float(rss_mib))


def replay(log: Path, *options: str, times: int = 1) -> Cost:
    """Replay a recording without a report."""
    return run(COMMAND, "replay", "--report=none", *options, str(log), times=times)


def mtail(log: Path, *, times: int = 1) -> Cost:
    """Let mtail make the metrics it can of a log, by the program beside this file."""
    return run(*MTAIL, f"--logs={log}", times=times)


def for_line(log: Path, *, times: int = 1) -> Cost:
    """Count the lines in Python's own loop."""
    loop = "import sys\nlines = 0\nfor line in open(sys.argv[1], 'rb'):\n    lines += 1\n"
    return run(sys.executable, "-c", loop, str(log), times=times)


def wc(log: Path, *, times: int = 1) -> Cost:
    """Count the lines in C."""
    return run("wc", "-l", str(log), times=times)


def of_process(pid: int) -> tuple[float, float]:
    """Return the processor seconds a running process has used, and the MiB it has resident now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20
