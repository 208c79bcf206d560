"""What Prometheus and Alertmanager are given: by their own tools, and held to the metrics there are and to the contract."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from qemu_migration_exporter.core.model import PhaseName, Result, StallReason
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION
from qemu_migration_exporter.ops.errors import Component

from tests.support.paths import ROOT
from tests.support.prometheus import CONFIG, need

RULES: Final = CONFIG / "rules"
RUNBOOKS: Final = CONFIG / "runbooks"
UNIT_TESTS: Final = sorted((ROOT / "tests" / "rules").glob("*.yml"))

CONTRACT: Final = {
    "QemuMigrationNotConverging", "QemuMigrationNoProgress", "QemuMigrationThrottledAndStalled",
    "QemuMigrationPostcopyPaused", "QemuMigrationFailed", "QemuMigrationDowntimeHigh", "QemuMigrationStreamDown",
    "QemuMigrationProbeLinesUnparsed", "QemuMigrationSpansDropped",
}  # fmt: skip
OTHERS: Final = {"QemuMigrationExporterFailing"}
FALLBACK: Final = {"QemuMigrationPendingNotFalling", "QemuMigrationNothingSent"}
DASHBOARDS: Final = ("fleet", "one", "exporter")


def _rules(*names: str) -> Iterator[dict[str, Any]]:
    for name in names:
        for group in yaml.safe_load((RULES / name).read_text())["groups"]:
            yield from group["rules"]


ALERTS: Final = [rule for rule in _rules("alerts.yml", "fallback.yml") if "alert" in rule]
each_alert: Final = pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])

#: Every metric by what a query calls it, with its labels.
METRICS: Final = {
    f"{metric.name}{suffix}": {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    for metric in (*MIGRATION, *EXPORTER)
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
RECORDED: Final = {rule["record"] for rule in _rules("recording.yml", "fallback.yml") if "record" in rule}
#: Of labels with a closed set, what they can be.
VALUES: Final[Mapping[str, Collection[str]]] = {
    "part": set(Component),
    "reason": set(StallReason),
    "result": set(Result),
    "phase": set(PhaseName),
    "side": {"source", "destination"},
    "outcome": {"event", "noise", "malformed", "exported", "dropped", "failed"},
}

_SELECTOR = re.compile(r"(?<![\w:])((?:\w+:)?qemu_migration\w*(?::\w+)?)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(=~|!=|=)"([^"]*)"')


def _check(*command: str | Path) -> None:
    need(str(command[0]))
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", sorted(RULES.glob("*.yml")), ids=lambda path: path.name)
def test_promtool_takes_the_rules(path: Path) -> None:
    """Expressions and templates parse, and no rule is there twice."""
    _check("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)


def test_the_tools_take_the_shipped_configuration() -> None:
    """Prometheus with the rules it names, and Alertmanager."""
    _check("promtool", "check", "config", "--lint=all", "--lint-fatal", CONFIG / "prometheus.yml")
    _check("amtool", "check-config", CONFIG / "alertmanager.yml")


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_unit_tests_say(path: Path) -> None:
    """promtool evaluates them over series that are written down."""
    _check("promtool", "test", "rules", path)


def test_the_alerts_are_those_that_the_contract_names() -> None:
    """No less and no more, and the second opinion beside them."""
    assert {rule["alert"] for rule in _rules("alerts.yml")} == CONTRACT | OTHERS
    assert {rule["alert"] for rule in _rules("fallback.yml") if "alert" in rule} == FALLBACK


@each_alert
def test_an_alert_tells_all_that_it_should(alert: dict[str, Any]) -> None:
    """A summary that is the same each time, a description of this time, and where to read on."""
    notes, name = alert["annotations"], alert["alert"]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert "{{" not in notes["summary"]
    assert "{{" in notes["description"]
    assert notes["runbook_url"] == f"https://runbooks.example/{name}.md"
    uids = "|".join(f"qemu-migration-{uid}" for uid in DASHBOARDS)
    assert re.match(rf"https://grafana\.example/d/({uids})\?var-", notes["dashboard_url"])


@each_alert
def test_an_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent(alert: dict[str, Any]) -> None:
    """In the file of its name; silent means that it is for the whole of a test."""
    (path,) = (path for path in UNIT_TESTS if path.stem == alert["alert"])
    tests = yaml.safe_load(path.read_text())["tests"]
    fired = [any(check["exp_alerts"] for check in test["alert_rule_test"]) for test in tests]
    assert any(fired)
    assert not all(fired)
    assert {check["alertname"] for test in tests for check in test["alert_rule_test"]} == {alert["alert"]}


@each_alert
def test_an_alert_has_a_runbook(alert: dict[str, Any]) -> None:
    """In the order in which one needs them at night."""
    lines = (RUNBOOKS / f"{alert['alert']}.md").read_text().splitlines()
    assert lines[0] == f"# {alert['alert']}"
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]


def test_there_is_no_runbook_without_its_alert() -> None:
    """What was renamed is renamed everywhere."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == CONTRACT | OTHERS | FALLBACK
    assert {path.stem for path in UNIT_TESTS} == CONTRACT | OTHERS | FALLBACK | {"recording"}


@pytest.mark.parametrize("name", ["alerts.yml", "fallback.yml"])
def test_each_wait_has_its_reason(name: str) -> None:
    """A comment stands right before every `for`, and every alert has one."""
    lines = [line.strip() for line in (RULES / name).read_text().splitlines()]
    waits = [place for place, line in enumerate(lines) if line.startswith("for:")]
    assert len(waits) == sum(line.startswith("- alert:") for line in lines)
    assert all(lines[place - 1].startswith("# ") for place in waits)


def test_one_stall_raises_one_alert() -> None:
    """Each reason is matched by the rule of one alert."""
    alerts: dict[str, list[str]] = {reason: [] for reason in StallReason}
    for rule in _rules("alerts.yml"):
        for matched in re.findall(r'qemu_migration_stall_reason\{reason=~?"([^"]*)"\}', rule["expr"]):
            for reason in StallReason:
                alerts[reason] += [rule["alert"]] if re.fullmatch(matched, reason) else []
    assert {reason: len(names) for reason, names in alerts.items()} == dict.fromkeys(StallReason, 1)


def test_the_second_opinion_looks_at_no_verdict() -> None:
    """Who does not trust the verdict gets nothing of it."""
    text = "".join(rule["expr"] for rule in _rules("fallback.yml"))
    assert "qemu_migration_active" in text
    assert "stall" not in text
    assert "last_progress" not in text


def _queries() -> list[tuple[str, str]]:
    """Give all PromQL there is in config/, with where it stands: rules, their templates, and the runbooks' blocks."""
    found = []
    for rule in _rules("alerts.yml", "fallback.yml", "recording.yml"):
        place = rule.get("alert") or rule["record"]
        found.append((place, rule["expr"]))
        found.append((place, rule.get("annotations", {}).get("description", "")))
    for path in sorted(RUNBOOKS.glob("*.md")):
        blocks = re.findall(r"^```promql\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [(path.name, query) for block in blocks for query in block.strip().split("\n\n")]
    return found


def test_every_metric_and_label_in_a_query_exists() -> None:
    """A query for what nobody exports is silent for ever, which is how one finds out too late."""
    used = set()
    for place, query in _queries():
        for name, matchers in _SELECTOR.findall(query.replace("%s", "")):
            used.add(name)
            assert name in METRICS or name in RECORDED, f"{place}: {name}"
            for label, operator, value in _MATCHER.findall(matchers):
                known = METRICS.get(name, set()) | {"job", "instance"}
                assert label in known or name in RECORDED, f"{place}: {name} has no label {label}"
                pattern = re.compile(value if operator == "=~" else re.escape(value))
                values = VALUES.get(label) if name in METRICS else None
                assert values is None or any(map(pattern.fullmatch, values)), f"{place}: no {label} is {value}"
    assert len(used) > 30, "the queries were not found"


def test_the_runbooks_queries_parse(tmp_path: Path) -> None:
    """Nobody has to mend a query at night."""
    queries = [query for place, query in _queries() if place.endswith(".md")]
    assert len(queries) >= len(ALERTS)
    rules = [{"record": f"runbook:query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    _check("promtool", "check", "rules", path)


def test_the_placeholders_are_replaced_as_the_rules_say(tmp_path: Path) -> None:
    """The command in the comment is run, and leaves no address that leads nowhere."""
    text = (RULES / "alerts.yml").read_text()
    command = re.search(r"^#   (sed -i (?:.|\n)*?alerts\.yml fallback\.yml)$", text, re.MULTILINE)
    assert command
    for name in ("alerts.yml", "fallback.yml"):
        (tmp_path / name).write_text((RULES / name).read_text())
    subprocess.run(["sh", "-c", re.sub(r"\n# +", "\n", command[1])], cwd=tmp_path, check=True)
    for name in ("alerts.yml", "fallback.yml"):
        rules = yaml.safe_load((tmp_path / name).read_text())
        assert ".example" not in yaml.safe_dump(rules)
        assert "https://wiki.corp/qemu/QemuMigration" in yaml.safe_dump(rules)
