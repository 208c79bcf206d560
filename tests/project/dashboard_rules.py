"""Rules for a panel that no linter of Grafana has. They come from looking at the dashboards with Grafana's frontend.

Each rule raises AssertionError for a panel that breaks it. `BROKEN` has for every rule a change that breaks it, so that
a rule that no longer finds anything is noticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from tests.support.dashboards import Panel

Rule = Callable[[Panel], None]

#: Pixels of a panel of full width beside its borders, on a screen of 1440 pixels.
_FULL_WIDTH: Final = 1_360
#: Pixels that a column without a width needs at least.
_LEAST_WIDTH: Final = 150

#: Gauges that describe a migration while it runs; those of the last migration, its times and its identity are not.
_OF_NOW: Final = re.compile(
    r"qemu_migration_(pending|best_pending|threshold|bandwidth|dirty|throttle|required|round\b|best_round|phase\b|last_progress)"
)
#: Labels that a stream may not give, or that PromQL makes.
_MAY_BE_EMPTY: Final = {"sentence", "with_command", "uuid", "reason"}


def _columns(panel: Panel) -> dict[str, dict[str, Any]]:
    """Return the shown columns of a table by label or value, with their properties."""
    columns = {
        override["matcher"]["options"]: {item["id"]: item["value"] for item in override["properties"]}
        for override in panel.json["fieldConfig"]["overrides"]
    }
    return {name: column for name, column in columns.items() if not column.get("custom.hidden")}


def _headings(panel: Panel) -> list[str]:
    return [column["displayName"] for column in _columns(panel).values() if "displayName" in column]


def has_text_without_data(panel: Panel) -> None:
    """An idle fleet is no blank panel and no "No data".

    A stat's text is short enough for its box. Panels that ignore the text, as a heatmap does, are not used.
    """
    empty = panel.json["fieldConfig"]["defaults"]["noValue"]

    assert panel.json["type"] in {"stat", "timeseries", "state-timeline", "table"}
    assert len(empty) <= 8 if panel.json["type"] == "stat" else empty.endswith(".")


def shows_mapped_colours(panel: Panel) -> None:
    """With merged values and colours by threshold Grafana draws every state in the threshold's colour."""
    defaults = panel.json["fieldConfig"]["defaults"]

    assert defaults["color"]["mode"] == "fixed" or panel.json["options"]["mergeValues"] is False
    assert all(result["color"] for mapping in defaults["mappings"] for result in mapping["options"].values())


def groups_by_host(panel: Panel) -> None:
    """Two hosts may have virtual machines of one name."""
    for target in panel.targets:
        for labels in re.findall(r"\b(?:by|on|without|ignoring) ?\(([^)]*)\)", target["expr"]):
            names = {name.strip() for name in labels.split(",")}
            assert "vm" not in names or names >= {"job", "instance"}
        for labels in re.findall(r"\bby ?\(([^)]*)\)", target["expr"]):
            assert ("instance" in labels) <= ("job" in labels)


def omits_ended(panel: Panel) -> None:
    """The exporter keeps the gauges of an ended migration for a quarter of an hour."""
    for target in panel.targets:
        if _OF_NOW.search(target["expr"]):
            assert re.search(r"qemu_migration_active\{[^}]*\} == [01]", target["expr"])


def increases_over_step(panel: Panel) -> None:
    """$__rate_interval is four scrapes or more: steps would overlap and count an event four times."""
    for target in panel.targets:
        for window in re.findall(r"\bincrease\([^[]*\[([^]]*)\]", target["expr"]):
            assert window in {"$__interval", "$__range", "1h"}
            assert window != "$__interval" or panel.json["interval"] == target["interval"] == "5m"


def leaves_room_for_plot(panel: Panel) -> None:
    """One line below, or a table of at most 300 pixels with short names beside the plot, the highest last value first."""
    legend = panel.json["options"]["legend"]

    if legend["displayMode"] == "table":
        assert (legend["placement"], legend["width"] <= 300) == ("right", True)
        heading = "Total" if legend["calcs"] == ["sum"] else "Last"
        assert not legend["calcs"] or (legend["sortBy"], legend["sortDesc"]) == (heading, True)
        longest = panel.json["transformations"][-1]["options"]["regex"]
        assert re.fullmatch(longest, "customer-1234-production-frontend hv-13.example.org")
    else:
        assert (legend["displayMode"], legend["placement"]) == ("list", "bottom")
        assert len(panel.targets) <= 3


def has_no_ended_values(panel: Panel) -> None:
    """Grafana's `last` stays at the last value of a series that ends, unless the query goes on at 0.

    The last of some bars is an arbitrary one: they have their sum.
    """
    is_bars = panel.json["fieldConfig"]["defaults"]["custom"]["drawStyle"] == "bars"
    for target in panel.targets:
        ends = re.search(r"qemu_migration_active\{[^}]*\} == 1", target["expr"])
        goes_on = re.search(
            r"^max by \(job, instance, vm\) .* or on \(job, instance, vm\) \(qemu_migration_active\{[^}]*\} == 0\)\)$",
            target["expr"],
        )
        expected = [] if ends and not goes_on else ["sum" if is_bars else "last"]
        assert panel.json["options"]["legend"]["calcs"] == expected


def keeps_zeros_small(panel: Panel) -> None:
    """Counts and rates have a soft maximum; a logarithmic axis has no zero on it."""
    defaults = panel.json["fieldConfig"]["defaults"]

    if defaults["custom"]["scaleDistribution"]["type"] == "log":
        assert "min" not in defaults
    elif defaults["unit"] in {"none", "suffix: /s"}:
        assert defaults["custom"]["axisSoftMax"] >= 1


def colours_known_series(panel: Panel) -> None:
    """Grafana's palette begins with green and red, which mean something here, for names that are known before."""
    fixed = {override["matcher"]["options"] for override in panel.json["fieldConfig"]["overrides"]}
    mode = panel.json["fieldConfig"]["defaults"]["color"]["mode"]
    for target in panel.targets:
        if "{{" not in target["legendFormat"]:
            assert mode != "palette-classic" or target["legendFormat"] in fixed


def fits_1440_pixels(panel: Panel) -> None:
    """A column off the screen is not seen; exactly the flexible column takes the rest."""
    shown = list(_columns(panel).values())
    widths = [column["custom.width"] for column in shown if "custom.width" in column]

    assert len(widths) >= len(shown) - 1
    assert sum(widths) + _LEAST_WIDTH <= _FULL_WIDTH * panel.json["gridPos"]["w"] / 24


def keeps_columns(panel: Panel) -> None:
    """Grafana drops a column without a value in any row, and the others move."""
    exprs = {f"Value #{target['refId']}": target["expr"] for target in panel.targets}
    for name in _columns(panel):
        if name in _MAY_BE_EMPTY:
            filled = rf'label_replace\(.*"{name}", "[^"]+", "{name}", ""\)'
            assert any(re.search(filled, expr) for expr in exprs.values()), name
        elif name in exprs:
            assert re.search(r"- 1\b", exprs[name]), name


def sorts_by_column(panel: Panel) -> None:
    """Grafana ignores a sort by a heading that is not there."""
    assert {order["displayName"] for order in panel.json["options"]["sortBy"]} <= set(_headings(panel))


def links_raw_trace_id(panel: Panel) -> None:
    """The cell shows a word in place of the id, and Grafana's `__data.fields` has the shown text."""
    trace = _columns(panel).get("trace_id")
    if trace is not None:
        assert [link["title"] for link in trace["links"]] == ["Trace", "Report of the exporter"]
        assert all("${__value.raw}" in link["url"] for link in trace["links"])


def wraps_sentences(panel: Panel) -> None:
    """A sentence cut after half its numbers is useless, and so is one below ten healthy rows."""
    sentence = _columns(panel).get("sentence")
    if sentence is not None:
        assert sentence["custom.cellOptions"]["wrapText"]
        assert panel.json["options"]["sortBy"][0]["desc"]
        if "with_command" in _columns(panel):
            assert panel.json["options"]["sortBy"] == [{"displayName": "Stalled for", "desc": True}]


#: The rules by the kind of panel they are about; "" is every kind.
RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "": (has_text_without_data, groups_by_host, omits_ended, increases_over_step),
    "state-timeline": (shows_mapped_colours,),
    "timeseries": (leaves_room_for_plot, has_no_ended_values, keeps_zeros_small, colours_known_series),
    "table": (fits_1440_pixels, keeps_columns, sorts_by_column, links_raw_trace_id, wraps_sentences),
}

#: Rule, a panel that keeps it, and a change of its JSON after which it does not: a pattern and its replacement.
BROKEN: Final[tuple[tuple[Rule, str, str, str], ...]] = (
    (has_text_without_data, "fleet: Stalled", r'"noValue": "-"', '"noValue": "No migration runs"'),
    (has_text_without_data, "fleet: Stalled, by reason", r'"noValue": "[^"]*\."', '"noValue": ""'),
    (has_text_without_data, "fleet: Stalled, by reason", '"type": "timeseries"', '"type": "heatmap"'),
    (groups_by_host, "fleet: Sent by each migration", r"by \(job, instance, vm\)", "by (vm)"),
    (groups_by_host, "fleet: Most on one host", r"by \(job, instance\)", "by (instance)"),
    (omits_ended, "one-migration: Round", r"and on \(job.*?== 1", ""),
    (increases_over_step, "fleet: Downtime of migrations, in five minutes", r"\$__interval", "$__rate_interval"),
    (increases_over_step, "fleet: Downtime of migrations, in five minutes", '"interval": "5m"', '"interval": "15s"'),
    (shows_mapped_colours, "one-migration: Phases and stalls", '"mergeValues": false', '"mergeValues": true'),
    (shows_mapped_colours, "one-migration: Phases and stalls", '"color": "blue"', '"color": ""'),
    (leaves_room_for_plot, "fleet: Sent by each migration", '"width": 290', '"width": 600'),
    (leaves_room_for_plot, "fleet: Sent by each migration", '"sortDesc": true', '"sortDesc": false'),
    (leaves_room_for_plot, "fleet: Sent by each migration", r"\{4,\}", "{400}"),
    (leaves_room_for_plot, "one-migration: Round", '"placement": "bottom"', '"placement": "right"'),
    (has_no_ended_values, "one-migration: Round", r'"calcs": \[\]', '"calcs": ["last"]'),
    (has_no_ended_values, "fleet: Downtime of migrations, in five minutes", r'"calcs": \["sum"\]', '"calcs": ["last"]'),
    (keeps_zeros_small, "exporter-health: Failures", r'"axisSoftMax": 1\b', '"axisSoftMax": 0'),
    (keeps_zeros_small, "one-migration: Pending against threshold", '"unit": "bytes"', '"min": 0'),
    (colours_known_series, "one-migration: Round", '"options": "round"', '"options": "rounds"'),
    (fits_1440_pixels, "fleet: Running migrations, stalled first", '"value": 330', '"value": 900'),
    (fits_1440_pixels, "fleet: Running migrations, stalled first", '"custom.width", "value": 190', '"x", "value": 1'),
    (keeps_columns, "fleet: Running migrations, stalled first", r'\\"with_command\\", \\"-\\"', r"\"x\", \"-\""),
    (keeps_columns, "fleet: Running migrations, stalled first", r'\\"no numbers yet\\"', r"\"\""),
    (keeps_columns, "one-migration: Both ends", r"\* 0 - 1\b", "* 0"),
    (sorts_by_column, "fleet: Migrations that ended lately", '"displayName": "Result"', '"displayName": "Outcome"'),
    (links_raw_trace_id, "one-migration: Both ends", r"\$\{__value.raw\}", "${__value.text}"),
    (wraps_sentences, "one-migration: Both ends", '"wrapText": true', '"wrapText": false'),
    (wraps_sentences, "fleet: Running migrations, stalled first", '"desc": true', '"desc": false'),
)


def changed(panel: Panel, pattern: str, replacement: str) -> Panel:
    """Return a panel with every match in its JSON replaced."""
    before = json.dumps(panel.json)
    after = re.sub(pattern, lambda _match: replacement, before)
    assert after != before, f"{panel} has no {pattern}"
    return Panel(panel.dashboard, json.loads(after))
