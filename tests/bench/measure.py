"""Cost of a command: processor time and memory, as counted by the kernel when it ended."""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
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


#: How often it is looked how far a process has read; CPU seconds are counted in hundredths.
_SAMPLED_SECONDS: Final = 0.01


class Cost(NamedTuple):
    """Cost of a command over several runs.

    Attributes:
        cpu_seconds: Seconds of one core, user and system: the median.
        spread: Difference between the highest and the lowest, relative to the median.
        rss_mib: The most memory that was resident.
    """

    cpu_seconds: float
    spread: float
    rss_mib: float


def in_turn(commands: Mapping[str, Sequence[str]], *, times: int) -> dict[str, Cost]:
    """Run commands one after the other, all of them so many times over: a disturbance hits them all.

    Raises:
        RuntimeError: One failed.
    """
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(times):
        for name, command in commands.items():
            runs[name].append(_run(command))
    return {name: _cost(each) for name, each in runs.items()}


def _cost(runs: Sequence[tuple[float, float]]) -> Cost:
    seconds = [cpu_seconds for cpu_seconds, _ in runs]
    median = statistics.median(seconds)
    return Cost(median, (max(seconds) - min(seconds)) / max(median, 1e-9), max(rss_mib for _, rss_mib in runs))


#: A process counts as its own the memory of the one that started it, up to its exec: this one is small. It writes the
#: kernel's counts, or the error messages of the command.
_LAUNCHER: Final = """
import os, sys
null = os.open(os.devnull, os.O_WRONLY)
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, null, 1)])
_, status, used = os.wait4(pid, 0)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _run(command: Sequence[str]) -> tuple[float, float]:
    # A program is measured as it is installed: its modules are compiled, and kept so.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launcher, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stderr[-500:]}")
    cpu_seconds, rss_mib = done.stdout.split()
    return float(cpu_seconds), float(rss_mib)


def along(command: Sequence[str], log: Path) -> list[tuple[int, float]]:
    """Run a command that reads a file; return how many CPU seconds it had used at which of its bytes, as it went on.

    Raises:
        RuntimeError: It failed.
    """
    samples = [(0, 0.0)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while process.poll() is None:
            with suppress(OSError):  # it may end in between
                at = _place_in(process.pid, log)
                if at is not None:
                    samples.append((at, of_process(process.pid)[0]))
            time.sleep(_SAMPLED_SECONDS)
        assert process.stderr is not None
        if process.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {process.stderr.read()[-500:]!r}")
    return samples


def _place_in(pid: int, log: Path) -> int | None:
    """Return the kernel's offset of a process in a file; None if the file is not open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        if descriptor.readlink() == log:
            account = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text(encoding="ascii")
            return int(account.split()[1])
    return None


def replay(log: Path, *options: str) -> Sequence[str]:
    """Replay a recording without a report."""
    return (COMMAND, "replay", "--report=none", *options, str(log))


def mtail(log: Path) -> Sequence[str]:
    """Run mtail over a log, with the program beside this file."""
    return (*MTAIL, f"--logs={log}")


def for_line(log: Path) -> Sequence[str]:
    """Count the lines in Python's own loop."""
    loop = "import sys\nlines = 0\nfor line in open(sys.argv[1], 'rb'):\n    lines += 1\n"
    return (sys.executable, "-c", loop, str(log))


def wc(log: Path) -> Sequence[str]:
    """Count the lines in C."""
    return ("wc", "-l", str(log))


def of_process(pid: int) -> tuple[float, float]:
    """Return the processor seconds a running process has used, and the MiB it has resident now."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_of_process(pid: int) -> float:
    """Return the most MiB that a running process has had resident."""
    peak = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(encoding="ascii"), re.MULTILINE)
    assert peak is not None
    return int(peak[1]) / 1024


def calls_per_second(calls: str, pid: int, seconds: float) -> float | None:
    """Count the system calls of a class that a process makes, such as `%stat`; None if strace is not installed."""
    if shutil.which("strace") is None:
        return None
    command = ["timeout", "--signal=INT", str(seconds), "strace", "-f", "-q", "-e", f"trace={calls}", "-p", str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return len([line for line in done.stderr.splitlines() if "(" in line and " = " in line]) / seconds
