"""Session of pytest that collects tests once, and runs some of them for each mutant.

    collection ─▶ fork: all tests, with coverage ─▶ tests by line
               ─▶ fork per mutant: its functions get other code, the tests that run the changed line, fastest first

A fork needs milliseconds, an import of the package and its tests seconds. Lines that run at import have had their
effect already when the fork begins, so that their mutants need an import; see `tests.mutation.__main__`.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, partial
from itertools import accumulate
from multiprocessing.connection import Connection
from pathlib import Path
from types import CodeType, FunctionType
from typing import Final, NamedTuple

import pytest

#: Context of the lines that run before the first test.
_AT_IMPORT: Final = ""

#: Processor time after which a test of a mutant counts as endless: a part that is fixed, and a multiple of its usual.
_SECONDS: Final = 5.0
_TIMES: Final = 10.0

#: Beginnings of the modules whose caches a test may fill for the next.
_CACHING: Final = ("qemu_migration_exporter", "tests")

#: Processor time of the tests tried with one mutant: a mutant that survives so many fast tests needs one of its own.
_ENOUGH: Final = 25.0

_Change = tuple[FunctionType, CodeType]


class Tests(NamedTuple):
    """Tests that run the lines of a mutant, the fastest first.

    Attributes:
        is_at_import: The lines run at import too.
    """

    names: list[str]
    is_at_import: bool


class Covering:
    """Tests by the lines they run."""

    def __init__(self, file: Path) -> None:
        recorded = json.loads(file.read_text(encoding="utf-8"))
        self.seconds: dict[str, float] = recorded["seconds"]  # at import first, then the fastest first
        self._names = [*self.seconds]
        self._modules: dict[str, dict[str, list[int]]] = recorded["modules"]

    def tests(self, subject: str, lines: range) -> Tests:
        """Return the fastest tests that run these lines, else of those that run the module, else of all."""
        by_line = self._modules.get(subject, {})
        found = {place for line in lines for place in by_line.get(str(line), ())}
        is_at_import = not found or 0 in found
        if is_at_import:
            found = {place for places in by_line.values() for place in places}
        names = [self._names[place] for place in sorted(found - {0}) or range(1, len(self._names))]
        spent = accumulate(self.seconds[name] for name in names)
        return Tests(
            [name for name, seconds in zip(names, spent, strict=True) if seconds <= _ENOUGH] or names[:1], is_at_import
        )


class First:
    """Plugin of pytest that runs some of the collected tests first, or these alone."""

    def __init__(self, names: list[str], *, alone: bool) -> None:
        self._names = names
        self._alone = alone

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the collected tests in order."""
        first = _in_order(items, self._names)
        others = set() if self._alone else set(items) - set(first)
        items[:] = [*first, *(item for item in items if item in others)]


class Serving:
    """Plugin of pytest that answers requests instead of running the collected tests."""

    def __init__(self, package: Path, file: Path, connection: Connection) -> None:
        os.environ["COVERAGE_CORE"] = "ctrace"  # the core that knows contexts
        from coverage import Coverage  # noqa: PLC0415 - reads the environment when imported

        self._package = package
        self._file = file
        self._connection = connection
        self._coverage = Coverage(data_file=None, config_file=False, source=[str(package)])
        self._coverage.start()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Record all tests, then run the tests of each mutant."""
        failed = self._fork(lambda: self._record(session))
        self._coverage.stop()
        self._connection.send(failed)
        functions = self._functions()
        with suppress(EOFError):
            while not failed:
                subject, tree, chosen = self._connection.recv()
                path = str(self._package / subject)
                changed = _changed(functions.get(path, []), compile(tree, path, "exec"))
                run = partial(self._try, session, changed, chosen)
                self._connection.send(self._fork(run) if changed else None)
        return True

    @staticmethod
    def _fork(run: Callable[[], None]) -> bool:
        """Run in a fork; return whether it failed."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run()
                status = 0
            finally:
                os._exit(status)
        return os.waitpid(child, 0)[1] != 0

    def _record(self, session: pytest.Session) -> None:
        began: dict[str, float] = {}
        forget = _caches()

        def begin(test: str) -> None:
            forget()
            began[test] = time.process_time()
            self._coverage.switch_context(test)

        _run(session.items, begin)
        assert not session.testsfailed
        self._coverage.stop()
        names, times = [*began], [*began.values()]
        seconds = {name: end - start for name, start, end in zip(names, times, times[1:], strict=False)}
        seconds = {_AT_IMPORT: 0.0} | dict(sorted(seconds.items(), key=lambda item: item[1]))
        place = {name: place for place, name in enumerate(seconds)}
        data = self._coverage.get_data()
        modules = {
            str(Path(module).relative_to(self._package)): {
                line: sorted(place[name] for name in found) for line, found in data.contexts_by_lineno(module).items()
            }
            for module in data.measured_files()
        }
        self._file.write_text(json.dumps({"seconds": seconds, "modules": modules}), encoding="utf-8")

    def _functions(self) -> dict[str, list[FunctionType]]:
        """Return all functions of the package by their module's path."""
        found: dict[str, list[FunctionType]] = {}
        for function in gc.get_objects():
            if isinstance(function, FunctionType):
                found.setdefault(function.__code__.co_filename, []).append(function)
        return found

    def _try(self, session: pytest.Session, changed: list[_Change], chosen: dict[str, float]) -> None:
        """Run the chosen tests with other code in some functions, and fail at the first that fails."""
        for function, code in changed:
            function.__code__ = code
        _caches()()

        def begin(test: str) -> None:
            used = resource.getrusage(resource.RUSAGE_SELF)
            seconds = int(used.ru_utime + used.ru_stime + _SECONDS + _TIMES * chosen.get(test, 0.0))
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
            assert not session.testsfailed

        _run(_in_order(session.items, chosen), begin)
        assert not session.testsfailed


def _caches() -> Callable[[], None]:
    """Return a function that empties all caches, which hide that a test runs a line, or what a mutant does."""
    kind = type(cache(_in_order))
    found = [each for each in gc.get_objects() if isinstance(each, kind) and each.__module__.startswith(_CACHING)]

    def forget() -> None:
        for each in found:
            each.cache_clear()

    return forget


def _in_order(items: Iterable[pytest.Item], names: Iterable[str]) -> list[pytest.Item]:
    """Return the items with these names, in the order of the names."""
    by_name = {item.nodeid: item for item in items}
    return [by_name[name] for name in names]


def _run(items: list[pytest.Item], begin: Callable[[str], object]) -> None:
    """Run tests; `begin` is called before each test, and at the end with an empty name."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        begin(item.nodeid)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    begin(_AT_IMPORT)


def _changed(functions: Iterable[FunctionType], mutant: CodeType) -> list[_Change]:
    """Return the functions that differ in a mutant of their module, and their code there; empty if that cannot be."""
    codes = {_key(code): code for code in _codes(mutant)}
    found = [(function, codes.get(_key(function.__code__), function.__code__)) for function in functions]
    changed = [(function, code) for function, code in found if code != function.__code__]
    has_same_variables = all(code.co_freevars == function.__code__.co_freevars for function, code in changed)
    return changed if has_same_variables else []


def _key(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of all functions."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
