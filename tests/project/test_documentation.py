"""Documentation and program agree: metrics, labels, keys, flags, dashboards, rules, links."""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from qemu_migration_exporter import cli
from qemu_migration_exporter.config.schema import EventConfig, SourceConfig
from qemu_migration_exporter.config.verdict import VerdictConfig
from qemu_migration_exporter.core.stalls.convergence import Rules
from qemu_migration_exporter.core.stalls.reasons import REASONS
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION
from qemu_migration_exporter.tracing import attribute_table

from grafana.__main__ import DASHBOARDS, DIRECTORY
from tests.support.paths import PACKAGE, ROOT
from tools import metrics_reference as reference
from tools import state_diagram, verdict_picture

#: Where people read: documents, what is shipped to be edited or loaded, and the page.
_DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "config/**/*",
        "deploy/**/*",
        "docs/**/*",
        "grafana/**/*",
        "exporter/**/*.md",
        "exporter/**/*.html",
    )
    for path in ROOT.glob(pattern)
    if path.suffix in {".md", ".yml", ".json", ".html", ".conf", ".service", ".py"} or path.name == "Dockerfile"
)
_MARKDOWN = [path for path in _DOCUMENTS if path.suffix == ".md"]
_documents = pytest.mark.parametrize("path", _DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))

#: What the project promises, each promise with its test.
_PROMISES = ("FAULTS.md", "SECURITY.md")

_METRICS = {metric.name: metric for metric in (*MIGRATION, *EXPORTER)}
_RULES = sorted((ROOT / "config" / "rules").glob("*.yml"))


def _named(pattern: str, path: Path) -> set[str]:
    return set(re.findall(pattern, path.read_text(encoding="utf-8")))


def _rules(kind: str) -> set[str]:
    groups = [group for path in _RULES for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]]
    return {rule[kind] for group in groups for rule in group["rules"] if kind in rule}


def _flags(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        yield from (flag for flag in action.option_strings if flag.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from _flags(below)


# Metrics


def test_state_diagram_is_up_to_date() -> None:
    """`make reference` draws it."""
    assert state_diagram.document() == state_diagram.DOCUMENT.read_text(encoding="utf-8")


def test_picture_is_of_the_present_verdict() -> None:
    """`make reference` draws it. Its band shows the best case that the program reported."""
    scene = verdict_picture.scene()
    pending = min(point.pending for point in scene.look_back[-3:])
    threshold = max(point.pending for point in scene.thresholds if point.seconds <= scene.verdict_seconds)

    assert verdict_picture.picture() == verdict_picture.PICTURE.read_text(encoding="utf-8")
    assert scene.best_case_seconds == pytest.approx((pending - threshold) / scene.line.steepest_fall, rel=0.01)


def test_numbers_of_convergence_are_defaults() -> None:
    """Each key of the rule has one row with its default, as the configuration spells it."""
    document = (ROOT / "docs" / "convergence.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| (.*?) \|", document, re.MULTILINE)
    stated = [
        pair
        for keys, values in rows
        for pair in zip(re.findall(r"`(\w+)`", keys), values.replace(" s", "s").split(", "), strict=True)
    ]
    waits = {row.config_key for row in REASONS.values()}
    defaults = {key: str(value).removesuffix(".0") for key, value in VerdictConfig() if key not in waits}
    assert dict(stated) == defaults
    assert VerdictConfig().policy().rules == Rules()


def test_files_of_recipes_exist() -> None:
    """Paths in "How to add" of CONTRIBUTING are relative to the package or the project."""
    recipes = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## How to add", 1)[1].split("## Style", 1)[0]
    )
    files = set(re.findall(r"`((?:[\w-]+/)+[\w.-]+\.\w+)`", recipes))

    assert len(files) > 15
    assert [] == [file for file in sorted(files) if not (PACKAGE / file).exists() and not (ROOT / file).exists()]


def test_metrics_reference_is_up_to_date() -> None:
    """`make reference` was run: every metric that exists is documented, and no other."""
    assert reference.text() == (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_every_label_is_explained() -> None:
    """No label is left out, and none is explained that no metric has."""
    assert set(reference.LABELS) == {label for metric in _METRICS.values() for label in metric.labels}


def _is_variable(name: str, path: Path) -> bool:
    """Return whether a name is a variable of the Ansible role."""
    return path.is_relative_to(ROOT / "deploy" / "ansible") and name.startswith("qemu_migration_exporter_")


@_documents
def test_named_metric_exists(path: Path) -> None:
    """It may also be a histogram's series; series of recording rules belong to the rules."""
    for name in _named(r"(qemu_migrations?_[a-z_0-9]*[a-z0-9])\b(?!:|[_*…])", path):
        if name != "qemu_migration_exporter" and not _is_variable(name, path):  # the package
            assert name in _METRICS or re.sub(r"_(bucket|sum|count)$", "", name) in _METRICS, name


@_documents
def test_named_recorded_series_exists(path: Path) -> None:
    """Names of the form level:metric:operations are those of the recording rules."""
    assert _named(r"\b[a-z_]+:qemu_migration\w+:\w+\b", path) <= _rules("record")


# Span attributes


@_documents
def test_named_span_attribute_exists(path: Path) -> None:
    """Under qemu.vm and qemu.migration; an attribute is added in tracing/attribute_table.py and nowhere else."""
    known = {attribute.name for attribute in attribute_table.TABLE}

    assert _named(r"\bqemu\.(?:vm|migration)(?:\.[a-z_]*[a-z])+", path) <= known


# Configuration and flags


@pytest.mark.parametrize("section", [SourceConfig, EventConfig])
def test_shipped_config_shows_list_keys(section: type[SourceConfig | EventConfig]) -> None:
    """The lists are empty by default, so their keys stand in comments; tests/unit/config/test_schema.py holds the others."""
    comments = _named(r"(?m)^ *#.*?\b([a-z_]+): ", ROOT / "config" / "exporter.yml")

    assert set(section.model_fields) <= comments


def test_shown_keys_exist() -> None:
    """In the comments that show keys, two blanks in."""
    shown = _named(r"(?m)^#   (?:- |  )([a-z_]+):", ROOT / "config" / "exporter.yml")

    assert shown <= {*SourceConfig.model_fields, *EventConfig.model_fields}


def test_every_flag_is_documented() -> None:
    flags = set(_flags(cli.build_parser())) - {"--help", "--version"}
    named = _named(r"(?<![\w-])--[a-z][a-z.-]*[a-z]", ROOT / "docs" / "configuration.md")

    assert flags <= named


@pytest.mark.parametrize("path", _MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_flag_exists(path: Path) -> None:
    """Every line of a document that runs the program is checked."""
    flags = set(_flags(cli.build_parser()))
    for line in path.read_text(encoding="utf-8").splitlines():
        for command in re.findall(r"qemu-migration-exporter (?:run|replay|check|probe)\b[^`|>]*", line):
            assert set(re.findall(r"--[a-z][a-z.-]*[a-z]", command)) <= flags, line


# Dashboards and alerts; that alerts and runbooks match is in tests/project/test_rules.py


def test_every_dashboard_is_documented() -> None:
    """In the README beside them, and no other."""
    listed = _named(r"\(dashboards/([\w-]+)\.json\)", ROOT / "grafana" / "README.md")

    assert set(DASHBOARDS) == listed == {path.stem for path in DIRECTORY.glob("*.json")}


@_documents
def test_linked_dashboard_exists(path: Path) -> None:
    """The uid identifies it: alerts and dashboards link to dashboards."""
    assert _named(r"/d/(qemu-[\w-]+)", path) <= {dashboard.uid for dashboard in DASHBOARDS.values()}


@_documents
def test_named_alert_exists(path: Path) -> None:
    """The whole name must match."""
    assert _named(r"\bQemuMigration[A-Z]\w+", path) <= _rules("alert")


# Files


@pytest.mark.parametrize("path", _MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_linked_file_exists(path: Path) -> None:
    """Relative to the document, and committed or about to be."""
    for target in _named(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path):
        assert (path.parent / target).exists(), target


# Tests


@pytest.mark.parametrize("path", _MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_test_exists(path: Path) -> None:
    """As FILE::TEST, with or without the folder."""
    for module, name in re.findall(r"\b(test_\w+\.py)::(\w+)", path.read_text(encoding="utf-8")):
        (found,) = (ROOT / "tests").rglob(module)
        assert name in _tests(found), f"{module}::{name}"


@pytest.mark.parametrize("name", _PROMISES)
def test_every_promise_names_its_test(name: str) -> None:
    """In each line of each table with a column for it."""
    promises = list(_promises(ROOT / name))

    assert promises
    assert [] == [promise for promise, shown in promises if "::" not in shown]


def test_every_tested_fault_is_listed() -> None:
    """The tests are those in tests/integration/test_faults_*.py."""
    tried = {f"{path.name}::{name}" for path in (ROOT / "tests").rglob("test_faults_*.py") for name in _tests(path)}
    named = _named(r"\b(test_\w+\.py::\w+)", ROOT / "FAULTS.md")

    assert tried <= named


def _tests(path: Path) -> set[str]:
    functions = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


def _promises(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the first cell of each line of a table, and that of the column called `shown by`."""
    column: int | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if "shown by" in cells:
            column = cells.index("shown by")
        elif not cells:
            column = None
        elif column is not None and set(cells[0]) != {"-"}:
            yield cells[0], cells[column]


@pytest.mark.parametrize("folder", ["config", "deploy", "grafana"])
def test_shipped_files_are_listed(folder: str) -> None:
    """In the README of its folder: each file by a link to it, or to the folder or the README it is in."""
    readme = ROOT / folder / "README.md"
    linked = {(readme.parent / target).resolve() for target in _named(r"\]\(([^)#:]+?)\)", readme)}
    covered = linked | {target.parent for target in linked if target.name == "README.md" and target != readme}

    for path in (path for path in _DOCUMENTS if readme.parent in path.parents and path != readme):
        if path.suffix != ".py" or folder != "grafana":
            assert covered & {path, *path.parents} - {ROOT, readme.parent}, path
    assert readme.parent not in linked


def test_every_make_target_is_explained() -> None:
    """`make` alone lists them all; a target that makes a file has no description."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE))
    done = subprocess.run(["make", "--no-print-directory", "-C", ROOT], capture_output=True, text=True, check=True)

    assert targets == set(re.findall(r"^make ([\w-]+)", done.stdout, re.MULTILINE))
