"""Prose of the project: docstrings, comments and documents, and how often words occur in them.

`python -m tests.project.prose` prints the figures by file, worst first.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.paths import PACKAGE, ROOT


class Limit(NamedTuple):
    """Words that make a sentence hard to follow, and how often they may occur per 1,000 words."""

    name: str
    pattern: re.Pattern[str]
    per_thousand: float


LIMITS: Final = (
    Limit("what", re.compile(r"\bwhat\b", re.IGNORECASE), 2),
    Limit("say, tell, stand", re.compile(r"\b(?:say|says|said|tells?|told|stands?|stood)\b", re.IGNORECASE), 1.5),
    Limit("nobody, anew", re.compile(r"\b(?:nobody|somebody|whoever|none of|anew)\b", re.IGNORECASE), 0.5),
)

#: First words that make a docstring a riddle or an order without an object.
FIRST_WORDS: Final = frozenset(
    {"Say", "Take", "Note", "Give", "Let", "Name", "Tell", "What", "Who", "Where", "Whether", "Of", "By", "Nothing"}
)

_WORD: Final = re.compile(r"[A-Za-z][\w'-]*")
_CODE: Final = re.compile(r"```.*?```|`[^`\n]*`|^(?: {4}|\t).*$|\]\([^)]*\)|<[^>\n]+>", re.DOTALL | re.MULTILINE)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and text of each docstring of a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def comments(path: Path) -> Iterator[str]:
    """Yield the comments of a module, linters' directives left out."""
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.string.lstrip("#: ").split("noqa:", maxsplit=1)[0]


def of_code(path: Path) -> str:
    """Return the docstrings and comments of a module."""
    return "\n".join([*(text for _, text in docstrings(path)), *comments(path)])


def of_document(path: Path) -> str:
    """Return the sentences of a document, without code, commands and addresses."""
    return _CODE.sub(" ", path.read_text(encoding="utf-8"))


def of_settings(path: Path) -> str:
    """Return the comments of a YAML file."""
    return "\n".join(re.findall(r"(?m)(?:^|\s)#\s?(.*)$", path.read_text(encoding="utf-8")))


def modules() -> list[Path]:
    """Return the modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def sources() -> list[Path]:
    """Return the modules of the package, of its tests and of its tools."""
    others = (path for folder in ("tests", "tools", "grafana") for path in (ROOT / folder).rglob("*.py"))
    return [*modules(), *sorted(others)]


def documents() -> list[Path]:
    """Return every document that ships; the licence and the changelog of past releases are not prose of ours."""
    found = [
        *ROOT.glob("*.md"),
        *(path for folder in ("config", "deploy", "docs", "grafana") for path in (ROOT / folder).rglob("*.md")),
    ]
    return sorted(found)


def words(text: str) -> int:
    """Count the words of a text."""
    return len(_WORD.findall(text))


def rate(limit: Limit, text: str) -> float:
    """Return how often the words of a limit occur per 1,000 words."""
    return 1_000 * len(limit.pattern.findall(text)) / max(words(text), 1)


def _report(title: str, texts: Iterable[tuple[Path, str]], out: io.TextIOBase) -> None:
    texts = list(texts)
    whole = "\n".join(text for _, text in texts)
    out.write(f"{title}: {words(whole)} words\n")
    for limit in LIMITS:
        out.write(f"  {limit.name}: {rate(limit, whole):.1f} per 1,000, at most {limit.per_thousand}\n")
        worst = Counter({path: len(limit.pattern.findall(text)) for path, text in texts})
        for path, count in worst.most_common(12):
            if count:
                out.write(f"    {count:3} {path.relative_to(ROOT)}\n")


def main() -> None:
    """Print all figures."""
    out = sys.stdout
    assert isinstance(out, io.TextIOBase)
    _report("docstrings and comments", ((path, of_code(path)) for path in modules()), out)
    _report("documents", ((path, of_document(path)) for path in documents()), out)
    _report("configuration", ((path, of_settings(path)) for path in (ROOT / "config").rglob("*.yml")), out)


if __name__ == "__main__":
    main()
