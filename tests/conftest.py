"""Fixtures and options of all tests: the golden files and the flag that renews them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

from tests.support.paths import DATA
from tests.support.patience import patience

# The same examples every time, and no deadline: how fast a machine is says nothing about the program.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

GOLDEN = DATA / "golden"

#: The machine may become busier after the collection of the tests.
_SPARE = 3


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the flag that renews golden files."""
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files anew; review their diff like code"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Extend the time limit of every test by the load of the machine; a limit only ends a test that hangs."""
    ordinary = float(config.getini("timeout"))
    for item in items:
        marker = item.get_closest_marker("timeout")
        seconds = ordinary if marker is None else float(marker.args[0])
        item.add_marker(pytest.mark.timeout(_SPARE * patience(seconds)), append=False)


@pytest.fixture(name="assert_golden")
def _assert_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with the golden file of this name, or renew that with --update-golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")

        assert path.read_text(encoding="utf-8") == text

    return check
