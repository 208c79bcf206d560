"""Mutants of a module: one small change of its syntax tree each.

    a < b → a <= b    a + b → a - b    and → or    not a → a    3 → 4    True → False    statement → pass

Docstrings, logging and annotations are left alone: their mutants change no behaviour that a test should hold.
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
_LOGGED: Final = {"debug", "info", "warning", "error", "exception", "log"}


class Mutant(NamedTuple):
    """Changed source of a module."""

    line: int
    change: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    tree = ast.parse(source)
    nodes = list(_behaviour(tree))
    for place, node in enumerate(nodes):
        for change, mutate in _changes(node):
            other = copy.deepcopy(tree)
            mutate(list(_behaviour(other))[place])
            yield Mutant(getattr(node, "lineno", 0), f"{change}: {ast.unparse(node)[:70]}", ast.unparse(other))


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
    """Return whether a node is a docstring, an import or a call of the logger."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
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
            yield "constant", _set("value", lambda: value + 1)
        case ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield "statement", _skip
        case ast.Return(value=ast.expr()):
            yield "return", _set("value", lambda: ast.Constant(None))


def _set(field: str, make: Callable[[], object]) -> Callable[[ast.AST], None]:
    return lambda node: setattr(node, field, make())


def _skip(node: ast.AST) -> None:
    """Make a statement do nothing."""
    if isinstance(node, ast.AugAssign):
        node.op, node.value = ast.Add(), ast.Constant(0)
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(None)
