"""No failure is ignored: every handler of an exception raises another, logs it, counts it, or gives a reason in a comment."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import PACKAGE

_EXPORTER = PACKAGE

#: How it is told or counted: a record of the log, a failure of a part, a stream that is down, a line to the user.
_TELLING = {
    *("debug", "info", "warning", "error", "exception", "note", "record", "count"),
    *(
        "StatusChanged",
        "DataLost",
        "set_status",
        "_set_status",
        "_print",
        "_fail",
        "_complain",
        "_problem",
        "_mistake",
        "write",
    ),
}


def _handlers(tree: ast.AST) -> Iterator[tuple[ast.ExceptHandler | ast.With, list[ast.stmt]]]:
    """Yield the places that end an exception: handlers, and `suppress` with its body."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            yield node, node.body
        elif isinstance(node, ast.With) and any(_name(item.context_expr) == "suppress" for item in node.items):
            yield node, []


def _name(node: ast.AST) -> str:
    """Return the name of the called function, without its object."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_told(body: list[ast.stmt]) -> bool:
    nodes = [node for statement in body for node in ast.walk(statement)]
    return any(isinstance(node, ast.Raise) or _name(node) in _TELLING for node in nodes)


def _silent(source: str) -> list[int]:
    """Return the lines of handlers that neither tell nor explain: a comment is on their first line or in their body."""
    comments = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and not token.string.startswith("# noqa")
    }
    silent = []
    for node, body in _handlers(ast.parse(source)):
        lines = range(node.lineno, (body[0].lineno if body else node.lineno) + 1)
        if not _is_told(body) and not comments.intersection(lines):
            silent.append(node.lineno)
    return silent


@pytest.mark.parametrize("path", sorted(_EXPORTER.rglob("*.py")), ids=lambda path: str(path.relative_to(_EXPORTER)))
def test_handlers_report_or_justify(path: Path) -> None:
    """This holds for each module; an exception that is no failure has a comment."""
    assert [] == _silent(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("try:\n    f()\nexcept OSError:\n    pass\n", [3]),
        ("try:\n    f()\nexcept OSError:  # it was gone already\n    pass\n", []),
        ("try:\n    f()\nexcept OSError:  # noqa: BLE001\n    pass\n", [3]),
        ("try:\n    f()\nexcept OSError:\n    # It was gone already.\n    return\n", []),
        ("try:\n    f()\nexcept OSError as error:\n    logger.warning('%s', error)\n", []),
        ("try:\n    f()\nexcept OSError as error:\n    raise E from error\n", []),
        ("with suppress(OSError):\n    f()\n", [1]),
        ("with suppress(OSError):  # it was gone already\n    f()\n", []),
    ],
)
def test_ignoring_handler_is_found(source: str, lines: list[int]) -> None:
    """And one that does not, is not."""
    assert lines == _silent(source)
