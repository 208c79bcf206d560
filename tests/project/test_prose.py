"""Guards of plain English: words, first words of docstrings, names of tests, subjects of commits, the README."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.project import prose
from tests.support.paths import ROOT

_TESTS = sorted((ROOT / "tests").rglob("test_*.py"))

_MAX_TEST_NAME = 60
_MAX_MEAN_TEST_NAME = 34
_MAX_README_WORDS = 700


@pytest.mark.parametrize("limit", prose.LIMITS, ids=lambda limit: limit.name)
@pytest.mark.parametrize(
    "texts",
    [
        pytest.param([prose.of_code(path) for path in prose.modules()], id="code"),
        pytest.param([prose.of_document(path) for path in prose.documents()], id="documents"),
        pytest.param([prose.of_settings(path) for path in (ROOT / "config").rglob("*.yml")], id="configuration"),
    ],
)
def test_unclear_words_are_rare(limit: prose.Limit, texts: list[str]) -> None:
    """`python -m tests.project.prose` lists the files, worst first."""
    assert prose.rate(limit, "\n".join(texts)) <= limit.per_thousand


@pytest.mark.parametrize("path", prose.sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstring_begins_with_a_plain_word(path: Path) -> None:
    riddles = [
        f"{path.name}:{line}: {text.splitlines()[0]}"
        for line, text in prose.docstrings(path)
        if text.split(maxsplit=1)[0].strip(",.:") in prose.FIRST_WORDS
    ]

    assert [] == riddles


def _test_names() -> list[str]:
    return [
        node.name
        for path in _TESTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def test_test_names_are_short() -> None:
    names = _test_names()

    assert [] == [name for name in names if len(name) > _MAX_TEST_NAME]
    assert sum(map(len, names)) / len(names) <= _MAX_MEAN_TEST_NAME


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= _MAX_README_WORDS


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def test_commit_subjects_are_short() -> None:
    """Since the last tag, or since this guard exists. A checkout without history has nothing to check."""
    added = _git("log", "--diff-filter=A", "--format=%H", "--", str(Path(__file__).relative_to(ROOT)))
    since = _git("describe", "--tags", "--abbrev=0") or added
    if not since:
        pytest.skip("no history")

    assert [] == [subject for subject in _git("log", "--format=%s", f"{since}..HEAD").splitlines() if len(subject) > 72]


def test_changelog_has_one_idea_in_a_bullet() -> None:
    """At most 120 characters, in the releases that follow 0.1.0."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("## [0.1.0]", maxsplit=1)[0]

    assert [] == [line for line in text.splitlines() if re.match(r"- ", line) and len(line) > 2 + 120]
