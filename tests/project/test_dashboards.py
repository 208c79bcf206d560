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
from tests.support.dashboards import ALL, Panel, substituted
from tests.support.paths import DATA
from tests.support.prometheus import need

#: Made from Grafana's own types by grafana-schema.mjs.
_SCHEMA = json.loads((DATA / "grafana-schema.json").read_text(encoding="utf-8"))

#: Fields of a Prometheus annotation, which Grafana reads and its types lack.
_ANNOTATION_EXTRAS = {"expr", "step", "tagKeys", "textFormat", "titleFormat", "useValueForTime"}

#: Prometheus' own series.
_FOREIGN = {"up", "scrape_duration_seconds", "ALERTS"}

#: Pixels of a panel of full width beside its borders, on a screen of 1440 pixels.
_FULL_WIDTH = 1_360
#: Pixels that a column without a width needs at least.
_LEAST_WIDTH = 150

#: Gauges that describe a migration while it runs; those of the last migration, its times and its identity are not.
_OF_NOW = re.compile(
    r"qemu_migration_(pending|best_pending|threshold|bandwidth|dirty|throttle|required|round\b|best_round|phase\b|last_progress)"
)

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
                assert labels <= {"job", "instance", *family.labels}, f"{name} has no such label"
                is_rated = functions[-1:] in {("rate",), ("increase",)}
                assert is_rated == (_KINDS[family.kind] == "counter"), f"{name} is a {family.kind}"
        for window in re.findall(r"\brate\([^[]*\[([^]]*)\]", target["expr"]):
            assert window == "$__rate_interval"


def _of_kind(*kinds: str) -> list[Panel]:
    return [panel for panel in ALL if panel.json["type"] in kinds]


def _each(panels: list[Panel]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("panel", panels, ids=str)


@_panels
def test_panel_without_data_has_text(panel: Panel) -> None:
    """An idle fleet is no blank panel and no "No data"; a stat's text is short enough for its box."""
    empty = panel.json["fieldConfig"]["defaults"]["noValue"]

    assert len(empty) <= 8 if panel.json["type"] == "stat" else empty.endswith(".")


@_each(_of_kind("state-timeline"))
def test_timeline_shows_mapped_colours(panel: Panel) -> None:
    """With merged values and colours by threshold Grafana draws every state in the threshold's colour."""
    defaults = panel.json["fieldConfig"]["defaults"]

    assert defaults["color"]["mode"] == "fixed" or panel.json["options"]["mergeValues"] is False
    assert all(result["color"] for mapping in defaults["mappings"] for result in mapping["options"].values())


@_panels
def test_grouping_by_vm_keeps_host(panel: Panel) -> None:
    """Two hosts may have virtual machines of one name."""
    for target in panel.targets:
        for labels in re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", target["expr"]):
            names = {name.strip() for name in labels.split(",")}
            assert "vm" not in names or names >= {"job", "instance"}
        for labels in re.findall(r"\bby ?\(([^)]*)\)", target["expr"]):
            assert ("instance" in labels) <= ("job" in labels)


@_each([panel for panel in ALL if panel.dashboard in {"fleet", "one-migration"}])
def test_live_gauge_omits_ended(panel: Panel) -> None:
    """The exporter keeps the gauges of an ended migration for a quarter of an hour."""
    for target in panel.targets:
        if _OF_NOW.search(target["expr"]):
            assert re.search(r"qemu_migration_active\{[^}]*\} == [01]", target["expr"])


@_panels
def test_increase_covers_step_or_fixed_time(panel: Panel) -> None:
    """$__rate_interval is four scrapes or more: steps would overlap and count an event four times."""
    for target in panel.targets:
        for window in re.findall(r"\bincrease\([^[]*\[([^]]*)\]", target["expr"]):
            assert window in {"$__interval", "$__range", "1h"}
            assert window != "$__interval" or panel.json["interval"] == target["interval"] == "5m"


@_each(_of_kind("timeseries"))
def test_legend_leaves_room_for_plot(panel: Panel) -> None:
    """One line below, or a table of at most 300 pixels beside it, the highest last value first."""
    legend = panel.json["options"]["legend"]

    if legend["displayMode"] == "table":
        assert (legend["placement"], legend["width"] <= 300) == ("right", True)
        assert not legend["calcs"] or (legend["sortBy"], legend["sortDesc"]) == ("Last", True)
    else:
        assert (legend["displayMode"], legend["placement"]) == ("list", "bottom")
        assert len(panel.targets) <= 3


@_each(_of_kind("timeseries"))
def test_legend_omits_ended_values(panel: Panel) -> None:
    """Grafana's `last` stays at the last value of a series that ends, unless the query goes on at 0."""
    for target in panel.targets:
        ends = re.search(r"qemu_migration_active\{[^}]*\} == 1", target["expr"])
        goes_on = re.search(
            r"^max by \(job, instance, vm\) .* or on \(job, instance, vm\) \(qemu_migration_active\{[^}]*\} == 0\)\)$",
            target["expr"],
        )
        assert panel.json["options"]["legend"]["calcs"] == ([] if ends and not goes_on else ["last"])


@_each(_of_kind("timeseries"))
def test_zero_axis_stays_small(panel: Panel) -> None:
    """Counts and rates have a soft maximum; a logarithmic axis has no zero on it."""
    defaults = panel.json["fieldConfig"]["defaults"]

    if defaults["custom"]["scaleDistribution"]["type"] == "log":
        assert "min" not in defaults
    elif defaults["unit"] in {"none", "cps", "ops"}:
        assert defaults["custom"]["axisSoftMax"] >= 1


@_each(_of_kind("table"))
def test_table_columns_fit_1440_pixels(panel: Panel) -> None:
    """A column off the screen is not seen; exactly the flexible column takes the rest."""
    columns = [
        {item["id"]: item["value"] for item in override["properties"]}
        for override in panel.json["fieldConfig"]["overrides"]
    ]
    shown = [column for column in columns if not column.get("custom.hidden")]
    widths = [column["custom.width"] for column in shown if "custom.width" in column]

    assert len(widths) >= len(shown) - 1
    assert sum(widths) + _LEAST_WIDTH <= _FULL_WIDTH * panel.json["gridPos"]["w"] / 24


@_each(_of_kind("table"))
def test_table_sorts_by_existing_column(panel: Panel) -> None:
    """Grafana ignores a sort by a heading that is not there."""
    headings = [
        item["value"]
        for override in panel.json["fieldConfig"]["overrides"]
        for item in override["properties"]
        if item["id"] == "displayName"
    ]

    assert {order["displayName"] for order in panel.json["options"]["sortBy"]} <= set(headings)


@_each([panel for panel in _of_kind("table") if "trace_id" in json.dumps(panel.json["fieldConfig"])])
def test_trace_links_use_raw_value(panel: Panel) -> None:
    """The cell shows a word in place of the id, and Grafana's `__data.fields` has the shown text."""
    (trace,) = (
        {item["id"]: item["value"] for item in override["properties"]}
        for override in panel.json["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == "trace_id"
    )

    assert [link["title"] for link in trace["links"]] == ["Trace", "Report of the exporter"]
    assert all("${__value.raw}" in link["url"] for link in trace["links"])


@_each([panel for panel in _of_kind("table") if "sentence" in json.dumps(panel.json["fieldConfig"])])
def test_sentences_wrap_worst_first(panel: Panel) -> None:
    """A sentence cut after half its numbers, or below ten healthy rows, is useless."""
    overrides = {
        override["matcher"]["options"]: override["properties"] for override in panel.json["fieldConfig"]["overrides"]
    }
    sentence = {item["id"]: item["value"] for item in overrides["sentence"]}

    assert sentence["custom.cellOptions"]["wrapText"]
    assert panel.json["options"]["sortBy"] == [{"displayName": "Stalled for", "desc": True}]


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
    """`__inputs` takes the place of the datasource variable; the rules have the names that a mixin gives them."""
    export(tmp_path)

    for name in DASHBOARDS:
        exported = json.loads((tmp_path / "dashboards" / f"{name}.json").read_text(encoding="utf-8"))
        assert [asked["name"] for asked in exported["__inputs"]] == ["DS_PROMETHEUS"]
        assert {required["type"] for required in exported["__requires"]} == {"grafana", "datasource", "panel"}
        assert "${datasource}" not in json.dumps(exported)
        kinds = {panel["type"] for panel in exported["panels"]} - {"row"}
        assert kinds <= {required["id"] for required in exported["__requires"]}
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == [
        "prometheus_alerts.yaml", "prometheus_fallback_alerts.yaml", "prometheus_rules.yaml",
    ]  # fmt: skip
