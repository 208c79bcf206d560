"""Mutants of a module: one small change of its syntax tree each.

    a < b → a <= b    a + b → a - b    and → or    not a → a    3 → 4    True → False    statement → pass
    3000 → 6000, as one more would hardly be a fault

Docstrings, logging, annotations and assertions are left alone: their mutants change no behaviour that a test should
hold. A return of nothing is left alone too: to its callers None is the same, and the type checker finds it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_COMPARED: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_CALCULATED: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip
#: A number of nanoseconds, or a bound of memory.
_LARGE: Final = 1_000
_LOGGED: Final = {"debug", "info", "warning", "error", "exception", "log"}


class Mutant(NamedTuple):
    """Changed source of a module.

    Attributes:
        lines: From the beginning of the changed statement to the end of the change.
    """

    line: int
    lines: range
    change: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    tree = ast.parse(source)
    nodes = list(_behaviour(tree))
    begin = 1
    for place, node in enumerate(nodes):
        if not isinstance(node, ast.stmt | ast.expr):
            continue
        begin = node.lineno if isinstance(node, ast.stmt) else begin
        for change, mutate in _changes(node):
            other = copy.deepcopy(tree)
            mutate(list(_behaviour(other))[place])
            ast.fix_missing_locations(other)
            end = node.test.end_lineno if isinstance(node, ast.If | ast.While) else node.end_lineno
            lines = range(begin, (end or begin) + 1)
            yield Mutant(node.lineno, lines, f"{change}: {ast.unparse(node)[:70]}", other)


def _behaviour(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that behaviour depends on."""
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "decorator_list"}:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_silent(child):
                yield child
                yield from _behaviour(child)


def _is_silent(node: ast.AST) -> bool:
    """Return whether a node is a docstring, an import, an assertion or a call of the logger."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip, which asserts equal lengths
        return True
    value = node.value if isinstance(node, ast.Expr) else None
    if isinstance(value, ast.Constant):
        return True
    function = value.func if isinstance(value, ast.Call) else None
    return isinstance(function, ast.Attribute) and function.attr in _LOGGED and ast.unparse(function.value) == "logger"


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    match node:
        case ast.Compare(ops=[compared]) if type(compared) in _COMPARED:
            yield "comparison", _set("ops", lambda: [_COMPARED[type(compared)]()])
        case ast.BinOp(op=calculated) if type(calculated) in _CALCULATED:
            yield "operator", _set("op", _CALCULATED[type(calculated)])
        case ast.BoolOp(op=joined):
            yield "and/or", _set("op", ast.Or if isinstance(joined, ast.And) else ast.And)
        case ast.IfExp(test=test) | ast.If(test=test) | ast.While(test=test):
            yield "condition", _set("test", lambda: ast.UnaryOp(ast.Not(), copy.deepcopy(test)))
        case ast.Constant(value=bool() as value):
            yield "constant", _set("value", lambda: not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", _set("value", lambda: value + 1 if abs(value) < _LARGE else value * 2)
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "statement", _skip
        case ast.Return(value=ast.expr() as returned) if not _is_empty(returned):
            yield "return", _set("value", lambda: ast.Constant(None))


def _is_empty(value: ast.expr) -> bool:
    """Return whether a value is None, False, or an empty tuple or list: the type checker keeps None away from it."""
    match value:
        case ast.Constant(value=None | False) | ast.Tuple(elts=[]) | ast.List(elts=[]):
            return True
    return False


def _set(field: str, make: Callable[[], object]) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, field, make())


def _skip(node: ast.AST) -> None:
    """Make a statement do nothing."""
    if isinstance(node, ast.AugAssign):
        node.op, node.value = ast.Add(), ast.Constant(0)
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(None)
