"""Run mutants of the modules that hold the state of streams: python -m tests.mutation [COUNT] [SEED].

Every mutant is a copy of the package with one module changed; the tests that cover it run against the copy until one
fails. A mutant that no test kills is printed: it needs a test, or a reason.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.mutation.mutants import Mutant, mutants
from tests.support.paths import PACKAGE, ROOT

#: Modules by path in the package, and the tests that hold their behaviour.
SUBJECTS: Final = {
    "pipeline.py": ("tests/integration/test_pipeline.py", "tests/integration/test_faults_isolation.py"),
    "sources/files/follow.py": ("tests/integration/test_sources_follow.py",),
    "sources/files/rotated_log.py": ("tests/integration/test_sources_follow.py",),
    "sources/files/rotation.py": ("tests/integration/test_sources_follow.py",),
    "sources/rotated_recording.py": ("tests/integration/test_rotated_recordings.py",),
    "sources/fifo.py": ("tests/integration/test_sources_fifo.py",),
    "sources/unix_socket.py": ("tests/integration/test_sources_unix_socket.py",),
    "sources/naming.py": ("tests/unit/sources",),
    "tracing/export/spool.py": ("tests/unit/tracing", "tests/integration/test_outage.py"),
    "core/stalls/convergence.py": ("tests/unit/stalls", "tests/property/test_properties.py"),
    "core/measures/rounds.py": ("tests/unit/measures", "tests/integration/test_truth.py"),
    "core/migration/outcome.py": ("tests/unit/migration", "tests/integration/test_truth.py"),
    "core/timeline/stream.py": ("tests/unit/timeline", "tests/integration/test_faults_clock.py"),
}
_SECONDS: Final = 120


def is_killed(subject: str, mutant: Mutant, directory: Path) -> bool:
    """Return whether a test fails with a mutant, or does not end."""
    package = directory / PACKAGE.name
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / subject).write_text(mutant.source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SUBJECTS[subject]]
    environment = {**os.environ, "PYTHONPATH": f"{directory}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, "-o", f"pythonpath={directory}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:  # a mutant that loops for ever is found
        return True
    return done.returncode != 0


def main(count: int, seed: int) -> int:
    """Run some mutants of each subject; print the survivors and the score."""
    chosen = random.Random(seed)  # noqa: S311 - repeatable, and no secret
    killed = survived = 0
    for subject in SUBJECTS:
        every = list(mutants((PACKAGE / subject).read_text(encoding="utf-8")))
        for mutant in chosen.sample(every, min(count, len(every))):
            with tempfile.TemporaryDirectory() as directory:
                if is_killed(subject, mutant, Path(directory)):
                    killed += 1
                else:
                    survived += 1
                    sys.stdout.write(f"survived: {subject}:{mutant.line}: {mutant.change}\n")
                    sys.stdout.flush()
    sys.stdout.write(f"{killed} of {killed + survived} mutants killed\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10, int(sys.argv[2]) if len(sys.argv) > 2 else 1))
