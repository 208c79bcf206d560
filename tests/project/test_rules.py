"""Rules and configuration for Prometheus and Alertmanager: their own tools, and the metrics that exist."""

from __future__ import annotations

import json
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

#: Labels by the name that a query uses.
METRICS: Final = {
    f"{metric.name}{suffix}": {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    for metric in (*MIGRATION, *EXPORTER)
    for suffix in (("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",))
}
RECORDED: Final = {rule["record"] for rule in _rules("recording.yml", "fallback.yml") if "record" in rule}
#: The values of labels that have a closed set of them.
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
def test_promtool_accepts_rules(path: Path) -> None:
    """Expressions and templates parse, and no rule is there twice."""
    _check("promtool", "check", "rules", "--lint=all", "--lint-fatal", path)


def test_tools_accept_shipped_config() -> None:
    _check("promtool", "check", "config", "--lint=all", "--lint-fatal", CONFIG / "prometheus.yml")
    _check("amtool", "check-config", CONFIG / "alertmanager.yml")


@pytest.mark.parametrize("name", ["prometheus-file-sd.yml", "prometheus-http-sd.yml"])
def test_promtool_accepts_discovery(name: str) -> None:
    _check("promtool", "check", "config", CONFIG / "targets" / name)


def test_http_sd_equals_file_sd() -> None:
    """Both are lists of the same form, in JSON and in YAML."""
    targets = CONFIG / "targets"
    assert json.loads((targets / "http-sd.json").read_text()) == yaml.safe_load(
        (targets / "hypervisors.yml").read_text()
    )


@pytest.mark.parametrize("path", UNIT_TESTS, ids=lambda path: path.stem)
def test_rules_pass_promtool_tests(path: Path) -> None:
    _check("promtool", "test", "rules", path)


def test_alerts_are_those_documented() -> None:
    assert {rule["alert"] for rule in _rules("alerts.yml")} == CONTRACT | OTHERS
    assert {rule["alert"] for rule in _rules("fallback.yml") if "alert" in rule} == FALLBACK


@each_alert
def test_alert_has_severity_text_and_links(alert: dict[str, Any]) -> None:
    """The summary is constant, so that notifications can be grouped by it."""
    notes, name = alert["annotations"], alert["alert"]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    expected = {"summary", "description", "runbook_url", "dashboard_url"}
    assert set(notes) == expected | ({"report_url"} if "qemu-migration-one" in notes["dashboard_url"] else set())
    assert "{{" not in notes["summary"]
    assert "{{" in notes["description"]
    assert notes["runbook_url"] == f"https://runbooks.example/{name}.md"
    uids = "|".join(f"qemu-migration-{uid}" for uid in DASHBOARDS)
    assert re.match(rf"https://grafana\.example/d/({uids})\?var-", notes["dashboard_url"])


@each_alert
def test_alert_has_firing_and_silent_test(alert: dict[str, Any]) -> None:
    (path,) = (path for path in UNIT_TESTS if path.stem == alert["alert"])
    tests = yaml.safe_load(path.read_text())["tests"]
    fired = [any(check["exp_alerts"] for check in test["alert_rule_test"]) for test in tests]
    assert any(fired)
    assert not all(fired)
    assert {check["alertname"] for test in tests for check in test["alert_rule_test"]} == {alert["alert"]}


@each_alert
def test_alert_has_complete_runbook(alert: dict[str, Any]) -> None:
    lines = (RUNBOOKS / f"{alert['alert']}.md").read_text().splitlines()
    assert lines[0] == f"# {alert['alert']}"
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]


def test_runbooks_and_tests_have_alerts() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == CONTRACT | OTHERS | FALLBACK
    assert {path.stem for path in UNIT_TESTS} == CONTRACT | OTHERS | FALLBACK | {"recording"}


@pytest.mark.parametrize("name", ["alerts.yml", "fallback.yml"])
def test_every_for_has_a_reason(name: str) -> None:
    lines = [line.strip() for line in (RULES / name).read_text().splitlines()]
    waits = [place for place, line in enumerate(lines) if line.startswith("for:")]
    assert len(waits) == sum(line.startswith("- alert:") for line in lines)
    assert all(lines[place - 1].startswith("# ") for place in waits)


def test_one_alert_matches_a_stall_reason() -> None:
    alerts: dict[str, list[str]] = {reason: [] for reason in StallReason}
    for rule in _rules("alerts.yml"):
        for matched in re.findall(r'qemu_migration_stall_reason\{reason=~?"([^"]*)"\}', rule["expr"]):
            for reason in StallReason:
                alerts[reason] += [rule["alert"]] if re.fullmatch(matched, reason) else []
    assert {reason: len(names) for reason, names in alerts.items()} == dict.fromkeys(StallReason, 1)


def test_fallback_uses_no_verdict() -> None:
    text = "".join(rule["expr"] for rule in _rules("fallback.yml"))
    assert "qemu_migration_active" in text
    assert "stall" not in text
    assert "last_progress" not in text


def _queries() -> list[tuple[str, str]]:
    """Return all PromQL in config/ with its place: rules, their templates, and the blocks of the runbooks."""
    found = []
    for rule in _rules("alerts.yml", "fallback.yml", "recording.yml"):
        place = rule.get("alert") or rule["record"]
        found.append((place, rule["expr"]))
        found.append((place, rule.get("annotations", {}).get("description", "")))
    for path in sorted(RUNBOOKS.glob("*.md")):
        blocks = re.findall(r"^```promql\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
        found += [(path.name, query) for block in blocks for query in block.strip().split("\n\n")]
    return found


def test_queried_metrics_and_labels_exist() -> None:
    """A query for a metric that is not exported is silent for ever."""
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


def test_runbook_queries_parse(tmp_path: Path) -> None:
    queries = [query for place, query in _queries() if place.endswith(".md")]
    assert len(queries) >= len(ALERTS)
    rules = [{"record": f"runbook:query:{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "runbooks", "rules": rules}]}))
    _check("promtool", "check", "rules", path)


def test_documented_sed_fills_placeholders(tmp_path: Path) -> None:
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


_LIVE_ONLY: Final = 'unless on (job, instance, vm) qemu_migration_info{side="source", kind!~"live|"}'


@each_alert
def test_vm_alerts_omit_other_jobs(alert: dict[str, Any]) -> None:
    """A dump or a save uses the same machinery and is no live migration."""
    is_of_a_vm = "qemu-migration-one" in alert["annotations"]["dashboard_url"]
    assert (_LIVE_ONLY in " ".join(alert["expr"].split())) == is_of_a_vm
