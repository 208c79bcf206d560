"""Run mutants of the modules that hold the state of streams: python -m tests.mutation [COUNT] [SEED] [PREFIX].

    sample of mutants ─▶ the tests that run the line, in a fork ─survived─▶ all tests of the module ─survived─▶ printed

COUNT mutants are tried per module whose path begins with PREFIX. The forks inherit the imported libraries, so a mutant
takes little more than its tests. A mutant that no test kills needs a test, or a reason.
"""

from __future__ import annotations

import ast
import importlib
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

import pytest

from tests.mutation.mutants import Mutant, mutants
from tests.mutation.session import Covering, First, Serving
from tests.support.paths import PACKAGE, ROOT
from tests.support.patience import patience

#: Tests of the core: of its modules, and of whole streams.
_CORE: Final = (
    "tests/unit/measures",
    "tests/unit/migration",
    "tests/unit/parsing",
    "tests/unit/probes",
    "tests/unit/stalls",
    "tests/unit/timeline",
    "tests/unit/tracking",
    "tests/integration/test_golden.py",
    "tests/integration/test_streams_truth.py",
    "tests/integration/test_truth.py",
    "tests/integration/test_versions_truth.py",
)
_OF_FILES: Final = (
    "tests/unit/sources",
    "tests/integration/test_sources_rotations.py",
    "tests/integration/test_sources_follow.py",
)

#: Beginnings of modules' paths in the package, and the tests that hold the behaviour of these modules.
SUBJECTS: Final = {
    "checkpoint": ("tests/unit/ops/test_checkpoint.py",),
    "core/": _CORE,
    "live_stream": ("tests/integration/test_pipeline.py",),
    "pipeline": ("tests/integration/test_pipeline.py", "tests/integration/test_faults_isolation.py"),
    "sinks": ("tests/integration/test_faults_isolation.py", "tests/integration/test_pipeline.py"),
    "state_store": ("tests/unit/ops/test_state_store.py", "tests/integration/test_faults_disk.py"),
    "sources/files/": _OF_FILES,
    "sources/epoll_source": ("tests/integration/test_sources_fifo.py", "tests/integration/test_sources_unix_socket.py"),
    "sources/recording": ("tests/unit/sources/test_recording.py", "tests/integration/test_rotated_recordings.py"),
    "sources/rotated_recording": ("tests/integration/test_rotated_recordings.py",),
    "sources/standard_input": ("tests/integration/test_sources_fifo.py",),
    "sources/fifo": ("tests/integration/test_sources_fifo.py",),
    "sources/unix_socket": ("tests/integration/test_sources_unix_socket.py",),
    "sources/command": ("tests/integration/test_sources_command.py",),
    "sources/liveness": ("tests/unit/sources",),
    "sources/procfs": ("tests/unit/sources",),
    "tracing/export/queued": ("tests/integration/test_outage.py",),
    "tracing/export/spool": ("tests/unit/tracing/test_spool.py", "tests/integration/test_outage.py"),
    "tracing/export/waiting": ("tests/integration/test_outage.py",),
    "tracing/export/": ("tests/unit/tracing",),
}

#: Libraries that the forks find imported.
_LIBRARIES: Final = (
    "hypothesis",
    "msgspec",
    "opentelemetry.exporter.otlp.proto.common.trace_encoder",
    "opentelemetry.sdk.trace",
    "prometheus_client",
)

#: Processor time after which a mutant counts as killed: it loops.
_PROCESSOR_SECONDS: Final = 120
_WALL_SECONDS: Final = 180.0


class Laboratory:
    """Copy of the package, in which one module at a time is replaced by a mutant."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._package = directory / PACKAGE.name
        shutil.copytree(PACKAGE, self._package, ignore=shutil.ignore_patterns("__pycache__"))
        self._writes = 0
        self._sessions: dict[tuple[str, ...], tuple[Connection, Covering]] = {}

    def source(self, subject: str) -> str:
        """Return the source of a module."""
        return (self._package / subject).read_text(encoding="utf-8")

    def is_killed(self, subject: str, mutant: Mutant, tests: tuple[str, ...]) -> bool:
        """Return whether one of the tests fails with a mutant, or does not end."""
        session, covering = self._session(tests)
        chosen = covering.tests(subject, mutant.lines)
        if not chosen.is_at_import:
            session.send((subject, mutant.tree, {name: covering.seconds[name] for name in chosen.names}))
            is_killed: bool | None = session.recv()  # None if the change needs an import
            if is_killed or (tests is _CORE and is_killed is not None):
                return is_killed
        original = self.source(subject)
        self._write(subject, ast.unparse(mutant.tree))
        try:
            return self._fails(tests, First(chosen.names, alone=tests is _CORE))
        finally:
            self._write(subject, original)

    def _session(self, tests: tuple[str, ...]) -> tuple[Connection, Covering]:
        """Return the session of some tests; fail if one fails without a mutant, as otherwise it kills every one."""
        if tests not in self._sessions:
            here, there = Pipe()
            if os.fork() == 0:
                here.close()
                file = self._directory / "covering.json"
                self._run(tests, lambda: Serving(self._package, file, there))
            there.close()
            assert not here.recv(), (self._directory / "log").read_text(encoding="utf-8")
            self._sessions[tests] = here, Covering(self._directory / "covering.json")
        return self._sessions[tests]

    def _write(self, subject: str, source: str) -> None:
        """Write a module with a time of its own, so that no compiled file of another source is used for it."""
        path = self._package / subject
        path.write_text(source, encoding="utf-8")
        self._writes += 1
        os.utime(path, (self._writes, self._writes))

    def _fails(self, tests: Iterable[str], plugin: object) -> bool:
        child = os.fork()
        if child == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (_PROCESSOR_SECONDS, _PROCESSOR_SECONDS))
            self._run(tests, lambda: plugin)
        deadline = time.monotonic() + patience(_WALL_SECONDS)
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return status != 0
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return True

    def _run(self, tests: Iterable[str], plugin: Callable[[], object]) -> None:
        """Run tests on the copy; does not return."""
        os.setpgid(0, 0)
        os.environ["PYTHONPATH"] = f"{self._directory}:{ROOT}"
        os.chdir(ROOT)
        os.dup2(os.open(self._directory / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
        os.dup2(1, 2)
        sys.path.insert(0, str(self._directory))
        for name in [name for name in sys.modules if name.startswith(("tests", "qemu_migration_exporter"))]:
            del sys.modules[name]
        status = 1
        options = ["-q", "-x", "-p", "no:cacheprovider", "-o", f"pythonpath={self._directory}"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # about the imported libraries
        try:
            status = pytest.main([*options, *tests], plugins=[plugin()])
        finally:
            sys.stdout.flush()
            os._exit(status)


def _subjects(prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the modules with behaviour, and their tests."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = str(path.relative_to(PACKAGE))
        tests = next((tests for beginning, tests in SUBJECTS.items() if name.startswith(beginning)), None)
        if tests is not None and name.startswith(prefix) and path.name != "__init__.py":
            yield name, tests


def main(count: int, seed: int, prefix: str) -> int:
    """Run some mutants of each module; print the survivors and the scores."""
    killed: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for library in _LIBRARIES:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory(prefix="mutants-") as directory:
        laboratory = Laboratory(Path(directory))
        for subject, tests in _subjects(prefix):
            every = list(mutants(laboratory.source(subject)))
            chosen = random.Random(f"{seed} {subject}")  # noqa: S311 - repeatable, and no secret
            group = "core" if subject.startswith("core/") else "spool, streams, sources"
            for mutant in chosen.sample(every, min(count, len(every))):
                is_killed = laboratory.is_killed(subject, mutant, tests)
                tried[group] += 1
                killed[group] += is_killed
                if not is_killed:
                    sys.stdout.write(f"survived: {subject}:{mutant.line}: {mutant.change}\n")
                    sys.stdout.flush()
    for group, number in tried.items():
        sys.stdout.write(f"{group}: {killed[group]} of {number} mutants killed ({killed[group] / number:.0%})\n")
    return 0


if __name__ == "__main__":
    given = sys.argv[1:] + ["10", "1", ""][len(sys.argv) - 1 :]
    sys.exit(main(int(given[0]), int(given[1]), given[2]))
