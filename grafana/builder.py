"""The parts of a dashboard and the JSON that Grafana 10.4 and later load.

Expressions are written without the dashboard's variables. `select` adds them to every selector:

    qemu_migration_active                          -> {job=~"$job", instance=~"$instance"}, and vm=~"$vm" on One migration
    qemu_migration_info{instance=~".+"}            -> {job=~"$job"} only: all hosts, as for the other end of a migration
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from qemu_migration_exporter.metrics.table import MIGRATION

Json = dict[str, Any]

#: The schema of Grafana 10.4; later releases migrate it when they load it.
_SCHEMA_VERSION: Final = 39
_COLUMNS: Final = 24
_JOB: Final = 'job=~"$job"'
_JOB_AND_INSTANCE: Final = f'{_JOB}, instance=~"$instance"'
_ANY_INSTANCE: Final = 'instance=~".+"'
#: A string, which is left as it is, or a metric with its matchers.
_SELECTOR: Final = re.compile(
    r'"(?:[^"\\]|\\.)*"|`[^`]*`'
    r"|\b(?P<name>qemu_migrations?_\w+|up|scrape_duration_seconds|ALERTS(?:_FOR_STATE)?)\b(?:\{(?P<written>[^}]*)\})?"
)
_WITH_VM: Final = {"ALERTS", "ALERTS_FOR_STATE", *(metric.name for metric in MIGRATION if "vm" in metric.labels)}

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}

#: For a number that is not known.
DASH: Final = "-"
#: The unit of a ratio: 125 \N{MULTIPLICATION SIGN}, not 12500 %.
TIMES: Final = "suffix: \N{MULTIPLICATION SIGN}"

#: A colour has one meaning everywhere, for results and for thresholds.
GREEN, YELLOW, ORANGE, RED, BLUE, PURPLE, GREY = "green", "yellow", "orange", "red", "blue", "purple", "text"

#: Events in a second, of any kind.
PER_SECOND: Final = "suffix: /s"


@dataclass(frozen=True, slots=True)
class Query:
    """A query to Prometheus.

    Attributes:
        expr: PromQL, without the dashboard's variables.
        legend: The name of its series, `{{label}}` for a label's value.
        instant: True if it is evaluated at the end of the time range only.
        shape: Grafana's format; a table takes labels as columns.
        exemplars: True if exemplars are fetched too.
    """

    expr: str
    legend: str = ""
    instant: bool = False
    shape: str = "time_series"
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        kind: Grafana's plugin.
        unit: Grafana's name of the unit.
        empty: The text of the panel without data.
        steps: Thresholds, from low to high: the colour from a value on; the first has none.
        custom: The plugin's own field configuration.
        mappings: Texts and colours for values.
        overrides: Field configuration by the name of a series or column.
        least_step: The smallest step of its queries.
    """

    title: str
    description: str
    kind: str
    unit: str
    queries: Sequence[Query]
    empty: str
    width: int = 12
    height: int = 8
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),)
    options: Json = field(default_factory=dict)
    custom: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    mappings: Sequence[Json] = ()
    overrides: Mapping[str, Json] = field(default_factory=dict)
    transformations: Sequence[Json] = ()
    least_step: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under a heading."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A whole dashboard.

    Attributes:
        uid: Stable for ever, because links and bookmarks contain it.
        vm: True if it is about one virtual machine, chosen by a variable.
        marks: Annotations; `enabled` of them are drawn at first.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    since: str = "now-1h"
    vm: bool = False
    marks: Sequence[Json] = ()

    def json(self) -> Json:
        """Build the JSON that Grafana loads; panel ids follow the order of the panels."""
        return {
            "annotations": {"list": [{**mark, "expr": select(mark["expr"], vm=self.vm)} for mark in self.marks]},
            "description": self.description,
            "editable": False,
            "graphTooltip": 1,
            "links": [_link_to_the_others()],
            "panels": _place(self.rows, vm=self.vm),
            "refresh": "10s",
            "schemaVersion": _SCHEMA_VERSION,
            "tags": ["qemu-migration"],
            "templating": {"list": _variables(vm=self.vm)},
            "time": {"from": self.since, "to": "now"},
            "timezone": "browser",
            "title": self.title,
            "uid": self.uid,
        }


def select(expr: str, *, vm: bool) -> str:
    """Add the dashboard's variables to every selector of an expression; see the top of this module."""

    def matchers(found: re.Match[str]) -> str:
        name, written = found["name"], found["written"] or ""
        if name is None:
            return found[0]
        ours = _JOB if "instance" in written else _JOB_AND_INSTANCE
        of_the_vm = 'vm=~"$vm"' if vm and name in _WITH_VM and "instance" not in written else ""
        return f"{name}{{{', '.join(filter(None, (written, ours, of_the_vm)))}}}"

    return _SELECTOR.sub(matchers, " ".join(expr.split()))


def everywhere(expr: str) -> str:
    """Return an expression whose selectors `select` leaves open for all hosts and virtual machines of the job."""

    def matchers(found: re.Match[str]) -> str:
        name, written = found["name"], found["written"] or ""
        return found[0] if name is None else f"{name}{{{', '.join(filter(None, (_ANY_INSTANCE, written)))}}}"

    return _SELECTOR.sub(matchers, expr)


def named(values: Mapping[str, tuple[str, str]]) -> Json:
    """Map values to texts in colours: `{"1": ("stalled", RED)}`."""
    return {
        "type": "value",
        "options": {
            value: {"text": text, "color": color, "index": index}
            for index, (value, (text, color)) in enumerate(values.items())
        },
    }


def shown_as(text: str) -> Json:
    """Map every value to one text."""
    return {"type": "regex", "options": {"pattern": ".+", "result": {"text": text, "index": 0}}}


def _place(rows: Sequence[Row], *, vm: bool) -> list[Json]:
    """Lay panels out from left to right; a panel that does not fit begins a new line."""
    placed: list[Json] = []
    top = 0
    for row in rows:
        placed.append(
            {
                "collapsed": False,
                "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
                "id": len(placed) + 1,
                "panels": [],
                "title": row.title,
                "type": "row",
            }
        )
        top, left, height = top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > _COLUMNS:
                top, left, height = top + height, 0, 0
            position = {"h": panel.height, "w": panel.width, "x": left, "y": top}
            placed.append({**_panel(panel, vm=vm), "gridPos": position, "id": len(placed) + 1})
            left, height = left + panel.width, max(height, panel.height)
        top += height
    return placed


def _panel(panel: Panel, *, vm: bool) -> Json:
    defaults: Json = {
        "color": {"mode": "thresholds" if panel.kind in {"stat", "table", "state-timeline"} else "palette-classic"},
        "custom": panel.custom,
        "mappings": list(panel.mappings),
        "noValue": panel.empty,
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in panel.steps]},
        "unit": panel.unit,
        **panel.defaults,
    }
    # The panel without data shows `empty`; a single value that is absent, in a legend or a cell, does not.
    absent = {"timeseries": DASH, "state-timeline": " "}.get(panel.kind)
    dash = {"matcher": {"id": "byType", "options": "number"}, "properties": [{"id": "noValue", "value": absent}]}
    overrides = [
        *([dash] if absent else []),
        *(_override(*item) for item in panel.overrides.items()),
    ]
    return {
        "datasource": DATASOURCE,
        "description": panel.description,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        **({"interval": panel.least_step} if panel.least_step else {}),
        "options": panel.options,
        "targets": [
            _target(query, chr(ord("A") + index), vm=vm) | ({"interval": panel.least_step} if panel.least_step else {})
            for index, query in enumerate(panel.queries)
        ],
        "title": panel.title,
        "transformations": list(panel.transformations),
        "type": panel.kind,
    }


def _target(query: Query, letter: str, *, vm: bool) -> Json:
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "exemplar": query.exemplars,
        "expr": select(query.expr, vm=vm),
        "format": query.shape,
        "instant": query.instant,
        "legendFormat": query.legend or "__auto",
        "range": not query.instant,
        "refId": letter,
    }


def _override(name: str, properties: Json) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _variables(*, vm: bool) -> list[Json]:
    variables: list[Json] = [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "traces", "label": "Traces", "type": "datasource", "query": "jaeger"},
        _label_variable("job", "label_values(qemu_migration_exporter_build_info, job)", "Job"),
        _label_variable("instance", 'label_values(qemu_migration_exporter_build_info{job=~"$job"}, instance)', "Host"),
    ]
    if vm:
        query = f"label_values(qemu_migration_active{{{_JOB_AND_INSTANCE}}}, vm)"
        variables.append({**_label_variable("vm", query, "VM"), "multi": False, "includeAll": False})
        del variables[-1]["allValue"], variables[-1]["current"]
    return variables


def _label_variable(name: str, query: str, label: str) -> Json:
    return {
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "type": "query",
    }


def mark(name: str, expr: str, color: str, title: str, text: str, *, enabled: bool) -> Json:
    """Return an annotation at the times that are the values of an expression, in ms.

    A point in time and not a range: Grafana shades the whole of a range, over every curve.
    """
    return {
        "datasource": DATASOURCE,
        "enable": enabled,
        "expr": expr,
        "iconColor": color,
        "name": name,
        "step": "10s",
        "tagKeys": "instance",
        "textFormat": text,
        "titleFormat": title,
        "useValueForTime": True,
    }


def _link_to_the_others() -> Json:
    return {
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": ["qemu-migration"],
        "targetBlank": False,
        "title": "QEMU migration",
        "tooltip": "",
        "type": "dashboards",
        "url": "",
    }
