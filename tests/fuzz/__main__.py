"""Fuzz one target, from the seeds on, for some time or some inputs.

    python -m tests.fuzz TARGET [--seconds=N | --runs=N] [--keep=DIRECTORY]

Coverage of the program itself guides what is tried next. An input that breaks a rule, or takes five seconds, ends the
run with a traceback and is written to DIRECTORY: its line belongs into a test's table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # no types; no wheel for each Python

with atheris.instrument_imports(include=["qemu_migration_exporter"]):
    from tests.fuzz import seeds
    from tests.fuzz.targets import TARGETS

#: An input of 4 KiB is read in milliseconds; what takes this long stops all streams of a daemon.
_PATIENCE_SECONDS = 5
_INPUT_BYTES = 4_096


def main() -> None:
    """Fuzz until it is enough; libFuzzer ends the process itself."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=0)
    parser.add_argument("--runs", type=int, default=-1)
    parser.add_argument("--keep", default=".")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        directory = Path(name)
        dictionary = seeds.write(options.target, directory)
        flags = [
            f"-dict={dictionary}",
            f"-max_len={_INPUT_BYTES}",
            f"-timeout={_PATIENCE_SECONDS}",
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-artifact_prefix={options.keep}/",
            "-seed=1",
            "-print_final_stats=1",
            "-rss_limit_mb=1024",
        ]
        corpus = directory / "corpus"
        corpus.mkdir()
        atheris.Setup([sys.argv[0], *flags, str(corpus), str(directory / "seeds")], TARGETS[options.target])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
