"""The dashboards as files: Grafana's schema, the rules of its linter and rules of our own, and every expression.

The rules of our own come from looking at the dashboards with Grafana's frontend (`make renders`), which no test can do:
no Grafana is packaged where the tests run. Prometheus' answers are tested in tests/e2e/test_dashboards_live.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import promql_parser
import pytest
import yaml
from qemu_migration_exporter.core.model import StallReason
from qemu_migration_exporter.metrics.families import Metric
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION

from grafana.__main__ import DASHBOARDS, DIRECTORY, export, text
from grafana.builder import select
from grafana.sentences import REASONS
from tests.project.dashboard_rules import BROKEN, RULES, Rule, changed
from tests.support.dashboards import ALL, Panel, substituted
from tests.support.paths import DATA
from tests.support.prometheus import need

#: Made from Grafana's own types by grafana-schema.mjs.
_SCHEMA = json.loads((DATA / "grafana-schema.json").read_text(encoding="utf-8"))

#: Fields of a Prometheus annotation, which Grafana reads and its types lack.
_ANNOTATION_EXTRAS = {"expr", "step", "tagKeys", "textFormat", "titleFormat", "useValueForTime"}

#: Prometheus' own series.
_FOREIGN = {"up", "scrape_duration_seconds", "ALERTS"}

_KINDS = {"counter": "counter", "gauge": "gauge", "histogram": "counter"}
_METRICS: dict[str, Metric] = {metric.name: metric for metric in (*MIGRATION, *EXPORTER)}

_panels = pytest.mark.parametrize("panel", ALL, ids=str)
_dashboards = pytest.mark.parametrize("name", sorted(DASHBOARDS))


def _load(name: str) -> dict[str, Any]:
    dashboard: dict[str, Any] = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    return dashboard


def _family(name: str) -> Metric | None:
    return _METRICS.get(name) or _METRICS.get(re.sub(r"_(bucket|sum|count)$", "", name))


def _selectors(expr: str) -> Iterator[tuple[str, set[str], tuple[str, ...]]]:
    """Yield each selector's metric, the labels it matches, and the functions around it, the outermost first."""
    found: list[tuple[str, set[str], tuple[str, ...]]] = []
    within: list[str] = []

    def enter(node: promql_parser.Expr) -> None:
        within.append(node.func.name if isinstance(node, promql_parser.Call) else "")
        if isinstance(node, promql_parser.VectorSelector):
            labels = {matcher.name for matcher in node.matchers.matchers}
            found.append((node.name or "", labels, tuple(filter(None, within))))

    def leave(_node: promql_parser.Expr) -> None:
        within.pop()

    promql_parser.walk(promql_parser.parse(expr), enter, leave)
    yield from found


def test_committed_json_equals_source() -> None:
    """Else `make dashboards` was not run, or a dashboard is gone and its file is not."""
    made = {f"{name}.json": text(dashboard) for name, dashboard in DASHBOARDS.items()}

    assert made == {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.iterdir()}


def test_uids_are_stable() -> None:
    """Links and bookmarks contain them."""
    assert {name: dashboard.uid for name, dashboard in DASHBOARDS.items()} == {
        "fleet": "qemu-migration-fleet",
        "one-migration": "qemu-migration-one",
        "exporter-health": "qemu-migration-exporter",
    }


@_dashboards
def test_dashboard_matches_grafana_schema(name: str) -> None:
    dashboard = _load(name)
    for annotation in dashboard["annotations"]["list"]:
        assert set(annotation) >= _ANNOTATION_EXTRAS
        for extra in _ANNOTATION_EXTRAS:
            del annotation[extra]
    jsonschema.validate(dashboard, _SCHEMA["dashboard"])

    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            schemas = _SCHEMA[panel["type"].replace("-", "")]
            _validate_partly(panel["options"], schemas["options"], "Options")
            _validate_partly(panel["fieldConfig"]["defaults"]["custom"], schemas.get("custom"), "FieldConfig")


def _validate_partly(value: dict[str, Any], schema: dict[str, Any] | None, name: str) -> None:
    """Validate the fields that are there; Grafana fills in defaults for the others."""
    if schema is None:
        assert value == {}
        return
    top = {key: rule for key, rule in schema["definitions"][name].items() if key != "required"}
    jsonschema.validate(value, {**schema, "definitions": {**schema["definitions"], name: top}})


@_dashboards
def test_dashboard_has_linted_variables(name: str) -> None:
    dashboard = _load(name)
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}

    assert dashboard["editable"] is False
    assert (variables["datasource"]["type"], variables["datasource"]["query"]) == ("datasource", "prometheus")
    for label in ("job", "instance"):
        variable = variables[label]
        assert variable["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert (variable["multi"], variable["allValue"], variable["refresh"]) == (True, ".+", 2)
        assert re.fullmatch(rf"label_values\(.+, {label}\)", variable["query"]["query"])


@_dashboards
def test_panels_are_unique_and_apart(name: str) -> None:
    panels = _load(name)["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24


@_panels
def test_panel_has_linted_fields(panel: Panel) -> None:
    shown = panel.json
    defaults = shown["fieldConfig"]["defaults"]
    steps = [step["value"] for step in defaults["thresholds"]["steps"]]

    assert shown["title"]
    assert shown["description"].endswith(".")
    assert defaults["unit"]
    assert steps[0] is None
    assert steps[1:] == sorted(steps[1:])
    assert shown["targets"]
    assert all(
        part["datasource"] == {"type": "prometheus", "uid": "${datasource}"} for part in (shown, *shown["targets"])
    )
    assert len({target["refId"] for target in shown["targets"]}) == len(shown["targets"])


@_panels
def test_titles_are_unique_per_dashboard(panel: Panel) -> None:
    """Links and searches find panels by title."""
    assert 1 == sum(other.dashboard == panel.dashboard and other.title == panel.title for other in ALL)


@_panels
def test_expressions_keep_linter_rules(panel: Panel) -> None:
    """They select existing metrics by job and instance; counters are inside rate or increase, gauges never are."""
    for target in panel.targets:
        for name, labels, functions in _selectors(substituted(target["expr"])):
            assert labels >= {"job", "instance"}
            family = _family(name)
            assert name in _FOREIGN or family is not None, f"there is no metric {name}"
            if family is not None:
                buckets = {"le"} if name.endswith("_bucket") else set()
                assert labels <= {"job", "instance", *family.labels, *buckets}, f"{name} has no such label"
                is_rated = functions[-1:] in {("rate",), ("increase",)}
                assert is_rated == (_KINDS[family.kind] == "counter"), f"{name} is a {family.kind}"
        for window in re.findall(r"\brate\([^[]*\[([^]]*)\]", target["expr"]):
            assert window == "$__rate_interval"


@pytest.mark.parametrize(
    ("rule", "panel"),
    [
        pytest.param(rule, panel, id=f"{rule.__name__}-{panel}")
        for kind, rules in RULES.items()
        for rule in rules
        for panel in ALL
        if kind in {"", panel.json["type"]}
    ],
)
def test_panel_keeps_rule(rule: Rule, panel: Panel) -> None:
    """The rule's reason is in its docstring."""
    rule(panel)


@pytest.mark.parametrize(("rule", "title", "pattern", "replacement"), BROKEN)
def test_broken_panel_fails_rule(rule: Rule, title: str, pattern: str, replacement: str) -> None:
    (panel,) = (panel for panel in ALL if str(panel) == title)

    with pytest.raises(AssertionError):
        rule(changed(panel, pattern, replacement))


def test_selected_buckets_exist() -> None:
    """Prometheus answers nothing for a bound that is not there."""
    asked = {
        (name, le)
        for panel in ALL
        for target in panel.targets
        for name, le in re.findall(r'(qemu_\w+)_bucket\{le="([^"]+)"', target["expr"])
    }

    assert asked
    assert all(le in {"+Inf", *(str(float(bound)) for bound in _METRICS[name].buckets)} for name, le in asked)


def test_every_rule_can_fail() -> None:
    assert {rule for rule, *_ in BROKEN} == {rule for rules in RULES.values() for rule in rules}


@_dashboards
def test_annotations_are_points(name: str) -> None:
    """Grafana shades the whole time of an alert, over every curve, and draws a line for each start of a fleet."""
    annotations = _load(name)["annotations"]["list"]

    assert all(annotation["useValueForTime"] for annotation in annotations)
    assert {annotation["enable"] for annotation in annotations} == {
        "fleet": {False},
        "one-migration": {True},
        "exporter-health": set(),
    }[name]
    for annotation in annotations:
        selectors = re.findall(r"\w+\{([^}]*)\}", annotation["expr"])
        assert selectors
        assert all('instance=~"$instance"' in selector for selector in selectors)
        assert name != "one-migration" or all('vm=~"$vm"' in selector for selector in selectors)


def test_dashboards_word_every_stall_reason() -> None:
    """A new reason is a new line in grafana/sentences.py."""
    assert set(REASONS) == set(StallReason)


def test_selectors_are_found_everywhere() -> None:
    """Inside functions, aggregations and on both sides of an operator."""
    expr = "sum by (a) (rate(x_total{job='j'}[5m])) / on (a) group_left () max_over_time(y{instance='i'}[1m]) > z"

    assert list(_selectors(expr)) == [
        ("x_total", {"job"}, ("rate",)),
        ("y", {"instance"}, ("max_over_time",)),
        ("z", set(), ()),
    ]


def test_promtool_accepts_every_expression(tmp_path: Path) -> None:
    """Prometheus' own parser and type checker, with each expression as a recording rule."""
    need("promtool")
    exprs = [substituted(target["expr"]) for panel in ALL for target in panel.targets]
    rules = [{"record": f"dashboards:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"SUCCESS: {len(exprs)} rules found" in done.stdout


@_dashboards
def test_dashboard_links_resolve(name: str) -> None:
    uids = {dashboard.uid for dashboard in DASHBOARDS.values()}

    assert set(re.findall(r"/d/([\w-]+)", (DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))) <= uids


def test_linked_datasources_are_provisioned() -> None:
    """Exemplars lead to the Jaeger that is provisioned, by the exporter's label."""
    provisioning = DIRECTORY.parent / "provisioning"
    sources = yaml.safe_load((provisioning / "datasources" / "qemu-migration.yml").read_text(encoding="utf-8"))
    by_type = {source["type"]: source for source in sources["datasources"]}
    (destination,) = by_type["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "qemu-migration.yml").read_text(encoding="utf-8"))[
        "providers"
    ]
    queries = by_type["jaeger"]["jsonData"]["tracesToMetrics"]["queries"]

    assert destination == {"name": "trace_id", "datasourceUid": by_type["jaeger"]["uid"]}
    assert by_type["jaeger"]["jsonData"]["tracesToMetrics"]["datasourceUid"] == by_type["prometheus"]["uid"]
    assert all(_family(query["query"].partition("{")[0]) for query in queries)
    assert provider["options"]["path"] == "/etc/grafana/dashboards/qemu-migration"


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        ("qemu_migration_active == 1", 'qemu_migration_active{job=~"$job", instance=~"$instance", vm=~"$vm"} == 1'),
        ('up{a="b"}', 'up{a="b", job=~"$job", instance=~"$instance"}'),
        ('qemu_migration_info{instance=~".+"}', 'qemu_migration_info{instance=~".+", job=~"$job"}'),
        ('ALERTS{a="b"}', 'ALERTS{a="b", job=~"$job", instance=~"$instance", vm=~"$vm"}'),
        (
            'label_replace(up, "a", "give up", "", "")',
            'label_replace(up{job=~"$job", instance=~"$instance"}, "a", "give up", "", "")',
        ),
    ],
)
def test_select_adds_variables_to_metrics(expr: str, expected: str) -> None:
    """A word in a string stays as it is."""
    assert select(expr, vm=True) == expected


def test_export_has_grafana_com_form(tmp_path: Path) -> None:
    """`__inputs` takes the place of the datasource variable."""
    export(tmp_path)

    for name in DASHBOARDS:
        exported = json.loads((tmp_path / "grafana.com" / f"{name}.json").read_text(encoding="utf-8"))
        assert [asked["name"] for asked in exported["__inputs"]] == ["DS_PROMETHEUS"]
        assert {required["type"] for required in exported["__requires"]} == {"grafana", "datasource", "panel"}
        assert "${datasource}" not in json.dumps(exported)
        kinds = {panel["type"] for panel in exported["panels"]} - {"row"}
        assert kinds <= {required["id"] for required in exported["__requires"]}


def test_mixin_has_rules_and_dashboards(tmp_path: Path) -> None:
    """As jsonnet reads it, with an address of the user's own; promtool then reads the rules."""
    need("jsonnet", "promtool")
    export(tmp_path)
    program = "(import 'mixin.libsonnet') {_config+:: {runbookUrl: 'https://wiki.corp'}}"
    program = f"local mixin = {program}; {{[name]: mixin[name] for name in std.objectFieldsAll(mixin)}}"

    done = subprocess.run(["jsonnet", "-e", program], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    mixin = json.loads(done.stdout)
    assert "https://runbooks.example" not in done.stdout
    titles = {dashboard["title"] for dashboard in mixin["grafanaDashboards"].values()}
    assert titles == {dashboard.json()["title"] for dashboard in DASHBOARDS.values()}
    for name in ("prometheusAlerts", "prometheusRules"):
        rules = tmp_path / f"{name}.json"
        rules.write_text(json.dumps(mixin[name]))
        subprocess.run(["promtool", "check", "rules", rules], check=True, stdout=subprocess.DEVNULL)
