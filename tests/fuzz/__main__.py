"""Fuzz one target, from the seeds on, for some time or some inputs.

    python -m tests.fuzz TARGET [--seconds=N | --runs=N] [--seed=N] [--keep=DIRECTORY]

Coverage of the core guides what is tried next. An input that breaks a rule, or takes two seconds of a
processor, ends the run with a traceback and is written to DIRECTORY: its line belongs into a test's table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # no types; no wheel for each Python

with atheris.instrument_imports(include=["qemu_migration_exporter.core"]):
    from tests.fuzz import seeds
    from tests.fuzz.targets import TARGETS

#: A dozen lines, which are read in milliseconds. Longer inputs take longer and find nothing more.
_INPUT_BYTES = 1_024

#: An input that takes this long stops all streams of a daemon.
_PROCESSOR_SECONDS = 2.0

#: A wait that has no end; a busy machine may take a minute for any input.
_WALL_SECONDS = 300


def main() -> None:
    """Fuzz until it is enough; libFuzzer ends the process itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", default=".")
    options = parser.parse_args()
    target = TARGETS[options.target]

    def timed(data: bytes) -> None:
        began = time.process_time()
        target(data)
        assert time.process_time() - began < _PROCESSOR_SECONDS

    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        directory = Path(name)
        dictionary = seeds.write(options.target, directory)
        flags = [
            f"-dict={dictionary}",
            f"-max_len={_INPUT_BYTES}",
            f"-timeout={_WALL_SECONDS}",
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-artifact_prefix={options.keep}/",
            f"-seed={options.seed}",
            "-print_final_stats=1",
            "-rss_limit_mb=1024",
        ]
        corpus = directory / "corpus"
        corpus.mkdir()
        atheris.Setup([sys.argv[0], *flags, str(corpus), str(directory / "seeds")], timed)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
