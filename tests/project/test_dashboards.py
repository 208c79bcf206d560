"""The dashboards as files: what they are made of, Grafana's schema, the rules of its linter, and every expression.

What Prometheus answers to them is in tests/e2e/test_dashboards_live.py. No Grafana is packaged where the tests run.
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
from qemu_migration_exporter.metrics.table import EXPORTER, MIGRATION, Metric

from grafana.__main__ import DASHBOARDS, DIRECTORY, text
from tests.support.dashboards import ALL, Panel, substituted
from tests.support.paths import DATA
from tests.support.prometheus import need

#: Made of Grafana's own types, see grafana-schema.mjs beside it.
_SCHEMA = json.loads((DATA / "grafana-schema.json").read_text(encoding="utf-8"))

#: What Grafana reads and its types do not have: a Prometheus annotation's own fields.
_ANNOTATION_EXTRAS = {"expr", "step", "tagKeys", "textFormat", "titleFormat", "useValueForTime"}

#: Prometheus' own, which every target has.
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
    """Give each selector's metric, the labels it matches, and the functions it stands in, the outermost first."""
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


def test_the_committed_json_is_what_the_source_makes() -> None:
    """`make dashboards` was run, and no file is left of a dashboard that is gone."""
    made = {f"{name}.json": text(dashboard) for name, dashboard in DASHBOARDS.items()}

    assert made == {path.name: path.read_text(encoding="utf-8") for path in DIRECTORY.iterdir()}


def test_uids_stay_what_links_and_bookmarks_say() -> None:
    """A uid is for ever; a new dashboard is a new line here."""
    assert {name: dashboard.uid for name, dashboard in DASHBOARDS.items()} == {
        "fleet": "qemu-migration-fleet",
        "one-migration": "qemu-migration-one",
        "exporter-health": "qemu-migration-exporter",
    }


@_dashboards
def test_grafanas_schema_takes_it(name: str) -> None:
    """The dashboard by its type, and each panel's options and fields by those of its plugin."""
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
    """Validate what is there; Grafana puts its defaults where something is not."""
    if schema is None:
        assert value == {}
        return
    top = {key: rule for key, rule in schema["definitions"][name].items() if key != "required"}
    jsonschema.validate(value, {**schema, "definitions": {**schema["definitions"], name: top}})


@_dashboards
def test_a_dashboard_has_the_variables_that_the_linter_asks_for(name: str) -> None:
    """Its datasource is chosen; job and instance are many of what the metrics have; nobody edits it in place."""
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
def test_panels_have_ids_of_their_own_and_do_not_overlap(name: str) -> None:
    """Every cell of the grid belongs to one panel at most."""
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
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    """Title, a description in sentences, a unit, thresholds from low to high, the chosen datasource, a query at least."""
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
def test_titles_are_unique_in_a_dashboard(panel: Panel) -> None:
    """What is listed or linked by title is one panel."""
    assert 1 == sum(other.dashboard == panel.dashboard and other.title == panel.title for other in ALL)


@_panels
def test_expressions_hold_to_the_rules_of_the_linter(panel: Panel) -> None:
    """They select by job and instance what exists; counters stand in rate or increase, gauges never do."""
    for target in panel.targets:
        for name, labels, functions in _selectors(substituted(target["expr"])):
            assert labels >= {"job", "instance"}
            family = _family(name)
            assert name in _FOREIGN or family is not None, f"there is no metric {name}"
            if family is not None:
                assert labels <= {"job", "instance", *family.labels}, f"{name} has no such label"
                is_rated = functions[-1:] in {("rate",), ("increase",)}
                assert is_rated == (_KINDS[family.kind] == "counter"), f"{name} is a {family.kind}"
        for window in re.findall(r"\brate\([^[]*\[([^]]*)\]", target["expr"]):
            assert window == "$__rate_interval"


def test_the_rules_find_what_is_wrong() -> None:
    """Selectors are found inside functions, aggregations and both sides of an operator."""
    expr = "sum by (a) (rate(x_total{job='j'}[5m])) / on (a) group_left () max_over_time(y{instance='i'}[1m]) > z"

    assert list(_selectors(expr)) == [
        ("x_total", {"job"}, ("rate",)),
        ("y", {"instance"}, ("max_over_time",)),
        ("z", set(), ()),
    ]


def test_promtool_takes_every_expression(tmp_path: Path) -> None:
    """Each as a recording rule: Prometheus' own parser and type checker."""
    need("promtool")
    exprs = [substituted(target["expr"]) for panel in ALL for target in panel.targets]
    rules = [{"record": f"dashboards:{number}", "expr": expr} for number, expr in enumerate(exprs)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"SUCCESS: {len(exprs)} rules found" in done.stdout


@_dashboards
def test_links_lead_to_dashboards_that_exist(name: str) -> None:
    """A link to another dashboard names its uid."""
    uids = {dashboard.uid for dashboard in DASHBOARDS.values()}

    assert set(re.findall(r"/d/([\w-]+)", (DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))) <= uids


def test_provisioned_datasources_are_what_dashboards_and_exemplars_name() -> None:
    """Exemplars lead by the label the exporter gives them to a Jaeger that is there; dashboards are where they are looked for."""
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
